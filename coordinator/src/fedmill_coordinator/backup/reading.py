# SPDX-License-Identifier: Apache-2.0
"""Unpacks a backup beside what is there, and believes none of its bytes before their digest."""

import gzip
import hashlib
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Self

from fedmill_coordinator.backup import manifest
from fedmill_coordinator.backup.manifest import Manifest, Member, damaged
from fedmill_shared.errors import StoreError
from fedmill_shared.files import make_folder, sha256, sync_folder

LARGEST_CONFIG = 1 << 20
_PIECE = 1 << 20
_LONGEST_NAME = 8192
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE)
Where = Callable[[Member], Path]


class _Entry(tarfile.TarInfo):
    """The head of a file or of a long name, and of nothing else.

    tarfile itself reads any other head (links, sparse files, extended ones) into memory, however
    long it says that it is.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """The head in one block; ReadError unless it is of these."""
        entry = super().frombuf(buf, encoding, errors)
        name = entry.type == tarfile.GNUTYPE_LONGNAME and entry.size <= _LONGEST_NAME
        if entry.type not in _FILES and not name:
            raise tarfile.ReadError(f"{entry.name[:200]!r} is no plain file")
        return entry


@contextmanager
def opened(path: Path) -> Iterator[tarfile.TarFile]:
    """The archive ``path``, to be read once from its beginning.

    Raises:
        StoreError: it cannot be read, or is no backup.
    """
    try:
        with (
            gzip.open(path) as plain,
            tarfile.open(fileobj=plain, mode="r|", tarinfo=_Entry) as archive,
        ):
            yield archive
    # tarfile calls itself for each long name that names nothing but another one
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, RecursionError) as error:
        raise damaged(str(path), f"is no backup, or is damaged: {error}") from error
    except OSError as error:
        told = f"{error.filename or path}: {error.strerror or error}"
        raise StoreError(told, remedy="nothing was changed; check the file and free space") from (
            error
        )


def manifest_of(path: Path) -> Manifest:
    """What the backup ``path`` says of itself.

    Raises:
        StoreError: it cannot be read, or is no backup.
    """
    with opened(path) as archive:
        return _manifest(archive, path)


def configuration(path: Path, wanted: Member) -> bytes:
    """The file ``wanted`` of the backup ``path``; others are checked when they are unpacked.

    Raises:
        StoreError: it is not as it was made, or too large for a configuration.
    """
    if wanted.size > LARGEST_CONFIG:
        raise damaged(str(path), f"{wanted.name} has {wanted.size} bytes")
    with opened(path) as archive:
        for member in _manifest(archive, path).members:
            file = _file(archive, member, path)
            if member == wanted and sha256(data := file.read()) == wanted.sha256:
                return data
    raise damaged(str(path), f"{wanted.name} is not as it was")


def unpack(path: Path, made: Manifest, where: Where) -> None:
    """Write every file of the backup ``path`` to where ``where`` says, synced, for us only.

    Raises:
        StoreError: a file is missing, there is one too many, or one is not as it was ``made``.
    """
    with opened(path) as archive:
        if _manifest(archive, path) != made:
            raise damaged(str(path), "it was changed while it was read")
        folders = set()
        for member in made.members:
            file = _file(archive, member, path)
            goal = where(member)
            make_folder(goal.parent)
            folders.add(goal.parent)
            if _write(file, goal) != member.sha256:
                raise damaged(str(path), f"{member.name} is not as it was")
        if archive.next() is not None:
            raise damaged(str(path), "it holds more than its manifest says")
        for folder in folders:
            sync_folder(folder)


def _file(archive: tarfile.TarFile, member: Member, path: Path) -> IO[bytes]:
    """The next file of the archive, which must be ``member``."""
    entry = archive.next()
    file = archive.extractfile(entry) if entry is not None else None
    if entry is None or file is None or entry.name != member.name:
        found = "nothing" if entry is None else repr(entry.name[:200])
        raise damaged(str(path), f"{found} stands where {member.name} should")
    if entry.size != member.size:
        raise damaged(str(path), f"{member.name} has {entry.size} bytes, not {member.size}")
    return file


def _manifest(archive: tarfile.TarFile, path: Path) -> Manifest:
    first = archive.next()
    file = archive.extractfile(first) if first is not None else None
    if first is None or file is None or first.name != manifest.NAME:
        raise damaged(str(path), "is no backup of a coordinator")
    if first.size > manifest.LONGEST:
        raise damaged(str(path), f"its manifest has {first.size} bytes")
    return manifest.decode(file.read(), str(path))


def _write(source: IO[bytes], goal: Path) -> str:
    digest = hashlib.sha256()
    handle = os.open(goal, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as file:
        while piece := source.read(_PIECE):
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()
