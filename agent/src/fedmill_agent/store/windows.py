# SPDX-License-Identifier: Apache-2.0
"""Writing the window store: what an agent keeps of its own data, bounded in bytes and age."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.sources.base import LabelInterval
from fedmill_agent.store import bounds
from fedmill_agent.store.bounds import advance
from fedmill_agent.store.outcomes import OutcomeStore
from fedmill_agent.store.reader import WindowReader, run_end, shape
from fedmill_agent.store.ring import remembered
from fedmill_agent.store.splits import SPLITS, Choice, StoredSplit
from fedmill_agent.store.truths import POSITION, add_truths, discard_truths
from fedmill_agent.store.writer import ROW_BYTES
from fedmill_shared.errors import DataError, SchemaError
from fedmill_shared.signals.windows import FARTHEST_NS, Window

if TYPE_CHECKING:
    from fedmill_agent.labels.record import Entry

_OVERHEAD = 512  # bytes of a window's row and index entries beside its values, estimated high
_BEGINNING = -(1 << 62)
_LARGEST = float(np.finfo(np.float32).max)

Target = tuple[str, int, int, float]
"""Run, start and end of a window, and the number that a forecast of it should have been."""


class WindowStore(OutcomeStore):
    """Owns the file of one job's windows, labels and predictions; threads may share it.

    The file is bounded to about ``max_bytes`` plus one call: the oldest windows are discarded,
    whatever their split, and so are windows that were stored more than ``max_age_seconds`` ago. A
    damaged file is set aside, with all labels and decisions in it, and a fresh one is started;
    ``set_aside`` then names the damaged one.

    Every method raises StoreError if the file cannot be read or written.
    """

    @staticmethod
    def reader(path: Path) -> WindowReader:
        """The store at ``path`` for another process, which only reads."""
        return WindowReader(path)

    def add(self, windows: Sequence[Window], split: StoredSplit) -> int:
        """Store ``windows`` in one transaction; the number that was new.

        A window that is already there (same run, start and end) stays as it is, and one with a
        value that is not finite is left out.

        Raises:
            SchemaError: the windows have another shape than the ones in the store.
        """
        good = [window for window in windows if np.isfinite(window.values).all()]
        return self._write(lambda database: self._add(database, good, split)) if good else 0

    def add_labels(self, labels: Sequence[LabelInterval]) -> None:
        """Store ground truth in one transaction; it may come before or after its windows.

        Raises:
            DataError: a label ends before it starts, lies more than 230 years from 1970, or has a
                value that is not a number of 32 bits.
        """
        for label in labels:
            numbers = abs(label.start_value) <= _LARGEST and abs(label.end_value) <= _LARGEST
            placed = -FARTHEST_NS <= label.start_ns <= label.end_ns <= FARTHEST_NS
            if not placed or not numbers:
                raise DataError(
                    f"run {label.run!r}: label {label.text or label.start_value!r} from "
                    f"{label.start_ns} to {label.end_ns} ns is not usable",
                    remedy="correct it at its source",
                )
        if labels:
            self._write(lambda database: self._add_labels(database, labels))

    def add_truths(
        self, entries: Sequence["Entry"], refused: Sequence[bool], *, position: int
    ) -> None:
        """Store labels that came by themselves, in any order and any number of times.

        ``refused`` tells which of them the job cannot use; ``position`` is remembered with them.
        """
        self._write(lambda database: self._add_truths(database, entries, refused, position))

    def set_targets(self, targets: Sequence[Target]) -> None:
        """What became of the signal that a job forecasts, after windows that are stored already."""
        if targets:
            self._write(lambda database: _set_targets(database, targets))

    def begin_backfill(self, source: str, run: str) -> int | None:
        """From which source time (ns) on the recording of a live source is wanted; None: it is not.

        It is wanted while there is no window of ``run``, and once begun until ``end_backfill``,
        also after a restart: then from where the windows end.
        """

        def work(database: sqlite3.Connection) -> int | None:
            end_ns = run_end(database, run)
            if end_ns is not None and not remembered(database, f"backfill {source}"):
                return None
            database.execute("REPLACE INTO facts VALUES (?, 1)", (f"backfill {source}",))
            return _BEGINNING if end_ns is None else end_ns + 1

        return self._write(work)

    def end_backfill(self, source: str) -> None:
        """All that was recorded of ``source`` was given."""
        self._write(
            lambda database: database.execute(
                "DELETE FROM facts WHERE name = ?", (f"backfill {source}",)
            )
        )

    def decide(self, kind: str, name: str, choose: Choice) -> StoredSplit:
        """The split of the unit or run ``name``; ``choose`` is asked the first time, then never.

        It is given the number of units of this ``kind`` in each split.
        """

        def work(database: sqlite3.Connection) -> StoredSplit:
            counts = database.execute(
                "SELECT split, count(*) FROM units WHERE kind = ? GROUP BY split", (kind,)
            )
            return self._add_unit(database, kind, name, choose(dict(counts)), 0)[0]

        row = self._read(lambda database: _unit(database, kind, name))
        return self._write(work) if row is None else row[0]

    def origin(self, run: str, start_ns: int) -> int:
        """The ``start_ns`` that was given for ``run`` the first time."""

        def work(database: sqlite3.Connection) -> int:
            return self._add_unit(database, "origin", run, "train", start_ns)[1]

        row = self._read(lambda database: _unit(database, "origin", run))
        return self._write(work) if row is None else row[1]

    def _add(self, database: sqlite3.Connection, windows: list[Window], split: StoredSplit) -> int:
        _check_shape(database, windows)
        now_ns = self._clock.now_ns()
        row_bytes = windows[0].values.nbytes + _OVERHEAD
        bounds.discard_before(database, now_ns - self._max_age_ns)
        most = bounds.limit(database, self._max_bytes, self._rules)
        if self._rules.discard == "newest":
            windows = bounds.admitted(database, windows, most, row_bytes)
        bounds.make_room(database, most, len(windows) * row_bytes, row_bytes, self._rules)
        new = database.executemany(
            "INSERT OR IGNORE INTO windows"
            " (run, unit, split, start_ns, end_ns, good_share, stored_ns, data)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (w.run, w.unit, split, w.start_ns, w.end_ns, w.good_share, now_ns, _bytes(w.values))
                for w in windows
            ),
        ).rowcount
        bounds.make_room(database, most, 0, row_bytes, self._rules)
        if new > 0:
            advance(database, [split])
        return max(0, new)

    def _add_labels(self, database: sqlite3.Connection, labels: Sequence[LabelInterval]) -> None:
        now_ns = self._clock.now_ns()
        # Never twice the same and never back, so that arrival tells which of two labels holds.
        first_ns = max(now_ns, remembered(database, "arrived_ns") + 1)
        database.executemany(
            "INSERT INTO labels"
            " (run, start_ns, end_ns, text, start_value, end_value, arrived_ns)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET arrived_ns = excluded.arrived_ns",
            (
                (la.run, la.start_ns, la.end_ns, la.text, la.start_value, la.end_value, arrived_ns)
                for arrived_ns, la in enumerate(labels, first_ns)
            ),
        )
        database.execute(
            "REPLACE INTO facts VALUES ('arrived_ns', ?)", (first_ns + len(labels) - 1,)
        )
        bounds.discard_labels(database, self._most(ROW_BYTES), now_ns - self._max_age_ns)
        runs = {label.run for label in labels}
        advance(database, [split for split in SPLITS if _touched(database, split, runs)])

    def _add_truths(
        self,
        database: sqlite3.Connection,
        entries: Sequence["Entry"],
        refused: Sequence[bool],
        position: int,
    ) -> None:
        changed = add_truths(database, entries, refused)
        database.execute("REPLACE INTO facts VALUES (?, ?)", (POSITION, position))
        before_ns = self._clock.now_ns() - self._max_age_ns
        if discard_truths(database, self._most(ROW_BYTES), before_ns, len(entries)) or changed:
            advance(database, SPLITS)

    def _add_unit(
        self,
        database: sqlite3.Connection,
        kind: str,
        name: str,
        split: StoredSplit,
        origin_ns: int,
    ) -> tuple[StoredSplit, int]:
        number = database.execute(
            "INSERT INTO units (kind, name, split, origin_ns) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            (kind, name, split, origin_ns),
        ).lastrowid
        if number is not None and number % 256 == 0:  # rarely: it reads the names of all windows
            bounds.discard_units(database, self._most(ROW_BYTES))
        return _unit(database, kind, name) or (split, origin_ns)


def _bytes(values: NDArray[np.float32]) -> bytes:
    return values.astype("<f4").tobytes()


def _unit(database: sqlite3.Connection, kind: str, name: str) -> tuple[StoredSplit, int] | None:
    row: tuple[StoredSplit, int] | None = database.execute(
        "SELECT split, origin_ns FROM units WHERE kind = ? AND name = ?", (kind, name)
    ).fetchone()
    return row


def _set_targets(database: sqlite3.Connection, targets: Sequence[Target]) -> None:
    changed = set()
    for run, start_ns, end_ns, value in targets:
        row = database.execute(
            "UPDATE windows SET target = ? WHERE run = ? AND end_ns = ? AND start_ns = ?"
            " AND target IS NOT ? RETURNING split",
            (value, run, end_ns, start_ns, value),
        ).fetchone()
        changed |= {row[0]} if row else set()
    advance(database, changed)


def _touched(database: sqlite3.Connection, split: StoredSplit, runs: set[str]) -> bool:
    """Whether ``split`` has a window of one of ``runs``."""
    query = "SELECT 1 FROM windows WHERE split = ? AND run = ? LIMIT 1"
    return any(database.execute(query, (split, run)).fetchone() for run in runs)


def _check_shape(database: sqlite3.Connection, windows: list[Window]) -> None:
    known = shape(database)
    wanted = windows[0].values.shape if known == (0, 0) else known
    for window in windows:
        if window.values.shape != wanted:
            raise SchemaError(
                f"run {window.run!r}: a window of {window.values.shape} signals and samples cannot "
                f"join windows of {wanted}",
                remedy="the job's signals or window changed: use another store, or delete this one",
            )
    if known == (0, 0):
        database.execute(
            "INSERT INTO facts VALUES ('signals', ?), ('length', ?)", (wanted[0], wanted[1])
        )
