# SPDX-License-Identifier: Apache-2.0
"""One moment of a running coordinator: its rows, and every blob that they name.

Blobs are held by hard links, which cost no space, before and after the rows are copied: what the
daemon deletes meanwhile stays, and what it adds is there.
"""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fedmill_coordinator.backup.contents import BLOBS, DATABASE
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.store.sql import SqlStore
from fedmill_shared.errors import StoreError

PREFIX = ".backup-"
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was copied and held.

    Attributes:
        database: a copy of the rows.
        blobs: the blobs by name; links that go with the snapshot.
        missing: names of blobs that rows name and that are not there.
    """

    database: Path
    blobs: dict[str, Path]
    missing: list[str]


@contextmanager
def taken(state: Path) -> Iterator[Snapshot]:
    """A snapshot of the coordinator in ``state``, which goes at the end.

    Raises:
        StoreError: the folder cannot be read or written, or the database is damaged.
    """
    for left in state.glob(f"{PREFIX}*"):  # by one that was killed
        shutil.rmtree(left, ignore_errors=True)
    folder = state / f"{PREFIX}{os.getpid()}"
    try:
        folder.mkdir(mode=0o700)
        yield _taken(state, folder)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(
            f"{state}: cannot be copied: {error}",
            remedy="run this as the coordinator's user; check free space",
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _taken(state: Path, folder: Path) -> Snapshot:
    held = folder / BLOBS
    held.mkdir()
    database = folder / DATABASE
    missing: set[str] = set()
    for _ in range(_ATTEMPTS):
        _hold(state / BLOBS, held)
        _copy(state / DATABASE, database)
        _hold(state / BLOBS, held)
        with SqlStore.in_file(database) as store:
            missing = {name for name in store.live_blobs() if not (held / name).exists()}
        _settle(database)
        if not missing:
            break
    names = {path.name: path for path in sorted(held.iterdir())}
    return Snapshot(database, names, sorted(missing))


def _hold(blobs: Path, held: Path) -> None:
    for name in Blobs(blobs).names():
        with suppress(FileExistsError, FileNotFoundError):  # held already, or just deleted
            (held / name).hardlink_to(blobs / name[:2] / name)


def _copy(source: Path, copy: Path) -> None:
    if not source.exists():
        raise StoreError(f"{source}: no such database", remedy="run `fedmill serve` first")
    copy.unlink(missing_ok=True)
    with (
        closing(sqlite3.connect(source, timeout=30)) as read,
        closing(sqlite3.connect(copy)) as write,
    ):
        read.backup(write)
    _settle(copy)
    with closing(sqlite3.connect(copy)) as check:
        (found,) = check.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise StoreError(f"{source}: is damaged: {found}", remedy="see docs/operations.md")


def _settle(database: Path) -> None:
    """Leave one file, without a log beside it."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE").fetchone()
