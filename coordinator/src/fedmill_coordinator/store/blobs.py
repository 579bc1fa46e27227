# SPDX-License-Identifier: Apache-2.0
"""Bytes named by their SHA-256, one file each, in 256 folders by the first two digits."""

import os
import re
from collections.abc import Callable, Collection
from pathlib import Path

from fedmill_shared.errors import StoreError
from fedmill_shared.files import make_folder, sha256, sync_folder, write_atomic

_NAME = re.compile(r"[0-9a-f]{64}")


def _nothing() -> None:
    """Nobody wants to know."""


class Blobs:
    """A content-addressed folder; one process writes it, any number reads.

    Every method that takes a name raises StoreError unless it is 64 lower-case hexadecimal
    digits, so no name can lead out of the folder.

    Attributes:
        reading: called whenever a blob is read: what takes long reads many, and advances.
    """

    def __init__(self, folder: Path) -> None:
        """``folder`` is created with the first blob."""
        self.folder = folder
        self.reading: Callable[[], object] = _nothing

    def put(self, data: bytes | bytearray | memoryview) -> str:
        """Store ``data`` and return its name; on return it survives a power cut.

        A blob that is there already is not written again, unless it is damaged.

        Raises:
            StoreError: the folder cannot be written or is full; nothing half-written is visible.
        """
        name = sha256(data)
        path = self.path(name)
        if not self._is_intact(path, name):
            self._make_shard(path.parent)
            write_atomic(path, data)
        return name

    def adopt(self, path: Path, name: str) -> None:
        """Move the file at ``path`` into the store as ``name``; nothing is copied or checked.

        ``path`` is on the disk of the store, its content is called ``name`` and was synced. What
        is there under that name, perhaps damaged, is replaced.

        Raises:
            StoreError: the file is not there, or the folder cannot be written.
        """
        target = self.path(name)
        self._make_shard(target.parent)
        try:
            path.replace(target)
        except OSError as error:
            raise StoreError(
                f"{path}: cannot be moved to {target}: {error.strerror or error}",
                remedy="check the disk and that both folders belong to the service user",
            ) from error
        _sync(target.parent)

    def path(self, name: str) -> Path:
        """Where the blob called ``name`` lies or would lie."""
        if _NAME.fullmatch(name) is None:
            raise StoreError(
                f"{name[:80]!r} is not the name of a blob",
                remedy="names are 64 hexadecimal digits; the sender is at fault",
            )
        return self.folder / name[:2] / name

    def get(self, name: str, limit: int) -> bytes:
        """The bytes called ``name``, at most ``limit`` of them.

        Raises:
            StoreError: there is no such blob, it is larger than ``limit``, cannot be read or is
                damaged.
        """
        self.reading()
        path = self.path(name)
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size > limit:
                    raise StoreError(
                        f"{path}: {size} bytes, at most {limit} are allowed here",
                        remedy="the file does not belong to this model; restore the state folder",
                    )
                data = file.read()
        except OSError as error:
            raise _unreadable(path, error) from error
        if sha256(data) != name:
            raise StoreError(
                f"{path}: damaged: its content does not match its name",
                remedy="check the disk, then restore this file from a backup of the state folder",
            )
        return data

    def has(self, name: str) -> bool:
        """Whether a blob called ``name`` is there; its content is not checked."""
        return self.path(name).is_file()

    def size(self, name: str) -> int:
        """Bytes of the blob called ``name``.

        Raises:
            StoreError: there is no such blob.
        """
        path = self.path(name)
        try:
            return path.stat().st_size
        except OSError as error:
            raise _unreadable(path, error) from error

    def delete(self, name: str) -> None:
        """Remove the blob called ``name``; one that is not there is no error.

        Raises:
            StoreError: it cannot be removed.
        """
        _remove(self.path(name))

    def names(self) -> list[str]:
        """Names of all blobs, sorted."""
        return sorted(path.name for path in self._files() if _NAME.fullmatch(path.name))

    def prune(self, live: Collection[str]) -> int:
        """Remove every blob not in ``live`` and what a killed process left; return bytes freed.

        Only the writing process may call it, and never between ``put`` and the commit of the row
        that names the new blob.

        Raises:
            StoreError: a file cannot be removed.
        """
        return sum(_remove(path) for path in self._files() if path.name not in live)

    def _files(self) -> list[Path]:
        return list(self.folder.glob("[0-9a-f][0-9a-f]/*"))

    def _is_intact(self, path: Path, name: str) -> bool:
        try:
            return sha256(path.read_bytes()) == name
        except OSError:
            return False

    def _make_shard(self, shard: Path) -> None:
        for folder in (self.folder, shard):
            if not folder.is_dir():
                make_folder(folder)
                # write_atomic makes a file's entry durable, not the entry of its new folder.
                _sync(folder.parent)


def _sync(folder: Path) -> None:
    try:
        sync_folder(folder)
    except OSError as error:
        raise StoreError(
            f"{folder}: cannot be written to disk: {error.strerror or error}",
            remedy="check the disk and that the folder belongs to the service user",
        ) from error


def _remove(path: Path) -> int:
    try:
        size = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be removed: {error.strerror or error}",
            remedy="check that the folder belongs to the service user",
        ) from error
    return size


def _unreadable(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"{path}: cannot be read: {error.strerror or error}",
        remedy="restore this file from a backup of the state folder",
    )
