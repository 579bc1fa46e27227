# SPDX-License-Identifier: Apache-2.0
"""Files that are either the old ones or the new ones, never half of each."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fedmill_shared.errors import StoreError


def write_atomic(path: Path, data: bytes | bytearray | memoryview) -> None:
    """Replace ``path`` with ``data``: temporary file, fsync, rename, fsync of the folder.

    Raises:
        StoreError: the folder is missing, read-only or full; ``path`` is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):  # the folder that fails to write may fail to delete
            temporary.unlink()
        raise StoreError(
            f"{path}: cannot be written: {error.strerror or error}",
            remedy="check free space and that the folder belongs to the service user",
        ) from error


def sha256(data: bytes | bytearray | memoryview) -> str:
    """Hexadecimal SHA-256 of ``data``: the name of every blob and version."""
    return hashlib.sha256(data).hexdigest()


def make_folder(path: Path) -> Path:
    """Create ``path`` with its parents, for the owner only.

    Raises:
        StoreError: it cannot be created or is not writable.
    """
    try:
        for each in (*reversed(path.parents), path):  # parents=True leaves parents to everybody
            if not each.is_dir():
                each.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"{path}: folder cannot be created: {error.strerror or error}",
            remedy="choose another state folder or give the service user the right to write it",
        ) from error
    if not os.access(path, os.W_OK):
        raise StoreError(f"{path}: folder is not writable", remedy="chown it to the service user")
    return path


@contextmanager
def state_folder(path: Path, owner: str) -> Iterator[Path]:
    """Make and hold ``path``, so that two daemons never write the same files.

    Raises:
        StoreError: it cannot be used, or another ``owner`` ("agent", "coordinator") holds it.
    """
    handle = os.open(make_folder(path) / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(
                f"{path}: another {owner} is running with this state folder",
                remedy="stop it, or give this one a folder of its own",
            ) from error
        yield path
    finally:
        os.close(handle)


def is_held(path: Path) -> bool:
    """Whether a daemon runs with the state folder ``path``, which need not exist."""
    try:
        handle = os.open(path / "lock", os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def sync_folder(folder: Path) -> None:
    """Let what was created, renamed or deleted in ``folder`` survive a power cut.

    Raises:
        OSError: the disk fails.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
