# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec
import pytest

from fedmill_shared.errors import StoreError
from fedmill_shared.files import sha256
from fedmill_shared.link.outbox import Outbox, Parcel
from fedmill_shared.messages import UpdateOffer


def _parcel(text: str, *, job: str = "bearings", round_: int = 1, carry: bytes = b"") -> Parcel:
    offer = UpdateOffer(
        job=job,
        round=round_,
        base="b" * 64,
        sha256=sha256(text.encode()),
        size=len(text),
        examples=640,
        loss=0.25,
        seconds=1.5,
    )
    return Parcel(offer, text.encode(), carry)


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    """An empty outbox."""
    return Outbox(tmp_path / "outbox")


class TestKeeping:
    def test_put_get_take(self, outbox: Outbox) -> None:
        """A parcel is there, whole, until it is taken; taking twice is no error."""
        parcel = _parcel("frame", carry=b"residual")
        digest = parcel.offer.sha256
        assert outbox.get(digest) is None
        outbox.put(parcel)
        assert digest in outbox
        assert outbox.get(digest) == parcel
        outbox.take(digest)
        outbox.take(digest)
        assert digest not in outbox
        assert list(outbox.parcels()) == []

    def test_putting_again_changes_nothing(self, outbox: Outbox, tmp_path: Path) -> None:
        """One file for each update, however often it is offered."""
        for _ in range(2):
            outbox.put(_parcel("frame"))
        assert list(outbox.parcels()) == [_parcel("frame")]
        assert len(list(tmp_path.glob("outbox/*"))) == 1

    def test_survives_a_restart(self, outbox: Outbox, tmp_path: Path) -> None:
        """Another process finds what waits."""
        outbox.put(_parcel("frame"))
        assert list(Outbox(tmp_path / "outbox").parcels()) == [_parcel("frame")]

    def test_oldest_round_first(self, outbox: Outbox) -> None:
        """Job by job in the order of rounds, whatever the digests' order is; 10 comes after 9."""
        places = [("rig", 2), ("bearings", 10), ("rig", 1), ("bearings", 9)]
        for job, round_ in places:
            outbox.put(_parcel(f"{job} {round_}", job=job, round_=round_))
        found = [(parcel.offer.job, parcel.offer.round) for parcel in outbox.parcels()]
        assert found == sorted(places)


class TestDamage:
    GOOD = msgspec.msgpack.encode(_parcel("frame"))
    DAMAGED = (
        b"",
        GOOD[:-1],
        GOOD[: len(GOOD) // 2],
        GOOD.replace(b"frame", b"frane"),
        GOOD.replace(b"bearings", b"bear\xffngs"),
        GOOD.replace(b"bearings", b"Bearings"),
        msgspec.msgpack.encode(_parcel("another frame")),
        b"\x81\xa1x" + b"\x91" * 100_000,
    )

    @pytest.mark.parametrize("data", DAMAGED, ids=range(len(DAMAGED)))
    def test_a_damaged_file_is_set_aside(self, outbox: Outbox, tmp_path: Path, data: bytes) -> None:
        """It neither stops the agent nor is sent; the others are, and a person can look at it."""
        bad, good = _parcel("frame"), _parcel("good")
        outbox.put(good)
        outbox.put(bad)
        path = tmp_path / "outbox" / f"{bad.offer.sha256}.update"
        path.write_bytes(data)
        assert list(outbox.parcels()) == [good]
        assert path.with_suffix(".damaged").read_bytes() == data
        assert outbox.set_aside == [path.with_suffix(".damaged")]
        assert outbox.get(bad.offer.sha256) is None
        assert bad.offer.sha256 not in outbox

    def test_an_absurdly_large_file_is_not_read(self, outbox: Outbox, tmp_path: Path) -> None:
        """Two gibibytes of nothing (a sparse file) are set aside by their size alone."""
        digest = _parcel("frame").offer.sha256
        path = tmp_path / "outbox" / f"{digest}.update"
        with path.open("wb") as file:
            file.truncate(1 << 31)
        assert outbox.get(digest) is None
        assert path.with_suffix(".damaged").exists()


class TestFolder:
    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        """Below a file there is no folder; the error names it."""
        (tmp_path / "file").touch()
        with pytest.raises(StoreError, match=r"file/outbox: folder cannot be created"):
            Outbox(tmp_path / "file" / "outbox")

    def test_a_read_only_folder(
        self, tmp_path: Path, as_nobody: Callable[[], AbstractContextManager[None]]
    ) -> None:
        """Every use is a StoreError that says what the folder needs; nothing is lost."""
        folder = tmp_path / "outbox"
        outbox, kept = Outbox(folder), _parcel("kept")
        outbox.put(kept)
        folder.chmod(0o500)
        with as_nobody():
            with pytest.raises(StoreError, match="folder"):
                Outbox(folder)
            with pytest.raises(StoreError, match="cannot be written: Permission denied"):
                outbox.put(_parcel("new"))
            with pytest.raises(StoreError, match="cannot be deleted: Permission denied"):
                outbox.take(kept.offer.sha256)
        folder.chmod(0o700)
        assert list(outbox.parcels()) == [kept]
