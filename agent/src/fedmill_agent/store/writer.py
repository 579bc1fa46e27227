# SPDX-License-Identifier: Apache-2.0
"""The one connection that writes a window store: opened, healed where it is damaged, and shared."""

import sqlite3
from pathlib import Path

from fedmill_agent.store.bounds import Rules, advance
from fedmill_agent.store.database import (
    Result,
    Work,
    fault,
    is_damaged,
    open_writer,
    put_aside,
    transact,
)
from fedmill_agent.store.joining import Joining
from fedmill_agent.store.reader import WindowReader
from fedmill_agent.store.splits import SPLITS
from fedmill_agent.store.truths import remember_joining
from fedmill_shared.clock import Clock
from fedmill_shared.files import make_folder

ROW_BYTES = 256
"""Of a label, a unit, or a prediction beside its outputs, estimated high."""


class StoreWriter(WindowReader):
    """Owns the file of one job; threads may share it.

    A damaged file is set aside and a fresh one is started; ``set_aside`` then names the damaged
    one.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        max_bytes: int,
        max_age_seconds: float,
        rules: Rules | None = None,
        joining: Joining | None = None,
    ) -> None:
        self._clock = clock
        self._joining = joining or Joining()
        self._rules = rules or Rules()
        self._max_bytes = max_bytes
        self._max_age_ns = round(max_age_seconds * 1e9)
        self.set_aside: Path | None = None
        make_folder(path.parent)
        super().__init__(path, self._open(path))

    def _open(self, path: Path) -> sqlite3.Connection:
        try:
            try:
                database = open_writer(path)
            except sqlite3.DatabaseError as error:
                if not is_damaged(error):
                    raise
                self.set_aside = put_aside(path, self._clock.now_ns())
                database = open_writer(path)
            transact(database, self._begin_generations)
        except sqlite3.DatabaseError as error:
            raise fault(path, error) from error
        return database

    def _begin_generations(self, database: sqlite3.Connection) -> None:
        # From the clock, so that a fresh file never repeats a number that a reader remembers.
        for split in SPLITS:
            database.execute(
                "INSERT OR IGNORE INTO facts VALUES (?, ?)",
                (f"generation {split}", self._clock.now_ns()),
            )
        if remember_joining(database, self._joining):
            advance(database, SPLITS)

    def _write(self, work: Work[Result]) -> Result:
        return self._run(work, "BEGIN IMMEDIATE")

    def _run(self, work: Work[Result], begin: str) -> Result:
        with self._lock:
            try:
                return transact(self._database, work, begin)
            except sqlite3.DatabaseError as error:
                if not is_damaged(error):
                    raise fault(self._path, error) from error
            self._database.close()
            self.set_aside = put_aside(self._path, self._clock.now_ns())
            self._database = self._open(self._path)
            return super()._run(work, begin)

    def _most(self, row_bytes: int) -> int:
        """Rows that fit in the eighth of the bytes that each table beside the windows may fill."""
        return self._max_bytes // 8 // row_bytes
