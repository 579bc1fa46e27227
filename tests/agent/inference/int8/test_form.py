# SPDX-License-Identifier: Apache-2.0
"""The int8 form comes by itself, and versions do not wait for it."""

from pathlib import Path

import pytest
from tests.agent.kit import Journal

from fedmill_agent.inference.int8.form import MOST_UNANSWERED, RETRY_SECONDS, Form
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import FrameError, StoreError
from fedmill_shared.files import sha256
from fedmill_shared.link.blocks import BLOCK_SIZE, Block, blocks_of, parse_block
from fedmill_shared.link.pull import SILENCE_SECONDS
from fedmill_shared.messages import BlobName, BlobRequest
from fedmill_shared.models.quantised import Quantised, pack_quantised

FORM = Quantised(template=bytes(2 * BLOCK_SIZE), ranges=b"ranges", points=3)
BLOB = pack_quantised(FORM)
NAME = BlobName(sha256=sha256(BLOB), size=len(BLOB))


class Place:
    """A form's folder, and what was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.journal = Journal()
        self.asked: list[BlobRequest] = []
        self.form = self.fresh()

    def fresh(self) -> Form:
        """As after a restart."""
        return Form(self.folder, "press", self.asked.append, clock=self.clock, log=self.journal)

    def blocks(self, *, damaged: bool = False) -> list[Block]:
        """What the last request brings."""
        blob = bytes(len(BLOB)) if damaged else BLOB
        wanted = self.asked[-1].missing
        return [parse_block(block) for block in blocks_of(blob, wanted, name=NAME.sha256)]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Nothing is there."""
    return Place(tmp_path / "int8")


class TestComing:
    def test_is_asked_for_and_kept(self, place: Place) -> None:
        """In one window of blocks; it is there after a restart, and not asked for again."""
        place.form.want(NAME)
        place.form.tick()
        assert [request.missing for request in place.asked] == [[0, 1, 2]]
        for block in place.blocks():
            assert not place.form.here
            place.form.receive(block)
        assert place.form.read() == FORM
        assert len(place.journal.of("int8.received")) == 1
        again = place.fresh()
        again.want(NAME)
        again.tick()
        assert again.here
        assert len(place.asked) == 1

    def test_what_is_lost_is_asked_for_again(self, place: Place) -> None:
        """After a silence; what has come is kept, also over a restart."""
        place.form.want(NAME)
        place.form.tick()
        place.form.receive(place.blocks()[1])
        place.form.tick()
        assert len(place.asked) == 1
        place.clock.advance(SILENCE_SECONDS)
        place.form.tick()
        assert place.asked[-1].missing == [0, 2]
        again = place.fresh()
        again.want(NAME)
        again.tick()
        assert place.asked[-1].missing == [0, 2]

    def test_nobody_has_it(self, place: Place) -> None:
        """It is asked for seldom then, and never given up."""
        place.form.want(NAME)
        for _ in range(MOST_UNANSWERED + 1):
            place.form.tick()
            place.clock.advance(SILENCE_SECONDS)
        asked = len(place.asked)
        place.form.tick()
        assert len(place.asked) == asked
        place.clock.advance(RETRY_SECONDS)
        place.form.tick()
        assert len(place.asked) == asked + 1

    def test_damaged(self, place: Place) -> None:
        """It is refused, and asked for again a little later."""
        place.form.want(NAME)
        place.form.tick()
        *rest, last = place.blocks(damaged=True)
        for block in rest:
            place.form.receive(block)
        with pytest.raises(FrameError, match="damaged"):
            place.form.receive(last)
        assert not place.form.here
        place.clock.advance(RETRY_SECONDS)
        place.form.tick()
        for block in place.blocks():
            place.form.receive(block)
        assert place.form.read() == FORM

    def test_damaged_on_disk(self, place: Place) -> None:
        """It is removed, and fetched again."""
        place.form.want(NAME)
        place.form.tick()
        for block in place.blocks():
            place.form.receive(block)
        (place.folder / f"{NAME.sha256}.blob").write_bytes(b"bits")
        with pytest.raises(StoreError, match="damaged"):
            place.form.read()
        place.clock.advance(RETRY_SECONDS)
        place.form.tick()
        assert len(place.asked) == 2


class TestWanting:
    def test_none(self, place: Place) -> None:
        """A model without convolutions, or software before: nothing is asked for."""
        place.form.want(None)
        place.form.tick()
        assert place.asked == []
        assert not place.form.here

    def test_another_one(self, place: Place) -> None:
        """The old one goes."""
        place.form.want(NAME)
        place.form.tick()
        for block in place.blocks():
            place.form.receive(block)
        other = BlobName(sha256=sha256(b"other"), size=5)
        place.form.want(other)
        assert not list(place.folder.glob("*.blob"))
        place.form.receive(Block(NAME.sha256, 0, 1, 4, b"late"))
        place.form.tick()
        assert place.asked[-1].blob == other.sha256

    def test_too_large(self, place: Place) -> None:
        """Refused before a byte of it is fetched."""
        with pytest.raises(FrameError, match="too large"):
            place.form.want(BlobName(sha256=NAME.sha256, size=1 << 30))
        place.form.tick()
        assert place.asked == []
