# SPDX-License-Identifier: Apache-2.0
"""How far each update agrees with most of the others: the median of its cosines to them.

A cosine to the sum of the others is led by whoever makes that sum: a few agents of one mind turn
it against everybody else. The median of the cosines to single others is not, as long as most are
honest. In one round it says little where plants differ; over some rounds what honest agents have
in common adds up, and so does what is turned against it. So it is averaged over rounds, by
``rounds.quarantine``. Measured on bearing data with 20 plants that know five faults each, four of
them wrong: after five rounds, those that send their update backwards, or labels in reverse, lie
four to ten spreads below the middle, honest ones never more than three.

Only the first ``COLUMNS`` of the model are compared: those of the backbone, which serves all
classes, so that what it learns from any of them is alike. The layers behind it hold what is
particular to a class, and plants that know different ones pull them apart.

The columns are taken as an update is opened for the sum: to open all a second time would cost as
much as the sum itself.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fedmill_coordinator.aggregation.base import Vector
from fedmill_coordinator.aggregation.robust.base import Numbers
from fedmill_shared.codec.base import BLOCK, Payload

COLUMNS = 32_768
VALUES = 1 << 22
"""Values that are held at a time, of all updates together; fewer columns of very many updates."""
LEAST_OTHERS = 2
_ROWS = 1024  # updates that are compared with all others at a time
_SMALLEST = 1e-30
"""Square of a length down to which float32 sums of squares are exact enough."""

Opener = Callable[[], Payload]


class Directions:
    """The first columns of each update of a round, scaled to length 1; zeros stay zeros.

    They are taken when an update is opened for the first time, by whichever thread.
    """

    def __init__(self, openers: Sequence[Opener], elements: int) -> None:
        """``openers`` (n,) of the updates, each of a model of ``elements``."""
        count = max(1, len(openers))
        width = min(elements, COLUMNS, max(BLOCK, VALUES // count // BLOCK * BLOCK))
        self._elements = elements
        self._openers = list(openers)
        self._rows = np.zeros((len(openers), width), np.float32)
        self._taken = np.zeros(len(openers), np.bool_)

    @property
    def openers(self) -> list[Opener]:
        """What opens each update (n,), and takes its direction."""
        return [partial(self._open, number) for number in range(len(self._openers))]

    def rows(self) -> Vector:
        """Directions (n, width) of all, after opening those that nobody has opened."""
        for number in np.flatnonzero(~self._taken):
            self._open(int(number))
        return self._rows

    def _open(self, number: int) -> Payload:
        payload = self._openers[number]()
        # Whoever adds an update of another length says so.
        if not self._taken[number] and payload.elements == self._elements:
            _read_unit(payload, self._rows[number])
            self._taken[number] = True
        return payload


def agreement(rows: Vector, counts: NDArray[np.bool_]) -> Numbers:
    """Agreement (n,) of each update with those that count, -1 to 1.

    NaN where fewer than two others count. An update without a length agrees with nobody: 0.

    Args:
        rows: (n, width) directions of the updates.
        counts: (n,) which of them the others are compared with.
    """
    found = np.full(len(rows), np.nan)
    if np.count_nonzero(counts) <= LEAST_OTHERS:
        return found
    others = rows if counts.all() else rows[counts]
    places = np.cumsum(counts) - 1
    for first in range(0, len(rows), _ROWS):
        some = slice(first, first + _ROWS)
        # One and the same array on both sides, where it can be: BLAS then makes half of it.
        cosines = (rows if len(rows) <= _ROWS else rows[some]) @ others.T
        # Rounded, so that the last digits of a matrix product decide nothing.
        np.round(cosines, 5, out=cosines)
        own = np.flatnonzero(counts[some])
        cosines[own, places[some][own]] = np.inf
        cosines.sort(axis=1)
        found[some] = _middle(cosines, len(others) - counts[some])
    return found


def _middle(ordered: Vector, lengths: NDArray[np.int64]) -> Numbers:
    """Medians (n,) of the first ``lengths`` (n,) of each row of ``ordered`` (n, m)."""
    rows = np.arange(len(ordered))
    low = ordered[rows, (lengths - 1) // 2].astype(np.float64)
    return np.asarray((low + ordered[rows, lengths // 2]) / 2)


def _read_unit(payload: Payload, row: Vector) -> None:
    """Write the first elements of ``payload`` to ``row``, scaled to length 1; zeros stay zeros."""
    payload.read(0, row)
    with np.errstate(over="ignore"):
        square = float(np.einsum("i,i->", row, row))
    if _SMALLEST < square < math.inf:
        row *= np.float32(1 / math.sqrt(square))
        return
    # Beyond what float32 can square, or as good as nothing.
    exact = row.astype(np.float64)
    square = float(np.einsum("i,i->", exact, exact))
    if square > 0:
        np.multiply(exact, 1 / math.sqrt(square), out=row, casting="same_kind")
