# SPDX-License-Identifier: Apache-2.0
"""Steps that wait for the disk beside the loop; the disk does its work when a test says so."""

import pytest
from tests.agent.inference.installing.rig import Later

from fedmill_agent.flows import MANY, Flow, Flows, beside
from fedmill_shared.errors import StoreError


class Book:
    """What happened, and flows that write into it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.disk = Later()
        self.flows = Flows(self.disk)

    def flow(self, name: str, pieces: int = 2) -> Flow[None]:
        """Says when it begins, what each piece of work gave, and how many there were."""
        self.lines.append(f"{name} begins")
        for piece in range(pieces):
            found = yield from beside(lambda piece=piece: f"{name}{piece}")
            self.lines.append(found)

    def failing(self) -> Flow[None]:
        """Its work fails, and it knows what to do then."""

        def full() -> None:
            raise StoreError("the disk is full")

        try:
            yield from beside(full)
        except StoreError as error:
            self.lines.append(error.message)
        self.lines.append((yield from beside(lambda: "later")))


@pytest.fixture
def book() -> Book:
    """Nothing has happened."""
    return Book()


class TestFlows:
    def test_goes_on_once_its_work_is_done(self, book: Book) -> None:
        """Not before, and whoever started it does something else meanwhile."""
        book.flows.start(book.flow("a"))
        assert book.lines == ["a begins"]
        assert book.flows.busy
        book.disk.work()
        assert book.lines == ["a begins", "a0"]
        book.disk.work()
        assert book.lines == ["a begins", "a0", "a1"]
        assert not book.flows.busy

    def test_one_after_the_other(self, book: Book) -> None:
        """The second does not begin before the first has ended, however long that takes."""
        book.flows.start(book.flow("a"))
        book.flows.start(book.flow("b", pieces=1))
        book.disk.finish()
        assert book.lines == ["a begins", "a0", "a1", "b begins", "b0"]

    def test_one_without_work_ends_at_once(self, book: Book) -> None:
        """And so do a hundred of them."""
        for number in range(100):
            book.flows.start(book.flow(str(number), pieces=0))
        assert book.lines == [f"{number} begins" for number in range(100)]
        assert not book.flows.busy

    def test_what_a_flow_starts_comes_behind_it(self, book: Book) -> None:
        """It sees nothing of what the other does."""

        def first() -> Flow[None]:
            book.flows.start(book.flow("b", pieces=1))
            yield from book.flow("a", pieces=1)

        book.flows.start(first())
        book.disk.finish()
        assert book.lines == ["a begins", "a0", "b begins", "b0"]

    def test_what_fails_is_raised_in_the_flow(self, book: Book) -> None:
        """It goes on from there, and so do those behind it."""
        book.flows.start(book.failing())
        book.flows.start(book.flow("b", pieces=1))
        book.disk.finish()
        assert book.lines == ["the disk is full", "later", "b begins", "b0"]

    def test_a_fault_of_the_program_is_raised_and_blocks_nobody(self, book: Book) -> None:
        """The loop hears of it; the next flow begins all the same."""

        def broken() -> Flow[None]:
            yield from beside(lambda: None)
            raise KeyError("a fault")

        book.flows.start(broken())
        with pytest.raises(KeyError):
            book.disk.finish()
        book.flows.start(book.flow("b", pieces=1))
        book.disk.finish()
        assert book.lines == ["b begins", "b0"]

    def test_at_once_waits_for_nobody(self, book: Book) -> None:
        """As at a start, when there is no loop yet; what it starts has the usual way."""

        def first() -> Flow[None]:
            yield from book.failing()
            book.flows.start(book.flow("b", pieces=1))

        book.flows.at_once(first())
        assert book.lines == ["the disk is full", "later", "b begins"]
        book.disk.finish()
        assert book.lines[-1] == "b0"

    def test_is_crowded_where_the_disk_hangs(self, book: Book) -> None:
        """What can do without should not come then."""
        for number in range(MANY + 1):
            assert not book.flows.crowded
            book.flows.start(book.flow(str(number)))
        assert book.flows.crowded
        book.disk.finish()
        assert not book.flows.crowded

    def test_nothing_goes_on_once_it_is_closed(self, book: Book) -> None:
        """What is with the disk is still written."""
        book.flows.start(book.flow("a"))
        book.flows.start(book.flow("b"))
        book.flows.close()
        book.flows.start(book.flow("c"))
        book.disk.finish()
        assert book.lines == ["a begins"]
