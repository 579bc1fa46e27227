# SPDX-License-Identifier: Apache-2.0
"""Updates that wait on disk until the coordinator's receipt names their SHA-256."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from fedmill_shared.errors import StoreError
from fedmill_shared.files import make_folder, sha256, write_atomic
from fedmill_shared.messages import UNREADABLE, UpdateOffer

PARCEL_LIMIT = 1 << 30
"""Bytes of a file that is read at all: a frame and what compression left behind."""


class Parcel(Struct, frozen=True):
    """An update that is ready to go: its offer, its frame, and what compression left behind."""

    offer: UpdateOffer
    frame: bytes
    carry: bytes = b""


class Outbox:
    """A folder of parcels, one file each, named by the frame's SHA-256.

    Attributes:
        set_aside: where damaged files were put; whoever tells of one takes it off the list.
    """

    def __init__(self, folder: Path) -> None:
        """Open or create ``folder``.

        Raises:
            StoreError: it cannot be created or written.
        """
        self._folder = make_folder(folder)
        self.set_aside: list[Path] = []

    def put(self, parcel: Parcel) -> None:
        """Keep ``parcel`` durably; putting it again changes nothing.

        Raises:
            StoreError: it cannot be written.
        """
        write_atomic(self._path(parcel.offer.sha256), msgspec.msgpack.encode(parcel))

    def take(self, digest: str) -> None:
        """Drop the parcel with this SHA-256, if it is there.

        Raises:
            StoreError: it cannot be deleted.
        """
        path = self._path(digest)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(
                f"{path}: cannot be deleted: {error.strerror}",
                remedy="give the service user the right to write the folder",
            ) from error

    def parcels(self) -> Iterator[Parcel]:
        """Every parcel that still waits, oldest round first; a damaged file is set aside."""
        found = [p for p in map(self._read, sorted(self._folder.glob("*.update"))) if p is not None]
        yield from sorted(found, key=lambda parcel: (parcel.offer.job, parcel.offer.round))

    def get(self, digest: str) -> Parcel | None:
        """The parcel with this SHA-256, if it is there and whole."""
        path = self._path(digest)
        return self._read(path) if path.exists() else None

    def __contains__(self, digest: str) -> bool:
        return self._path(digest).exists()

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest}.update"

    def _read(self, path: Path) -> Parcel | None:
        try:
            parcel = _parse(path) if path.stat().st_size <= PARCEL_LIMIT else None
            if parcel is None:
                self.set_aside.append(path.replace(path.with_suffix(".damaged")))
        except OSError as error:
            raise StoreError(
                f"{path}: cannot be read or set aside: {error.strerror}",
                remedy="give the service user the right to read and write the folder",
            ) from error
        return parcel


def _parse(path: Path) -> Parcel | None:
    try:
        parcel = msgspec.msgpack.decode(path.read_bytes(), type=Parcel)
    except UNREADABLE:
        return None
    named = path.stem == parcel.offer.sha256 == sha256(parcel.frame)
    return parcel if named else None
