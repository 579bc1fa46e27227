# SPDX-License-Identifier: Apache-2.0
"""Reading the window store, also while another process writes it."""

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.store import alarms, cursors, portions, predictions
from fedmill_agent.store.alarms import AlarmRow
from fedmill_agent.store.cursors import Published
from fedmill_agent.store.database import Result, Work, fault, open_reader, transact
from fedmill_agent.store.dataset import Dataset, LabelRow, Task, Truth, WindowRow
from fedmill_agent.store.joining import truth_of
from fedmill_agent.store.portions import Labelled
from fedmill_agent.store.predictions import Prediction
from fedmill_agent.store.ring import remembered
from fedmill_agent.store.splits import SPLITS, StoredSplit
from fedmill_agent.store.truths import POSITION, read_joining, read_truths

if TYPE_CHECKING:
    from fedmill_agent.store.judged import Judged
    from fedmill_agent.store.report import LabelReport


class WindowReader:
    """Owns a connection to a window store; every method sees one state of it.

    Every method raises StoreError if the file cannot be read.
    """

    def __init__(self, path: Path, database: sqlite3.Connection | None = None) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._database = database or open_reader(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def counts(self) -> dict[StoredSplit, int]:
        """Windows of each split, labelled or not."""
        found = self._read(_counts)
        return {split: found.get(split, 0) for split in SPLITS}

    def labelled(self, task: Task | None = None) -> dict[StoredSplit, int]:
        """Windows of each split that ``load`` would give."""
        return self._read(
            lambda database: {
                split: int(_joined(database, split)[1].known(task).sum()) for split in SPLITS
            }
        )

    def load(self, split: StoredSplit, *, task: Task | None = None) -> Dataset:
        """The labelled windows of ``split``, in the same order every time.

        ``task`` wants only labels of its kind.
        """
        return self._read(lambda database: _load(database, split, task))

    def labelled_windows(
        self, split: StoredSplit, *, task: Task | None = None, most: int
    ) -> Labelled:
        """Which windows ``load`` would give, without their values: ``most`` of them, evenly."""
        return self._read(
            lambda database: portions.evenly(*_joined(database, split), task, most=most)
        )

    def some_windows(self, split: StoredSplit, *, most: int) -> list[int]:
        """Ids of ``most`` windows of ``split``, labelled or not, evenly over all of them."""
        return self._read(lambda database: portions.some(database, split, most))

    def values(self, ids: Sequence[int]) -> tuple[list[int], NDArray[np.float32]]:
        """Values (n, signals, length) of those of the windows ``ids`` that are still there."""

        def work(database: sqlite3.Connection) -> tuple[list[int], NDArray[np.float32]]:
            return portions.values(database, ids, shape(database))

        return self._read(work)

    @property
    def portion(self) -> int:
        """How many of the windows may be in memory at a time."""
        signals, length = self._read(shape)
        return portions.together(4 * signals * length)

    def portions(self, ids: Sequence[int]) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
        """As ``values``, a portion at a time; the store is not held meanwhile."""
        portion = self.portion
        for first in range(0, len(ids), portion):
            there, values = self.values(ids[first : first + portion])
            if there:
                yield there, values

    def newest(self, split: StoredSplit, most: int) -> list[WindowRow]:
        """The newest ``most`` windows of ``split``, the oldest first, without their values."""
        from fedmill_agent.store.judged import newest  # noqa: PLC0415  few jobs need it

        return self._read(lambda database: newest(database, split, most))

    def judged(self, version: str, most: int) -> "list[Judged]":
        """Of the newest ``most`` predictions of ``version`` those whose truth is known."""
        from fedmill_agent.store.judged import judged  # noqa: PLC0415  few jobs need it

        return self._read(lambda database: judged(database, version, most))

    def generation(self, split: StoredSplit | None = None) -> int:
        """A number that changes whenever ``load`` may give something new (None: for any split)."""
        names = [f"generation {name}" for name in ([split] if split else SPLITS)]
        return sum(self._fact(name) for name in names)

    def label_report(self, now_ns: int | None = None) -> "LabelReport":
        """How the labels do at ``now_ns``, by default now."""
        from fedmill_agent.store.report import report  # noqa: PLC0415  for people, not the daemon

        moment = time.time_ns() if now_ns is None else now_ns

        def work(database: sqlite3.Connection) -> "LabelReport":
            windows = [row for split in SPLITS for row in window_rows(database, split)]
            windows.sort(key=lambda row: (row.run, row.end_ns, row.start_ns))
            rows = windows, label_rows(database), read_truths(database)
            return report(database, rows, read_joining(database), moment)

        return self._read(work)

    @property
    def labels_position(self) -> int:
        """How far the agent's labels have been taken over: a number that only it understands."""
        return self._fact(POSITION)

    @property
    def discarded(self) -> int:
        """Windows that were discarded to stay within bytes and age, ever."""
        return self._fact("discarded")

    def prediction_count(self) -> int:
        """Predictions that are stored."""
        return self._read(
            lambda database: int(database.execute("SELECT count(*) FROM predictions").fetchone()[0])
        )

    def predictions(self, limit: int = 1000) -> list[Prediction]:
        """The newest ``limit`` predictions, the oldest of them first."""
        return self._read(lambda database: predictions.newest(database, limit))

    def predictions_after(self, place: int, limit: int = 1000) -> list[Prediction]:
        """Up to ``limit`` predictions stored after the one with the id ``place``, in order."""
        return self._read(lambda database: predictions.after(database, place, limit))

    def alarms(self, limit: int = 1000) -> list[AlarmRow]:
        """The last ``limit`` turns of alarms, the oldest of them first."""
        return self._read(lambda database: alarms.newest(database, limit))

    def alarms_after(self, place: int, limit: int = 1000) -> list[AlarmRow]:
        """Up to ``limit`` turns of alarms after the one with the id ``place``, in order."""
        return self._read(lambda database: alarms.after(database, place, limit))

    def publication(self, table: Published) -> tuple[int | None, int]:
        """The id of the last row of ``table`` that was published, and how many are lost.

        None where the table is not published; lost are those that nobody will hear of, ever.
        """
        return self._read(lambda database: cursors.standing(database, table))

    def _fact(self, name: str) -> int:
        return self._read(lambda database: remembered(database, name))

    def _read(self, work: Work[Result]) -> Result:
        return self._run(work, "BEGIN")

    def _run(self, work: Work[Result], begin: str) -> Result:
        with self._lock:
            try:
                return transact(self._database, work, begin)
            except sqlite3.DatabaseError as error:
                raise fault(self._path, error) from error


def shape(database: sqlite3.Connection) -> tuple[int, int]:
    """Signals and samples of a window; 0 and 0 before the first one."""
    return remembered(database, "signals"), remembered(database, "length")


def run_end(database: sqlite3.Connection, name: str) -> int | None:
    """End (ns) of the last window of the run ``name`` and of those that begin with ``name/``."""
    bounds = name, f"{name}/", f"{name}0"  # "0" is the character after "/"
    query = "SELECT max(end_ns) FROM windows WHERE run = ? OR (run >= ? AND run < ?)"
    end_ns: int | None = database.execute(query, bounds).fetchone()[0]
    return end_ns


def _counts(database: sqlite3.Connection) -> dict[StoredSplit, int]:
    return dict(database.execute("SELECT split, count(*) FROM windows GROUP BY split"))


def window_rows(database: sqlite3.Connection, split: StoredSplit) -> list[WindowRow]:
    """Windows of one split by run and time."""
    rows = database.execute(
        "SELECT id, run, unit, start_ns, end_ns, target FROM windows WHERE split = ?"
        " ORDER BY run, end_ns, start_ns",
        (split,),
    )
    return [WindowRow(*row) for row in rows]


def label_rows(database: sqlite3.Connection, split: StoredSplit | None = None) -> list[LabelRow]:
    """Labels of the recordings that one split has windows of (None: any has), in their order."""
    rows = database.execute(
        "SELECT run, start_ns, end_ns, text, start_value, end_value FROM labels"
        " WHERE run IN (SELECT run FROM windows WHERE split = ifnull(?, split))"
        " ORDER BY arrived_ns",
        (split,),
    )
    return [LabelRow(*row) for row in rows]


def _joined(database: sqlite3.Connection, split: StoredSplit) -> tuple[list[WindowRow], Truth]:
    windows = window_rows(database, split)
    truths = read_truths(database) if windows else []
    return windows, truth_of(windows, label_rows(database, split), truths, read_joining(database))


def _load(database: sqlite3.Connection, split: StoredSplit, task: Task | None) -> Dataset:
    windows, truth = _joined(database, split)
    wanted = truth.known(task)
    chosen = [windows[i] for i in np.flatnonzero(wanted)]
    each_shape = shape(database)
    inputs = np.empty((len(chosen), *each_shape), np.float32)
    for place, window in zip(inputs, chosen, strict=True):
        row = database.execute("SELECT data FROM windows WHERE id = ?", (window.id,)).fetchone()
        place[:] = np.frombuffer(row[0], "<f4").reshape(each_shape)
    return Dataset(
        inputs=inputs,
        texts=truth.texts[wanted].tolist(),
        numbers=truth.numbers[wanted],
        runs=[window.run for window in chosen],
        units=[window.unit for window in chosen],
        end_ns=np.array([window.end_ns for window in chosen], np.int64),
    )
