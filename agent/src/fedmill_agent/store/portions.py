# SPDX-License-Identifier: Apache-2.0
"""Labelled windows a few at a time, for whoever has no memory for all of them."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.store.dataset import Task, Truth, WindowRow

WINDOWS = 32
"""That are in memory at a time."""
BYTES = 1 << 20
"""Of them, as far as one does not have more."""


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Windows with their truth and without their values.

    Attributes:
        ids: of the windows.
        texts: class of each, empty where its label is a number.
        numbers: float64 (n,), NaN where the label is a class.
    """

    ids: list[int]
    texts: list[str]
    numbers: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.ids)


def together(window_bytes: int) -> int:
    """How many windows of so many bytes may be in memory at a time."""
    return max(1, min(WINDOWS, BYTES // max(1, window_bytes)))


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` places of ``count``, evenly over all of them."""
    if count <= most:
        return list(range(count))
    return [place * count // most for place in range(most)]


def evenly(windows: Sequence[WindowRow], truth: Truth, task: Task | None, *, most: int) -> Labelled:
    """At most ``most`` of the windows that have a label for ``task``, evenly over all of them."""
    known = np.flatnonzero(truth.known(task))
    known = known[spread(len(known), most)]
    return Labelled(
        ids=[windows[place].id for place in known.tolist()],
        texts=truth.texts[known].tolist(),
        numbers=truth.numbers[known],
    )


def some(database: sqlite3.Connection, split: str, most: int) -> list[int]:
    """Ids of at most ``most`` windows of ``split``, evenly over all of them in their order."""
    query = "SELECT id FROM windows WHERE split = ? ORDER BY run, end_ns, start_ns"
    found = [each for (each,) in database.execute(query, (split,))]
    return [found[place] for place in spread(len(found), most)]


def values(
    database: sqlite3.Connection, ids: Sequence[int], shape: tuple[int, int]
) -> tuple[list[int], NDArray[np.float32]]:
    """Values float32 (n, signals, length) of those of ``ids`` that are still there, in order."""
    query = "SELECT id, data FROM windows WHERE id IN (SELECT value FROM json_each(?))"
    found = dict(database.execute(query, (str(list(ids)),)))
    there = [each for each in ids if each in found]
    stacked = np.empty((len(there), *shape), np.float32)
    for place, each in zip(stacked, there, strict=True):
        place[:] = np.frombuffer(found[each], "<f4").reshape(shape)
    return there, stacked
