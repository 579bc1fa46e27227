# SPDX-License-Identifier: Apache-2.0
"""The SQLite file under a recording of raw samples: its tables, and how it is opened.

Write-ahead logging with ``synchronous=FULL`` (https://sqlite.org/pragma.html#pragma_synchronous):
what was committed outlives a killed process and a power cut. Opening takes milliseconds however
large the file is: its log is replayed, and it is checked whole only up to 16 MB, beyond that at
the ends of its tables. Each chunk has a checksum of its own, which is looked at when it is read.
"""

import sqlite3
from pathlib import Path

from fedmill_agent.store.database import PRAGMAS, check_pages, fault, lenient, speaking, transact
from fedmill_shared.errors import StoreError
from fedmill_shared.files import sync_folder

_LAYOUT = 1
_LOG_BYTES = 1 << 22
_CHECKED_PAGES = 1 << 12
_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE tags (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, samples INTEGER NOT NULL);
CREATE TABLE chunks (
    id INTEGER PRIMARY KEY, first_ns INTEGER NOT NULL, last_ns INTEGER NOT NULL,
    stored_ns INTEGER NOT NULL, samples INTEGER NOT NULL, pieces BLOB NOT NULL, data BLOB NOT NULL);
CREATE INDEX chunk_time ON chunks (first_ns)
"""


def open_writer(path: Path) -> sqlite3.Connection:
    """The one connection that writes; tables are made where they are missing.

    Raises:
        sqlite3.DatabaseError: the file is damaged, or cannot be opened.
        StoreError: the file was written by another version of fedmill.
    """
    database = _connect(str(path))
    try:
        with speaking():
            database.execute("PRAGMA auto_vacuum=INCREMENTAL")
            for pragma in (*PRAGMAS, "synchronous=FULL", f"journal_size_limit={_LOG_BYTES}"):
                database.execute(f"PRAGMA {pragma}")
            _check_layout(path, database, (0, _LAYOUT))
        if transact(database, _create):
            # The first pages were written under a journal; a power cut must not bring that back.
            _sync(path.parent)
        transact(database, _look, "BEGIN")
    except BaseException:
        database.close()
        raise
    return database


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, for this process or another one.

    Raises:
        StoreError: the file is missing, damaged, or of another version of fedmill.
    """
    try:
        database = _connect(f"{path.resolve().as_uri()}?mode=ro")
    except sqlite3.DatabaseError as error:
        raise fault(path, error) from error
    try:
        with speaking():
            _check_layout(path, database, (_LAYOUT,))
    except sqlite3.DatabaseError as error:
        database.close()
        raise fault(path, error) from error
    except StoreError:
        database.close()
        raise
    return database


def _connect(name: str) -> sqlite3.Connection:
    database = sqlite3.connect(
        name,
        uri=name.startswith("file:"),
        timeout=30,
        isolation_level=None,
        check_same_thread=False,
    )
    database.text_factory = lenient
    return database


def _create(database: sqlite3.Connection) -> bool:
    """Make the tables if they are missing; whether they were."""
    if database.execute("PRAGMA user_version").fetchone()[0]:
        return False
    for statement in _SCHEMA.split(";\n"):
        database.execute(statement)
    database.execute(f"PRAGMA user_version = {_LAYOUT}")
    return True


def _sync(folder: Path) -> None:
    try:
        sync_folder(folder)
    except OSError as error:
        raise StoreError(f"{folder}: {error.strerror}", remedy="check the disk") from error


def _look(database: sqlite3.Connection) -> None:
    """Check a small file whole; of a large one walk to both ends of every table."""
    if database.execute("PRAGMA page_count").fetchone()[0] <= _CHECKED_PAGES:
        check_pages(database)
    database.execute("SELECT count(*) FROM tags").fetchone()
    for end in ("min", "max"):
        database.execute(f"SELECT {end}(first_ns) FROM chunks").fetchone()  # noqa: S608  min or max
        database.execute(
            f"SELECT length(data) FROM chunks WHERE id = (SELECT {end}(id) FROM chunks)"  # noqa: S608  min or max
        ).fetchone()


def _check_layout(path: Path, database: sqlite3.Connection, allowed: tuple[int, ...]) -> None:
    (layout,) = database.execute("PRAGMA user_version").fetchone()
    if layout not in allowed:
        raise StoreError(
            f"{path}: layout {layout} of recorded samples, this fedmill writes {_LAYOUT}",
            remedy="install the fedmill that wrote it, or move the file away",
        )
