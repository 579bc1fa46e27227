# SPDX-License-Identifier: Apache-2.0
"""The versions a gateway holds: weights, the blobs around them, and which one is followed."""

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.errors import FrameError, StoreError
from fedmill_shared.files import make_folder, sha256, write_atomic
from fedmill_shared.link.spool import Spool
from fedmill_shared.messages import VersionNotice, decode, encode

KEPT_VERSIONS = 3


class VersionShelf:
    """A folder with ``<sha256>.blob`` files and the notice of the active version: the one followed.

    Attributes:
        folder: where it is.
        spool: the blobs that have arrived in part.
    """

    def __init__(
        self, folder: Path, spool: str = "spool", held: dict[str, set[str]] | None = None
    ) -> None:
        """Open or create ``folder``, and in it one for what has arrived in part.

        ``held`` is what is kept, by name; ``beside`` gives it.

        Raises:
            StoreError: it cannot be created or written.
        """
        self.folder = self._folder = make_folder(folder)
        self.spool = Spool(folder / spool)
        self._held = {} if held is None else held

    def beside(self, spool: str) -> "VersionShelf":
        """The same shelf for another who fetches, and has a ``spool`` of his own.

        Raises:
            StoreError: the folder cannot be created.
        """
        return VersionShelf(self._folder, spool, self._held)

    def hold(self, name: str, notice: VersionNotice | None) -> None:
        """Keep what ``notice`` works with until another is held by this ``name``."""
        self._held.pop(name, None)
        if notice is not None:
            self._held[name] = needs(notice)

    def path(self, digest: str) -> Path:
        """Where the blob named ``digest`` lies or would lie."""
        return self._folder / f"{digest}.blob"

    def has(self, digest: str) -> bool:
        """Whether the blob is there; it is checked when it is read."""
        return self.path(digest).exists()

    def put(self, blob: bytes) -> str:
        """Keep a blob and return its name."""
        digest = sha256(blob)
        if not self.has(digest):
            write_atomic(self.path(digest), blob)
        return digest

    def adopt(self, digest: str) -> None:
        """Move a blob that is whole from the spool to the shelf.

        Raises:
            StoreError: the folder cannot be written; the blob stays in the spool.
        """
        self.spool.take(digest, self.path(digest))

    def get(self, digest: str) -> bytes:
        """The blob named ``digest``.

        Raises:
            StoreError: it is missing, or damaged, and then removed, if the disk lets us, so that it
                is fetched again.
        """
        path = self.path(digest)
        try:
            blob = path.read_bytes()
        except OSError as error:
            raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
        if sha256(blob) != digest:
            with suppress(OSError):  # a disk that has turned read-only keeps it, damaged
                path.unlink(missing_ok=True)
            raise StoreError(f"{path}: damaged", remedy="it will be fetched again")
        return blob

    def vector(self, version: str) -> NDArray[np.float32]:
        """The weights of ``version``, read-only float32.

        Raises:
            StoreError: as ``get``, or they are no float32 numbers.
        """
        blob = self.get(version)
        if len(blob) % 4:
            raise StoreError(f"{self.path(version)}: {len(blob)} bytes are no float32 numbers")
        return np.frombuffer(blob, dtype="<f4")

    def kept(self, notice: VersionNotice) -> set[str]:
        """What is not to go when ``notice`` is made the active one: it, and what is held."""
        return needs(notice).union(*self._held.values())

    def activate(self, notice: VersionNotice, kept: set[str] | None = None) -> None:
        """Make ``notice`` the version that is trained from, and drop what is older.

        Whoever calls it on another thread gives what was ``kept`` a moment ago.

        Raises:
            StoreError: the disk fails; the version of before still is the one.
        """
        keep = self.kept(notice) if kept is None else kept
        write_atomic(self._folder / "active.msgpack", encode(notice))
        self._prune(keep)

    def drop(self, notice: VersionNotice, *, wanted: Collection[str] = ()) -> None:
        """Remove the blobs of ``notice``, but not those ``wanted``, held or of the active one."""
        active = self.active()
        blobs = needs(notice) | {notice.snapshot.sha256}
        if notice.delta is not None:
            blobs.add(notice.delta.sha256)
        kept = needs(active) if active is not None else set()
        kept = kept.union(*self._held.values())
        for digest in blobs - kept - set(wanted):
            with suppress(OSError):  # on a disk that fails it takes room until the next version
                self.path(digest).unlink(missing_ok=True)

    def active(self) -> VersionNotice | None:
        """The notice of the version that was followed last, if it can be read."""
        path = self._folder / "active.msgpack"
        try:
            return decode(path.read_bytes(), VersionNotice)
        except OSError:
            return None
        except FrameError:
            with suppress(OSError):  # it is read, and found damaged, once more
                path.unlink(missing_ok=True)
            return None

    def _prune(self, keep: set[str]) -> None:
        """Keep these and the newest others, so a delta finds its base."""
        with suppress(OSError):  # what is not removed takes room until the next version
            blobs = sorted(self._folder.glob("*.blob"), key=lambda path: -path.stat().st_mtime_ns)
            others = [path for path in blobs if path.stem not in keep]
            for path in others[KEPT_VERSIONS:]:
                path.unlink(missing_ok=True)


def needs(notice: VersionNotice) -> set[str]:
    """The blobs that a version works with."""
    parts = (notice.manifest, notice.template, notice.canary_inputs)
    return {notice.version, *(part.sha256 for part in parts)}
