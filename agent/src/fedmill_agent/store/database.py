# SPDX-License-Identifier: Apache-2.0
"""The SQLite file under the window store: its tables, how it is opened, and what its faults mean.

Write-ahead logging with ``synchronous=NORMAL`` (https://sqlite.org/wal.html): one writer beside any
number of readers, a killed process loses nothing that was committed, a power cut at most the last
transactions.
"""

import sqlite3
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from fedmill_shared.errors import StoreError
from fedmill_shared.files import sync_folder

Result = TypeVar("Result")
Work = Callable[[sqlite3.Connection], Result]

# A page cache of 256 KiB: the default of 2 MiB is memory that a gateway lacks.
PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "cache_size=-256")
_VERSION = 3
_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE windows (
    id INTEGER PRIMARY KEY, run TEXT NOT NULL, unit TEXT NOT NULL,
    split TEXT NOT NULL, start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL,
    good_share REAL NOT NULL, stored_ns INTEGER NOT NULL, data BLOB NOT NULL);
CREATE UNIQUE INDEX window_key ON windows (run, end_ns, start_ns);
CREATE INDEX window_order ON windows (split, run, end_ns, start_ns, unit);
CREATE TABLE labels (
    id INTEGER PRIMARY KEY, run TEXT NOT NULL, start_ns INTEGER NOT NULL,
    end_ns INTEGER NOT NULL, text TEXT NOT NULL, start_value REAL NOT NULL,
    end_value REAL NOT NULL, arrived_ns INTEGER NOT NULL,
    UNIQUE (run, start_ns, end_ns, text, start_value, end_value));
CREATE TABLE units (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL,
    split TEXT NOT NULL, origin_ns INTEGER NOT NULL, UNIQUE (kind, name));
CREATE TABLE predictions (
    id INTEGER PRIMARY KEY, run TEXT NOT NULL, end_ns INTEGER NOT NULL,
    version TEXT NOT NULL, outputs BLOB NOT NULL, scored_ns INTEGER NOT NULL,
    UNIQUE (run, end_ns, version));
"""
_UPGRADES = {
    2: """
ALTER TABLE windows ADD COLUMN target REAL;
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE truths (
    seq INTEGER PRIMARY KEY, job TEXT NOT NULL, id TEXT NOT NULL, unit TEXT NOT NULL,
    piece TEXT NOT NULL, start_ns INTEGER, end_ns INTEGER, text TEXT NOT NULL,
    start_value REAL NOT NULL, end_value REAL NOT NULL, made_ns INTEGER, state INTEGER NOT NULL,
    rank BLOB NOT NULL, arrived_ns INTEGER NOT NULL, changes INTEGER NOT NULL, UNIQUE (job, id));
""",
    3: """
ALTER TABLE predictions ADD COLUMN unit TEXT NOT NULL DEFAULT '';
ALTER TABLE predictions ADD COLUMN start_ns INTEGER NOT NULL DEFAULT 0;
ALTER TABLE predictions ADD COLUMN good_share REAL NOT NULL DEFAULT 1.0;
ALTER TABLE predictions ADD COLUMN number INTEGER NOT NULL DEFAULT 0;
ALTER TABLE predictions ADD COLUMN confidence REAL;
ALTER TABLE predictions ADD COLUMN low REAL;
ALTER TABLE predictions ADD COLUMN high REAL;
ALTER TABLE predictions ADD COLUMN plausible TEXT;
CREATE TABLE alarms (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, state TEXT NOT NULL, at_ns INTEGER NOT NULL,
    record TEXT NOT NULL);
