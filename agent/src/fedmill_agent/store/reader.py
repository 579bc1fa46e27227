# SPDX-License-Identifier: Apache-2.0
"""Reading the window store, also while another process writes it."""

import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.store.database import Result, Work, fault, open_reader, transact
from fedmill_agent.store.dataset import Dataset, LabelRow, Task, Truth, WindowRow
from fedmill_agent.store.joining import truth_of
from fedmill_agent.store.splits import SPLITS, StoredSplit
from fedmill_agent.store.truths import POSITION, read_joining, read_truths

if TYPE_CHECKING:
    from fedmill_agent.store.report import LabelReport


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What one model version said of one window: ``outputs`` float32 (k,)."""

    run: str
    end_ns: int
    version: str
    outputs: NDArray[np.float32]
    scored_ns: int


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
        rows = self._read(
            lambda database: database.execute(
                "SELECT run, end_ns, version, outputs, scored_ns FROM predictions"
                " ORDER BY id DESC LIMIT ?",
                (limit,),
            ).fetchall()
        )
        return [
            Prediction(run, end_ns, version, np.frombuffer(outputs, "<f4"), scored_ns)
            for run, end_ns, version, outputs, scored_ns in reversed(rows)
        ]

    def _fact(self, name: str) -> int:
        return self._read(lambda database: fact(database, name))

    def _read(self, work: Work[Result]) -> Result:
        return self._run(work, "BEGIN")

    def _run(self, work: Work[Result], begin: str) -> Result:
        with self._lock:
            try:
                return transact(self._database, work, begin)
            except sqlite3.DatabaseError as error:
                raise fault(self._path, error) from error


def fact(database: sqlite3.Connection, name: str) -> int:
    """A remembered number, 0 if there is none."""
    row = database.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return 0 if row is None else int(row[0])


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
    shape = fact(database, "signals"), fact(database, "length")
    inputs = np.empty((len(chosen), *shape), np.float32)
    for place, window in zip(inputs, chosen, strict=True):
        row = database.execute("SELECT data FROM windows WHERE id = ?", (window.id,)).fetchone()
        place[:] = np.frombuffer(row[0], "<f4").reshape(shape)
    return Dataset(
        inputs=inputs,
        texts=truth.texts[wanted].tolist(),
        numbers=truth.numbers[wanted],
        runs=[window.run for window in chosen],
        units=[window.unit for window in chosen],
        end_ns=np.array([window.end_ns for window in chosen], np.int64),
    )
