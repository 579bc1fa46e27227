# SPDX-License-Identifier: Apache-2.0
"""Copies a bundle that was checked to where the daemon finds it, whole or not at all.

A stick may be exchanged, pulled out or lie between the check and the copy: what is copied is
compared once more, and no link is followed.
"""

import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedmill_agent.trust.bundle import Checked
from fedmill_agent.trust.imports import remove
from fedmill_agent.trust.places import TrustPlaces
from fedmill_shared.errors import StoreError, TrustError
from fedmill_shared.files import make_folder, sync_folder

PIECE = 1 << 20


def hand_over(checked: Checked, state: Path) -> Path:
    """Lay a copy of the bundle where the daemon finds it; where it lies.

    Raises:
        StoreError: the disk fails or is full; nothing has changed.
        TrustError: the bundle is no longer what was checked; nothing has changed.
    """
    imports = make_folder(TrustPlaces(state).imports)
    place, draft = imports / checked.name, imports / f".{checked.name}"
    try:
        with _alone(imports):
            for left in imports.glob(".*"):  # of an import that was killed
                if left.is_dir() and not left.is_symlink():
                    remove(left)
            if not place.exists():
                _must_fit(checked, imports)
                _lay_down(checked, draft)
                draft.rename(place)
                sync_folder(imports)
    except OSError as error:
        remove(draft)
        told = f"{error.filename or place}: {error.strerror or error}"
        raise StoreError(told, remedy="is there room on the disk of the agent?") from error
    except TrustError:
        remove(draft)
        raise
    return place


@contextmanager
def _alone(imports: Path) -> Iterator[None]:
    """Hold the folder against another import at the same time."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    handle = os.open(imports.with_suffix(".lock"), flags, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _must_fit(checked: Checked, imports: Path) -> None:
    needed = sum((checked.folder / path).stat().st_size for path in _handed(checked))
    free = shutil.disk_usage(imports).free
    if needed > free:
        raise StoreError(
            f"{imports}: {needed} bytes are needed for the bundle, {free} are free",
            remedy="make room on the disk of the agent",
        )


def _handed(checked: Checked) -> Iterator[Path]:
    """What the daemon needs of it; jobs lie in their notices, and software stays on the stick."""
    for path in checked.digests:
        if path.parts[0] != "targets" or path.parts[1] == "config":
            yield path


def _lay_down(checked: Checked, draft: Path) -> None:
    """Copy it, for its owner only, whatever the stick says: what cannot be removed stays."""
    folders = {make_folder(draft)}
    for path in _handed(checked):
        folders |= {make_folder(draft / each) for each in reversed(path.parents)}
        if _copy(checked.folder / path, draft / path) != checked.digests[path]:
            raise TrustError(
                f"{path}: was changed while it was copied",
                remedy="is the stick in order? Copy the bundle to another one",
            )
    for folder in folders:
        sync_folder(folder)


def _copy(source: Path, target: Path) -> str:
    """Copy a plain file to the disk; the SHA-256 of what was copied."""
    digest = hashlib.sha256()
    handle = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise TrustError(f"{source.name}: is no plain file any more")
        left = status.st_size
        made = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(made, "wb") as copy:
            while left > 0 and (piece := file.read(min(PIECE, left))):
                digest.update(piece)
                copy.write(piece)
                left -= len(piece)
            copy.flush()
            os.fsync(copy.fileno())
    return digest.hexdigest()