""",
}
"""What each layout adds to the one before it."""
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_REMEDIES = {
    sqlite3.SQLITE_CORRUPT: "restart the agent: it sets the file aside and starts a fresh one",
    sqlite3.SQLITE_NOTADB: "restart the agent: it sets the file aside and starts a fresh one",
    sqlite3.SQLITE_FULL: "free some space on the disk",
    sqlite3.SQLITE_BUSY: "end the other process that holds it",
    sqlite3.SQLITE_READONLY: "give the service user the right to write it and its folder",
    sqlite3.SQLITE_CANTOPEN: "check that it exists, and that the service user may read it",
}


def open_writer(path: Path) -> sqlite3.Connection:
    """The one connection that writes; tables are made where they are missing, all or none.

    Raises:
        sqlite3.DatabaseError: the file is damaged (see ``is_damaged``) or cannot be opened.
        StoreError: the file was written by another version of fedmill.
    """
    fresh = not path.exists()
    database = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    database.text_factory = lenient
    try:
        with speaking():
            for pragma in (*PRAGMAS, f"journal_size_limit={1 << 22}"):
                database.execute(f"PRAGMA {pragma}")
            _check_version(path, database, range(_VERSION + 1))
            transact(database, upgrade)
            if fresh:  # an undone unlink of the first journal would roll all of it back
                _sync(path)
            check_pages(database)
    except BaseException:
        database.close()
        raise
    return database


def _sync(path: Path) -> None:
    try:
        sync_folder(path.parent)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}", remedy="check the disk") from error


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, for another process than the writer's.

    Raises:
        StoreError: the file is missing, damaged, or of another version of fedmill.
    """
    try:
        database = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=ro",
            uri=True,
            timeout=30,
            isolation_level=None,
            check_same_thread=False,
        )
    except sqlite3.DatabaseError as error:
        raise fault(path, error) from error
    database.text_factory = lenient
    try:
        with speaking():
            _check_version(path, database, (_VERSION,))
    except sqlite3.DatabaseError as error:
        database.close()
        raise fault(path, error) from error
    except StoreError:
        database.close()
        raise
    return database


@contextmanager
def speaking() -> Iterator[None]:
    """Have damage that SQLite cannot even put into words be damage like any other.

    Its messages quote what is in the file, and Python refuses those that are not UTF-8.

    Raises:
        sqlite3.DatabaseError: the file is damaged.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        raise corrupt("its tables are damaged") from error


def corrupt(what: str) -> sqlite3.DatabaseError:
    """An error for damage that SQLite has not found, or has not called so."""
    damage = sqlite3.DatabaseError(what)
    damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return damage


def lenient(text: bytes) -> str:
    """Text of a file as it can be read: one wrong bit costs one row, not all that come with it."""
    return text.decode(errors="replace")


def transact(
    database: sqlite3.Connection, work: Work[Result], begin: str = "BEGIN IMMEDIATE"
) -> Result:
    """Do all of ``work`` in one transaction, or none of it; plain ``BEGIN`` to read one state.

    Raises:
        sqlite3.DatabaseError: nothing of it was done.
    """
    with speaking(), database:
        database.execute(begin)
        return work(database)


def put_aside(path: Path, now_ns: int) -> Path:
    """Rename a damaged file to ``<name>.corrupt-<ns>``; only the newest such file is kept.

    Raises:
        StoreError: the folder does not allow it.
    """
    target = path.with_name(f"{path.name}.corrupt-{now_ns}")
    try:
        for old in path.parent.glob(f"{path.name}.corrupt-*"):
            old.unlink()
        path.rename(target)
        log = path.with_name(f"{path.name}-wal")
        if log.exists():
            log.rename(target.with_name(f"{target.name}-wal"))
        path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"{path}: is damaged and cannot be set aside: {error.strerror or error}",
            remedy="move it away by hand",
        ) from error
    return target


def is_damaged(error: sqlite3.DatabaseError) -> bool:
    """Whether the file itself is broken, not just out of reach."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


def fault(path: Path, error: sqlite3.DatabaseError) -> StoreError:
    """``error`` in plain words."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return StoreError(f"{path}: {error}", remedy=_REMEDIES.get(code, "check the disk"))


def upgrade(database: sqlite3.Connection) -> None:
    """Bring the tables to the newest layout, inside a transaction of the caller's."""
    (version,) = database.execute("PRAGMA user_version").fetchone()
    steps = [_UPGRADES[newer] for newer in range(max(version, 1) + 1, _VERSION + 1)]
    for step in [*([] if version else [_SCHEMA]), *steps]:
        for statement in step.split(";\n"):
            database.execute(statement)
    if version != _VERSION:
        database.execute(f"PRAGMA user_version = {_VERSION}")


def _check_version(path: Path, database: sqlite3.Connection, allowed: Container[int]) -> None:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version not in allowed:
        older = 0 < version < _VERSION
        raise StoreError(
            f"{path}: layout {version} of the window store, this fedmill writes {_VERSION}",
            remedy="start the agent, which brings the file up to date"
            if older
            else "install the fedmill that wrote it, or move the file away",
        )


def check_pages(database: sqlite3.Connection) -> None:
    """Read all of a file once.

    Raises:
        sqlite3.DatabaseError: it is damaged.
    """
    (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise corrupt(verdict)
