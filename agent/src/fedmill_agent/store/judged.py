# SPDX-License-Identifier: Apache-2.0
"""Predictions whose truth has come since: the honest error of a model that serves."""

import sqlite3
from dataclasses import dataclass

import numpy as np
from msgspec import json
from numpy.typing import NDArray

from fedmill_agent.store.dataset import LabelRow, WindowRow
from fedmill_agent.store.joining import truth_of
from fedmill_agent.store.truths import read_joining, read_truths

_QUERY = """
SELECT p.id, p.run, p.unit, p.start_ns, p.end_ns, w.target, p.outputs
FROM predictions p LEFT JOIN windows w
ON w.run = p.run AND w.end_ns = p.end_ns AND w.start_ns = p.start_ns
WHERE p.version = ? ORDER BY p.id DESC LIMIT ?
"""
_LABELS = """
SELECT run, start_ns, end_ns, text, start_value, end_value FROM labels
WHERE run IN (SELECT value FROM json_each(?)) ORDER BY arrived_ns
"""


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What was said of a window before anybody knew, and what was true.

    Attributes:
        id: place of the prediction in the store.
        run: of the window.
        outputs: float32 (k,), as the model gave them.
        text: the true class, empty where the truth is a number.
        number: the true number, NaN where it is a class.
    """

    id: int
    run: str
    outputs: NDArray[np.float32]
    text: str
    number: float


def judged(database: sqlite3.Connection, version: str, most: int) -> list[Judged]:
    """Of the newest ``most`` predictions of ``version`` those whose truth is known, oldest first.

    A window that was not stored is judged by labels that came by themselves only.
    """
    found = database.execute(_QUERY, (version, most)).fetchall()
    found.sort(key=lambda row: (row[1], row[4], row[3]))
    windows = [WindowRow(*row[:6]) for row in found]
    if not windows:
        return []
    names = json.encode(sorted({window.run for window in windows})).decode()
    labels = [LabelRow(*row) for row in database.execute(_LABELS, (names,))]
    truth = truth_of(windows, labels, read_truths(database), read_joining(database))
    known = np.flatnonzero(truth.known(None)).tolist()
    made = [
        Judged(
            found[place][0],
            found[place][1],
            np.frombuffer(found[place][6], "<f4"),
            str(truth.texts[place]),
            float(truth.numbers[place]),
        )
        for place in known
    ]
    return sorted(made, key=lambda each: each.id)


def newest(database: sqlite3.Connection, split: str, most: int) -> list[WindowRow]:
    """The newest ``most`` windows of ``split``, the oldest of them first, without their values."""
    rows = database.execute(
        "SELECT id, run, unit, start_ns, end_ns, target FROM windows WHERE split = ?"
        " ORDER BY id DESC LIMIT ?",
        (split, most),
    ).fetchall()
    return [WindowRow(*row) for row in reversed(rows)]
