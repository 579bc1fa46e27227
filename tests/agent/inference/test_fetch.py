# SPDX-License-Identifier: Apache-2.0
"""Blobs of one version on their way to the shelf; ``test_deployment.py`` has the whole way."""

from pathlib import Path

import numpy as np
import pytest
from msgspec import structs
from tests.agent.inference.installing.rig import Later
from tests.agent.kit import Journal, Versions

from fedmill_agent.background import Background
from fedmill_agent.inference.fetch import LARGE_BYTES, PATIENCE_SECONDS, Fetch, lacking
from fedmill_agent.inference.shelf import VersionShelf
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import StoreError
from fedmill_shared.files import sha256
from fedmill_shared.link.blocks import blocks_of, parse_block
from fedmill_shared.link.pull import SILENCE_SECONDS
from fedmill_shared.messages import BlobRequest, VersionNotice


class Shelf:
    """A fetch on an empty shelf, and the questions it asks."""

    def __init__(self, folder: Path, disk: Background | None = None) -> None:
        self.versions, self.clock, self.journal = Versions(), ManualClock(), Journal()
        self.asked: list[BlobRequest] = []
        self.shelf = VersionShelf(folder)
        self.whole = 0
        self.fetch = Fetch(
            self.shelf,
            self.asked.append,
            self.clock,
            self.journal,
            disk=disk or Background(),
            whole=self._whole,
        )

    def _whole(self) -> None:
        self.whole += 1

    def begin(self, notice: VersionNotice, *, retained: bool = True) -> None:
        """Go for it."""
        self.fetch.begin(notice, retained=retained)
        self.fetch.tick()

    def serve(self) -> list[int]:
        """Answer every question; how often all was there after each block."""
        found: list[int] = []
        while self.asked:
            for wire in self.versions.blocks(self.asked.pop(0)):
                self.fetch.receive(parse_block(wire))
                found.append(self.whole)
        return found


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """Nothing on it."""
    return Shelf(tmp_path / "versions")


class TestLacking:
    def test_a_first_version_is_lacking_whole(self, shelf: Shelf) -> None:
        """Its three parts, and a snapshot; of what is there nothing."""
        notice = shelf.versions.notice()
        parts = (notice.manifest, notice.template, notice.canary_inputs, notice.snapshot)
        assert lacking(shelf.shelf, notice) == {part.sha256: part.size for part in parts}
        shelf.shelf.put(shelf.versions.blobs[notice.template.sha256])
        assert notice.template.sha256 not in lacking(shelf.shelf, notice)

    def test_on_its_base_a_delta_is_enough(self, shelf: Shelf) -> None:
        """And with the weights themselves not even that."""
        shelf.begin(shelf.versions.notice())
        shelf.serve()
        made = shelf.versions.advance()
        notice = shelf.versions.notice()
        assert notice.delta is not None
        assert lacking(shelf.shelf, notice) == {notice.delta.sha256: notice.delta.size}
        alone = structs.replace(notice, base="")
        assert lacking(shelf.shelf, alone) == {notice.snapshot.sha256: notice.snapshot.size}
        shelf.shelf.put(shelf.versions.blobs[made.version])
        assert lacking(shelf.shelf, notice) == {}


