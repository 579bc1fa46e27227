# SPDX-License-Identifier: Apache-2.0
"""The table of predictions: what a model version said of one window, and how sure that is."""

import sqlite3
from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Struct, json
from numpy.typing import NDArray

from fedmill_shared.messages import UNREADABLE

_COLUMNS = (
    "run, end_ns, version, outputs, scored_ns, unit, start_ns, good_share, number,"
    " confidence, low, high, plausible"
)
_CHANGING = (
    "outputs",
    "scored_ns",
    "good_share",
    "number",
    "confidence",
    "low",
    "high",
    "plausible",
)


class Prediction(Struct, frozen=True, eq=False):
    """What one model version said of one window.

    Attributes:
        run: the recording, batch or life.
        end_ns: source time of the window's last sample, ns UTC.
        version: digest of the weights that scored.
        outputs: float32 (k,), a logit for each class or numbers in the label's unit.
        scored_ns: when, by the agent's clock, ns UTC.
        unit: the machine or part; empty where the prediction is older than these fields.
        start_ns: source time of the window's first sample, ns UTC.
        good_share: share of the window's values that were good before any repair, 0 to 1.
        number: of the version: how many came before it.
        confidence: probability of the class, the plain one where nothing was calibrated, or of the
            interval to hold the number; None where nothing is claimed.
        low: lower end of the interval, in the label's unit; None where there is none.
        high: its upper end.
        plausible: classes that cannot be ruled out, perhaps none; None where that is not known.
        id: its place in the store, growing; 0 before it is stored.
    """

    run: str
    end_ns: int
    version: str
    outputs: NDArray[np.float32]
    scored_ns: int
    unit: str = ""
    start_ns: int = 0
    good_share: float = 1.0
    number: int = 0
    confidence: float | None = None
    low: float | None = None
    high: float | None = None
    plausible: tuple[str, ...] | None = None
    id: int = 0

    def class_of(self, classes: Sequence[str]) -> str | None:
        """Which of the ``classes`` of the logits is predicted; None where one is no number."""
        known = bool(np.isfinite(self.outputs).all())
        return classes[int(self.outputs.argmax())] if known else None

    @property
    def value(self) -> float | None:
        """The number that is predicted, in the label's unit; None where it is none."""
        number = float(self.outputs[0])
        return number if np.isfinite(number) else None


def insert(database: sqlite3.Connection, predictions: Sequence[Prediction]) -> None:
    """Add predictions; the same window and version again changes what was said of it."""
    marks = ", ".join("?" * (_COLUMNS.count(",") + 1))
    changes = ", ".join(f"{name} = excluded.{name}" for name in _CHANGING)
    database.executemany(
        f"INSERT INTO predictions ({_COLUMNS}) VALUES ({marks})"  # noqa: S608  names of ours
        f" ON CONFLICT DO UPDATE SET {changes}",
        (_row(each) for each in predictions),
    )


def newest(database: sqlite3.Connection, limit: int) -> list[Prediction]:
    """The newest ``limit`` predictions, the oldest of them first."""
    query = f"SELECT id, {_COLUMNS} FROM predictions ORDER BY id DESC LIMIT ?"  # noqa: S608  ours
    rows = database.execute(query, (limit,)).fetchall()
    return [_prediction(row) for row in reversed(rows)]


def after(database: sqlite3.Connection, place: int, limit: int) -> list[Prediction]:
    """Up to ``limit`` predictions that were stored after the one with the id ``place``."""
    query = f"SELECT id, {_COLUMNS} FROM predictions WHERE id > ? ORDER BY id LIMIT ?"  # noqa: S608
    return [_prediction(row) for row in database.execute(query, (place, limit))]


def row_bytes(predictions: Sequence[Prediction], overhead: int) -> int:
    """Bytes that the longest of ``predictions`` takes, with ``overhead`` of its row."""
    return overhead + max(
        each.outputs.nbytes + len(each.unit) + sum(map(len, each.plausible or ()))
        for each in predictions
    )


def _row(each: Prediction) -> tuple[object, ...]:
    outputs = each.outputs.astype("<f4").tobytes()
    plausible = None if each.plausible is None else json.encode(each.plausible).decode()
    said = each.run, each.end_ns, each.version, outputs, each.scored_ns, each.unit, each.start_ns
    sure = each.confidence, each.low, each.high, plausible
    return (*said, each.good_share, each.number, *sure)


def _prediction(row: tuple[Any, ...]) -> Prediction:
    place, run, end_ns, version, outputs, scored_ns, unit, start_ns, *rest = row
    good_share, number, confidence, low, high, plausible = rest
    return Prediction(
        run=run,
        end_ns=end_ns,
        version=version,
        outputs=np.frombuffer(outputs, "<f4"),
        scored_ns=scored_ns,
        unit=unit,
        start_ns=start_ns,
        good_share=good_share,
        number=number,
        confidence=confidence,
        low=low,
        high=high,
        plausible=None if plausible is None else _plausible(plausible),
        id=place,
    )


def _plausible(text: str) -> tuple[str, ...] | None:
    """Classes as they were stored; None where that cannot be read any more."""
    try:
        return tuple(json.decode(text, type=list[str]))
    except UNREADABLE:  # one wrong bit of a file costs what it is in, and not all that come with it
        return None
