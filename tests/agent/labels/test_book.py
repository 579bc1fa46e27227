# SPDX-License-Identifier: Apache-2.0
"""The agent's labels: kept once, told to every job once, also to those that come later."""

import sqlite3
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmill_agent.labels.book import PORTION, LabelBook, read_book
from fedmill_agent.labels.record import Label, LabelRecord, settled
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import StoreError


def label(text: str = "good", **fields: Any) -> LabelRecord:
    """A label of the press, made at second 1 unless told otherwise."""
    usual: dict[str, Any] = {"unit": "press", "start": 1, "end": 2, "made": 1}
    if not fields.get("deleted"):
        usual["class_"] = text
    return settled(Label(**(usual | fields)), "a test")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the book is."""
    return tmp_path / "labels.sqlite"


def truths(book: LabelBook, position: int = 0, job: str = "j") -> list[str]:
    """What a job that is at ``position`` is told."""
    return [entry.record.truth for entry in book.since(position, job)[0]]


RECORDS = st.builds(
    lambda name, text, revision, made, deleted: label(
        text, id=name, revision=revision, made=made, deleted=deleted
    ),
    st.sampled_from("abc"),
    st.sampled_from(["good", "worn"]),
    st.integers(0, 2),
    st.integers(0, 3),
    st.booleans(),
)


class TestTake:
    def test_every_change_is_told_once(self, path: Path) -> None:
        """From where a job was; what it knows already is no news."""
        with LabelBook(path, ManualClock()) as book:
            assert (book.newest, book.since(0, "j")) == (0, ([], 0))
            assert book.take([label(), label("worn", unit="oven")]) == 2
            entries, position = book.since(0, "j")
            assert [entry.record.truth for entry in entries] == ["good", "worn"]
            assert position == book.newest
            assert book.take([label()]) == 0
            assert book.since(position, "j") == ([], position)
            assert book.take([label("worn", made=2)]) == 1
            [entry], _ = book.since(position, "j")
            assert (entry.record.truth, entry.changes) == ("worn", 1)

    def test_a_job_gets_its_own_and_those_of_all(self, path: Path) -> None:
        """And is past those of others."""
        with LabelBook(path, ManualClock()) as book:
            book.take([label(job="other"), label("worn"), label("torn", job="j")])
            assert truths(book) == ["worn", "torn"]
            assert truths(book, job="third") == ["worn"]
            assert book.since(0, "third")[1] == book.newest

    def test_it_remembers(self, path: Path) -> None:
        """Over a restart; numbers go on, also where the clock was set back."""
        clock = ManualClock()
        with LabelBook(path, clock) as book:
            book.take([label()])
            newest = book.newest
        with LabelBook(path, ManualClock(start_ns=5)) as book:
            assert book.newest == newest
            book.take([label("worn", made=2)])
            assert book.newest > newest
            assert truths(book, newest) == ["worn"]

    @settings(max_examples=60)
    @given(st.lists(RECORDS, min_size=1, max_size=10), st.data())
    def test_any_order_leaves_the_same(self, found: list[LabelRecord], data: st.DataObject) -> None:
        """Of records with a time or revision; batches and repetitions make no difference."""
        other = data.draw(st.permutations([*found, *found[:3]]))
        cut = data.draw(st.integers(0, len(other)))
        held = []
        with TemporaryDirectory() as folder:
            for name, batches in (("a", [found]), ("b", [other[:cut], other[cut:]])):
                with LabelBook(Path(folder, name), ManualClock()) as book:
                    for batch in batches:
                        book.take(batch)
                    held.append({entry.record for entry in book.since(0, "j")[0]})
        assert held[0] == held[1]

    def test_a_machine_that_says_something_else_corrects_itself(self, path: Path) -> None:
        """Without revision or time its order counts; what it says again changes nothing."""
        with LabelBook(path, ManualClock()) as book:
            for text, changed in (("good", 1), ("good", 0), ("worn", 1), ("good", 1), ("good", 0)):
                assert book.take([label(text, made=None)]) == changed
                assert truths(book) == [text]
            assert book.take([label("worn", made=None), label("torn", made=None)]) == 2
            assert truths(book) == ["torn"]

    def test_it_is_bounded(self, path: Path) -> None:
        """What changed longest ago goes."""
        with LabelBook(path, ManualClock(), most=10) as book:
            for n in range(30):
                book.take([label(start=n, end=n + 1)])
            book.take([label("worn", start=20, end=21, made=2), label("new", start=99, end=99)])
            entries, _ = book.since(0, "j")
            assert len(entries) == 10
            assert [entry.record.truth for entry in entries][-2:] == ["worn", "new"]

    def test_many_are_told_in_portions(self, path: Path) -> None:
        """Each goes on where the one before ended."""
        with LabelBook(path, ManualClock()) as book:
            book.take(label(start=n, end=n) for n in range(PORTION + 7))
            first, position = book.since(0, "j")
            second, end = book.since(position, "j")
            assert (len(first), len(second), end) == (PORTION, 7, book.newest)


class TestDamage:
    def test_a_damaged_file_is_set_aside(self, path: Path) -> None:
        """A fresh one begins behind all numbers that jobs remember."""
        with LabelBook(path, ManualClock()) as book:
            book.take([label()])
            newest = book.newest
        path.write_bytes(b"garbage" * 1000)
        clock = ManualClock()
        clock.advance(1.0)
        with LabelBook(path, clock) as book:
            assert book.set_aside is not None
            assert book.newest == 0
            book.take([label()])
            assert truths(book, newest) == ["good"]

    def test_one_of_the_future_is_left_alone(self, path: Path) -> None:
        """It is told whose it is."""
        LabelBook(path, ManualClock()).close()
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA user_version = 9")
        database.close()
        with pytest.raises(StoreError, match="layout 9 of the labels"):
            LabelBook(path, ManualClock())

    def test_kill_9_loses_nothing_that_was_kept(self, path: Path) -> None:
        """Every label that was reported is there."""
        code = (
            "import sys; from pathlib import Path\n"
            "from fedmill_agent.labels.book import LabelBook\n"
            "from fedmill_agent.labels.record import Label, settled\n"
            "from fedmill_shared.clock import SystemClock\n"
            "book = LabelBook(Path(sys.argv[1]), SystemClock())\n"
            "for n in range(10**6):\n"
            "    book.take([settled(Label(unit='u', start=n, class_='good'), 't')])\n"
            "    print(n + 1, flush=True)\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            while int(writer.stdout.readline()) < 50:
                pass
            writer.kill()
            rest = writer.stdout.read().split()
        reported = int(rest[-1]) if rest else 50
        with LabelBook(path, ManualClock()) as book:
            assert book.set_aside is None
            assert len(book.since(0, "j")[0]) in (reported, reported + 1)


class TestReadBook:
    def test_for_people(self, path: Path) -> None:
        """While the daemon writes; nothing where there is no book."""
        assert read_book(path, 5) == (0, [])
        with LabelBook(path, ManualClock()) as book:
            book.take(label(start=n, end=n) for n in range(9))
            count, newest = read_book(path, 2)
        assert count == 9
        assert [entry.record.start_ns for entry in newest] == [7 * 10**9, 8 * 10**9]
        path.write_bytes(b"garbage" * 1000)
        with pytest.raises(StoreError, match=r"labels\.sqlite"):
            read_book(path, 1)