class TestFetch:
    def test_says_when_the_last_blob_is_whole(self, shelf: Shelf) -> None:
        """Once, and everything is on the shelf then."""
        notice = shelf.versions.notice()
        assert shelf.fetch.done
        shelf.begin(notice)
        assert not shelf.fetch.done
        found = shelf.serve()
        assert (found.count(1), found[-1]) == (1, 1)
        assert lacking(shelf.shelf, notice) == {}
        assert shelf.fetch.done
        shelf.begin(notice)
        assert shelf.fetch.done
        assert shelf.asked == []

    def test_nothing_is_asked_for_before_it_is_due(self, shelf: Shelf) -> None:
        """A broadcast has its time, and then every blob its own silence."""
        shelf.begin(shelf.versions.notice(), retained=False)
        steps = ((PATIENCE_SECONDS - 0.1, 0), (0.1, 4), (0.5, 0), (SILENCE_SECONDS, 4))
        for waited, asked in steps:
            shelf.clock.advance(waited)
            shelf.fetch.tick()
            assert len(shelf.asked) == asked
            shelf.asked.clear()

    def test_blocks_that_nobody_wants_pass_by(self, shelf: Shelf) -> None:
        """Of another blob, of one with another size, and of one that was given up."""
        notice = shelf.versions.notice()
        [wire] = blocks_of(shelf.versions.blobs[notice.manifest.sha256])
        block = parse_block(wire)
        shelf.fetch.receive(block)
        wrong = structs.replace(notice.manifest, size=notice.manifest.size + 1)
        shelf.begin(structs.replace(notice, manifest=wrong))
        shelf.fetch.receive(block)
        shelf.begin(notice)
        shelf.fetch.stop()
        shelf.fetch.receive(block)
        assert not shelf.shelf.has(notice.manifest.sha256)
        shelf.fetch.tick()
        assert shelf.fetch.done
        assert not shelf.whole

    def test_another_version_ends_the_one_before(self, shelf: Shelf) -> None:
        """Its halves leave the disk; what is whole stays for whoever uses it."""
        blob = np.random.default_rng(0).bytes(LARGE_BYTES)
        first = structs.replace(
            shelf.versions.notice(), version=sha256(b"?"), snapshot=shelf.versions.put(blob)
        )
        shelf.begin(first)
        shelf.fetch.receive(parse_block(next(blocks_of(blob, [1]))))
        spool = shelf.shelf.path("x").parent / "spool"
        parts = [path for path in spool.iterdir() if sha256(blob) in path.name]
        assert parts
        shelf.asked.clear()
        shelf.begin(shelf.versions.notice())
        assert not [path for path in parts if path.exists()]
        assert sha256(blob) not in {request.blob for request in shelf.asked}
        shelf.serve()
        assert shelf.fetch.done

    def test_a_disk_that_fails_leaves_what_is_on_its_way(
        self, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The caller tries again later; meanwhile blocks of before still count."""

        def full(*_: object) -> None:
            raise StoreError("the disk is full")

        notice = shelf.versions.notice()
        shelf.begin(notice)
        shelf.versions.advance()
        with monkeypatch.context() as disk:
            disk.setattr(shelf.shelf.spool, "keep", full)
            with pytest.raises(StoreError):
                shelf.fetch.begin(shelf.versions.notice(), retained=True)
            shelf.fetch.forget()  # told nobody: it takes room, and no more
        shelf.serve()
        assert lacking(shelf.shelf, notice) == {}


class TestSlowDisk:
    def test_what_is_being_written_is_not_asked_for(self, tmp_path: Path) -> None:
        """However long that takes, and whatever of it comes again."""
        disk = Later()
        shelf = Shelf(tmp_path / "versions", disk)
        notice = shelf.versions.notice()
        shelf.begin(notice)
        shelf.serve()
        assert len(disk.waiting) == 4
        shelf.clock.advance(100.0)
        shelf.fetch.tick()
        for wire in blocks_of(shelf.versions.blobs[notice.manifest.sha256]):
            shelf.fetch.receive(parse_block(wire))
        assert shelf.asked == []
        assert not shelf.whole
        disk.finish()
        assert shelf.whole == 1
        assert lacking(shelf.shelf, notice) == {}

    def test_another_version_does_not_wait_for_it(self, tmp_path: Path) -> None:
        """What is written of the one before lands on the shelf or nowhere, and ends nothing."""
        disk = Later()
        shelf = Shelf(tmp_path / "versions", disk)
        shelf.begin(structs.replace(shelf.versions.notice(), snapshot=shelf.versions.put(b"1234")))
        shelf.serve()
        notice = shelf.versions.notice()
        shelf.begin(notice)
        shelf.serve()
        disk.finish()
        shelf.clock.advance(SILENCE_SECONDS)
        shelf.fetch.tick()
        shelf.serve()
        disk.finish()
        assert shelf.whole == 1
        assert lacking(shelf.shelf, notice) == {}
