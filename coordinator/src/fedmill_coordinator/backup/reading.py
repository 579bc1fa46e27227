# SPDX-License-Identifier: Apache-2.0
"""Unpacks a backup beside what is there, and believes none of its bytes before their digest."""

import hashlib
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fedmill_coordinator.backup import manifest
from fedmill_coordinator.backup.manifest import Manifest, Member, damaged
from fedmill_shared.errors import StoreError
from fedmill_shared.files import make_folder, sync_folder

_PIECE = 1 << 20
Where = Callable[[Member], Path]


@contextmanager
def opened(path: Path) -> Iterator[tarfile.TarFile]:
    """The archive ``path``, to be read once from its beginning.

    Raises:
        StoreError: it cannot be read, or is no backup.
    """
    try:
        with tarfile.open(path, mode="r|gz") as archive:
            yield archive
    except (tarfile.TarError, EOFError, zlib.error) as error:
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


def unpack(path: Path, where: Where) -> Manifest:
    """Write every file of the backup ``path`` to where ``where`` says, synced, for us only.

    Raises:
        StoreError: a file is missing, there is one too many, or one is not as it was made.
    """
    with opened(path) as archive:
        made = _manifest(archive, path)
        folders = set()
        for member in made.members:
            entry = archive.next()
            if entry is None or entry.name != member.name or not entry.isreg():
                found = "nothing" if entry is None else repr(entry.name[:200])
                raise damaged(str(path), f"{found} stands where {member.name} should")
            if entry.size != member.size:
                raise damaged(str(path), f"{member.name} has {entry.size} bytes, not {member.size}")
            file = archive.extractfile(entry)
            goal = where(member)
            make_folder(goal.parent)
            folders.add(goal.parent)
            if file is None or _write(file, goal) != member.sha256:
                raise damaged(str(path), f"{member.name} is not as it was")
        if archive.next() is not None:
            raise damaged(str(path), "it holds more than its manifest says")
        for folder in folders:
            sync_folder(folder)
    return made


def _manifest(archive: tarfile.TarFile, path: Path) -> Manifest:
    first = archive.next()
    if first is None or first.name != manifest.NAME or not first.isreg():
        raise damaged(str(path), "is no backup of a coordinator")
    if first.size > manifest.LONGEST:
        raise damaged(str(path), f"its manifest has {first.size} bytes")
    file = archive.extractfile(first)
    return manifest.decode(file.read() if file is not None else b"", str(path))


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
