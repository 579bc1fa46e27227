# SPDX-License-Identifier: Apache-2.0
"""All labels that an agent was given, for the jobs that it has and for those that come later.

One SQLite file beside the jobs. Of each identity it holds the record with the largest rank. Every
change has a number that grows, so that each job follows from where it was, also after a restart.
Nothing is acknowledged before it is on the disk (``synchronous=FULL``).
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

import msgspec

from fedmill_agent.labels.record import Entry, LabelRecord
from fedmill_agent.store.database import (
    PRAGMAS,
    Result,
    Work,
    check_pages,
    fault,
    is_damaged,
    put_aside,
    speaking,
    transact,
)
from fedmill_shared.clock import Clock
from fedmill_shared.errors import StoreError
from fedmill_shared.files import make_folder
from fedmill_shared.messages import UNREADABLE

MOST_LABELS = 100_000
"""Of more labels the ones that changed longest ago go; jobs that took them over keep them."""
PORTION = 5_000
_VERSION = 1
_SCHEMA = """
CREATE TABLE labels (seq INTEGER PRIMARY KEY, job TEXT NOT NULL, id TEXT NOT NULL,
    record BLOB NOT NULL, rank BLOB NOT NULL, arrived_ns INTEGER NOT NULL,
    changes INTEGER NOT NULL, UNIQUE (job, id))"""
_COLUMNS = "seq, record, arrived_ns, changes"

_decoder = msgspec.json.Decoder(LabelRecord)


class LabelBook:
    """Owns the file; threads may share it.

    A damaged file is set aside and a fresh one is started; ``set_aside`` then names it. Every
    method raises StoreError if the file cannot be read or written.
    """

    def __init__(self, path: Path, clock: Clock, *, most: int = MOST_LABELS) -> None:
        """Open the file, or begin it."""
        self._path = path
        self._clock = clock
        self._most = most
        self._lock = threading.Lock()
        self.set_aside: Path | None = None
        make_folder(path.parent)
        try:
            try:
                self._database = self._open()
            except sqlite3.DatabaseError as error:
                if not is_damaged(error):
                    raise
                self._begin_anew()
            self._newest = _newest(self._database)
        except sqlite3.DatabaseError as error:
            raise fault(path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    @property
    def newest(self) -> int:
        """Number of the last change; 0 where there is none."""
        return self._newest

    def take(self, records: Iterable[LabelRecord]) -> int:
        """Keep what is new, all in one transaction; how many changed something."""
        with self._lock:
            changed, self._newest = self._run(lambda database: self._take(database, records))
        return changed

    def since(self, position: int, job: str) -> tuple[list[Entry], int]:
        """The next changes behind ``position`` that concern ``job``, and how far they go.

        At most 5000 are given at a time.
        """
        with self._lock:
            rows = self._run(
                lambda database: database.execute(
                    f"SELECT {_COLUMNS} FROM labels"  # noqa: S608  names of ours
                    " WHERE seq > ? AND job IN ('', ?) ORDER BY seq LIMIT ?",
                    (position, job, PORTION),
                ).fetchall()
            )
            reached = rows[-1][0] if len(rows) == PORTION else self._newest
        return list(_entries(rows)), reached

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(
            self._path, timeout=30, isolation_level=None, check_same_thread=False
        )
        try:
            with speaking():
                for pragma in (*PRAGMAS, "synchronous=FULL", f"journal_size_limit={1 << 20}"):
                    database.execute(f"PRAGMA {pragma}")
                _check_version(self._path, database)
                transact(database, _create)
                check_pages(database)
        except BaseException:
            database.close()
            raise
        return database

    def _run(self, work: Work[Result]) -> Result:
        try:
            try:
                return transact(self._database, work, "BEGIN IMMEDIATE")
            except sqlite3.DatabaseError as error:
                if not is_damaged(error):
                    raise
            self._database.close()
            self._begin_anew()
            return transact(self._database, work, "BEGIN IMMEDIATE")
        except sqlite3.DatabaseError as error:
            raise fault(self._path, error) from error

    def _begin_anew(self) -> None:
        self.set_aside = put_aside(self._path, self._clock.now_ns())
        self._database = self._open()

    def _take(
        self, database: sqlite3.Connection, records: Iterable[LabelRecord]
    ) -> tuple[int, int]:
        now_ns, changed = self._clock.now_ns(), 0
        # From the clock, so that a fresh file never repeats a number that a job remembers.
        number = max(now_ns, _newest(database) + 1)
        for told in records:
            held = database.execute(
                "SELECT rank, arrived_ns, changes, record FROM labels WHERE job = ? AND id = ?",
                (told.job, told.id),
            ).fetchone()
            record = _ordered(told, None if held is None else held[3], number)
            if held is not None and held[0] >= record.rank:
                continue
            arrived_ns, changes = (now_ns, 0) if held is None else (held[1], held[2] + 1)
            row = (msgspec.json.encode(record), record.rank, arrived_ns, changes)
            database.execute(
                "REPLACE INTO labels (seq, job, id, record, rank, arrived_ns, changes)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (number, record.job, record.id, *row),
            )
            number += 1
            changed += 1
        if changed:
            (count,) = database.execute("SELECT count(*) FROM labels").fetchone()
            if count > self._most:
                database.execute(
                    "DELETE FROM labels WHERE seq IN (SELECT seq FROM labels ORDER BY seq LIMIT ?)",
                    (count - self._most,),
                )
        return changed, _newest(database)


def read_book(path: Path, most: int) -> tuple[int, Sequence[Entry]]:
    """How many labels the file holds, and the ``most`` newest changes, the oldest of them first.

    Raises:
        StoreError: it cannot be read.
    """
    if not path.exists():
        return 0, []
    try:
        database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=30)
        try:
            _check_version(path, database)
            with speaking():
                rows = database.execute(
                    f"SELECT {_COLUMNS} FROM labels ORDER BY seq DESC LIMIT ?",  # noqa: S608  names of ours
                    (most,),
                ).fetchall()
            (count,) = database.execute("SELECT count(*) FROM labels").fetchone()
        finally:
            database.close()
    except sqlite3.DatabaseError as error:
        raise fault(path, error) from error
    return int(count), list(_entries(reversed(rows)))


def _ordered(record: LabelRecord, held: bytes | None, now_ns: int) -> LabelRecord:
    """``record``; where it tells neither revision nor time, that of its arrival.

    A machine that just says something else means that it was wrong before. What it says again is
    what was ``held``, and changes nothing.
    """
    if record.revision or record.made_ns is not None:
        return record
    known = None if held is None else _record(held)
    if known is not None and msgspec.structs.replace(known, made_ns=None) == record:
        return known
    return msgspec.structs.replace(record, made_ns=now_ns)


def _entries(rows: Iterable[tuple[int, bytes, int, int]]) -> Iterator[Entry]:
    """What can be read of ``rows``: a damaged label costs no other."""
    for _, text, arrived_ns, changes in rows:
        record = _record(text)
        if record is not None:
            yield Entry(record, arrived_ns, changes)


def _record(text: bytes) -> LabelRecord | None:
    try:
        return _decoder.decode(text)
    except UNREADABLE:
        return None


def _newest(database: sqlite3.Connection) -> int:
    query = "SELECT ifnull(max(CAST(seq AS INTEGER)), 0) FROM labels"
    return int(database.execute(query).fetchone()[0])


def _create(database: sqlite3.Connection) -> None:
    if database.execute("PRAGMA user_version").fetchone()[0] == 0:
        database.execute(_SCHEMA)
        database.execute(f"PRAGMA user_version = {_VERSION}")


def _check_version(path: Path, database: sqlite3.Connection) -> None:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version not in (0, _VERSION):
        raise StoreError(
            f"{path}: layout {version} of the labels, this fedmill writes {_VERSION}",
            remedy="install the fedmill that wrote it, or move the file away",
        )
