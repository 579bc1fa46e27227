# SPDX-License-Identifier: Apache-2.0
import errno
import os
from pathlib import Path

import numpy as np
import pytest
from tests.agent.kit import Versions

from fedmill_agent.inference.shelf import KEPT_VERSIONS, VersionShelf
from fedmill_shared.errors import StoreError
from fedmill_shared.files import sha256
from fedmill_shared.link.blocks import blocks_of, parse_block
from fedmill_shared.models.manifest import vector_bytes


def read_only(*_: object, **__: object) -> None:
    """What such a disk says to any change."""
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


@pytest.fixture
def shelf(tmp_path: Path) -> VersionShelf:
    """An empty shelf."""
    return VersionShelf(tmp_path / "versions")


class TestBlobs:
    def test_come_back_by_their_digest(self, shelf: VersionShelf) -> None:
        """Also from a shelf that is opened later."""
        digest = shelf.put(b"blob")
        assert digest == sha256(b"blob")
        assert shelf.has(digest)
        assert VersionShelf(shelf.path(digest).parent).get(digest) == b"blob"

    def test_a_damaged_one_is_removed(self, shelf: VersionShelf) -> None:
        """It counts as missing from then on, so that it is fetched again."""
        digest = shelf.put(b"blob")
        shelf.path(digest).write_bytes(b"blab")
        with pytest.raises(StoreError, match="damaged"):
            shelf.get(digest)
        assert not shelf.has(digest)
        with pytest.raises(StoreError, match="cannot be read"):
            shelf.get(digest)

    def test_a_damaged_one_on_a_disk_that_cannot_be_written(
        self, shelf: VersionShelf, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A disk that damages files often turns read-only: that is still told as damage."""
        digest = shelf.put(b"blob")
        shelf.activate(Versions().notice())
        for path in (shelf.path(digest), shelf.folder / "active.msgpack"):
            path.write_bytes(path.read_bytes()[:-1])
        monkeypatch.setattr(Path, "unlink", read_only)
        with pytest.raises(StoreError, match="damaged"):
            shelf.get(digest)
        assert shelf.active() is None

    def test_a_vector_must_be_float32(self, shelf: VersionShelf) -> None:
        """Another number of bytes is refused, not rounded down."""
        vector = np.arange(3, dtype=np.float32)
        assert shelf.vector(shelf.put(vector_bytes(vector))).tolist() == [0.0, 1.0, 2.0]
        with pytest.raises(StoreError, match="5 bytes are no float32"):
            shelf.vector(shelf.put(b"12345"))


class TestSpool:
    def test_a_whole_blob_is_adopted(self, shelf: VersionShelf, tmp_path: Path) -> None:
        """It is moved to its place, and the spool is empty then."""
        [wire] = blocks_of(b"blob")
        digest = sha256(b"blob")
        shelf.spool.expect(digest, 4)
        with pytest.raises(StoreError, match="is not whole"):
            shelf.adopt(digest)
        assert shelf.spool.add(parse_block(wire))
        assert not shelf.has(digest)
        shelf.adopt(digest)
        assert shelf.get(digest) == b"blob"
        assert list((tmp_path / "versions" / "spool").iterdir()) == []


class TestActive:
    def test_is_remembered(self, shelf: VersionShelf, tmp_path: Path) -> None:
        """The notice of the version comes back whole."""
        assert shelf.active() is None
        notice = Versions().notice()
        shelf.activate(notice)
        assert VersionShelf(tmp_path / "versions").active() == notice

    def test_a_damaged_notice_is_forgotten(self, shelf: VersionShelf, tmp_path: Path) -> None:
        """The agent starts without a version, and the broker's notice brings one."""
        shelf.activate(Versions().notice())
        path = tmp_path / "versions" / "active.msgpack"
        path.write_bytes(path.read_bytes()[:-3])
        assert shelf.active() is None
        assert not path.exists()

    def test_a_version_that_is_given_up_is_dropped(self, shelf: VersionShelf) -> None:
        """But for what the active version needs, and what somebody wants."""
        versions = Versions()
        active = versions.notice()
        for blob in versions.blobs.values():
            shelf.put(blob)
        shelf.activate(active)
        held = set(versions.blobs)
        versions.advance()
        given_up = versions.notice()
        for blob in versions.blobs.values():
            shelf.put(blob)
        shelf.drop(given_up, wanted=[given_up.delta.sha256])
        kept = {digest for digest in versions.blobs if shelf.has(digest)}
        assert kept == held | {given_up.delta.sha256}
        shelf.drop(given_up)
        shelf.drop(given_up)
        assert {digest for digest in versions.blobs if shelf.has(digest)} == held

    def test_old_blobs_are_dropped(self, shelf: VersionShelf) -> None:
        """What the active version needs stays, however old, and the newest others."""
        versions = Versions()
        notice = versions.notice()
        needed = [notice.version, notice.manifest, notice.template, notice.canary_inputs]
        for name in needed:
            shelf.put(versions.blobs[name if isinstance(name, str) else name.sha256])
        others = [shelf.put(f"old {n}".encode()) for n in range(6)]
        for age, digest in enumerate(others):
            os.utime(shelf.path(digest), ns=(age * 10**9, age * 10**9))
        shelf.activate(notice)
        assert [shelf.has(digest) for digest in others] == [False] * 3 + [True] * KEPT_VERSIONS
        assert all(shelf.has(n if isinstance(n, str) else n.sha256) for n in needed)
