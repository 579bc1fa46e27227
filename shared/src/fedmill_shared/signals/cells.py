# SPDX-License-Identifier: Apache-2.0
"""Tables of counts, means and squared deviations over a grid: the arithmetic under ``moments``."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

FLOOR = 8
"""Samples without which a cell does not stand alone."""
LARGEST = 1e30
"""Values beyond are no measurement; squares and sums of all others stay finite."""
_KEY = 1 << 31


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """C grid cells over K regime signals, with moments of S signals.

    Attributes:
        keys: int64 (C, K), the cell's place in the grid.
        count: float64 (C,), samples; whole numbers below 2**53.
        mean: float64 (C, S).
        m2: float64 (C, S), sum of squared deviations from the mean.
    """

    keys: NDArray[np.int64]
    count: NDArray[np.float64]
    mean: NDArray[np.float64]
    m2: NDArray[np.float64]

    @classmethod
    def empty(cls, regimes: int, signals: int) -> Self:
        """No cells of these widths."""
        none = np.zeros((0, signals))
        return cls(np.zeros((0, regimes), np.int64), np.zeros(0), none, none)

    def grouped(self, group: NDArray[np.intp]) -> "Cells":
        """Cells with the same number in ``group`` (C,), which counts from 0, become one.

        It keeps the key of the first of them. The mean is taken relative to the first one's, so
        that a constant signal stays exactly constant.
        """
        _, first = np.unique(group, return_index=True)
        count = _sums(group, self.count)
        pivot = self.mean[first]
        mean, m2 = np.empty_like(pivot), np.empty_like(pivot)
        for signal in range(pivot.shape[1]):
            values = self.mean[:, signal]
            offset = values - pivot[group, signal]
            mean[:, signal] = pivot[:, signal] + _sums(group, self.count * offset) / count
            deviation = values - mean[group, signal]
            m2[:, signal] = _sums(group, self.m2[:, signal] + self.count * deviation**2)
        return Cells(self.keys[first], count, mean, m2)


def gather(
    samples: NDArray[np.float64], regime_positions: Sequence[int], resolution: Sequence[float]
) -> Cells:
    """Each sample of ``samples`` (n, signals) as a cell of its own.

    Values ``resolution`` (K,) apart are neighbours in the grid.
    """
    steps = np.array(resolution, np.float64)[: len(regime_positions)]
    places = np.rint(samples[:, list(regime_positions)] / steps)
    keys = np.clip(places, -_KEY, _KEY).astype(np.int64)
    return Cells(keys, np.ones(len(samples)), samples, np.zeros_like(samples))


def pool(tables: Sequence[Cells]) -> Cells:
    """One table in the order of the keys, with the moments of everything behind ``tables``."""
    keys = np.concatenate([table.keys for table in tables])
    joined = Cells(
        keys,
        np.concatenate([table.count for table in tables]),
        np.concatenate([table.mean for table in tables]),
        np.concatenate([table.m2 for table in tables]),
    )
    if keys.shape[1] == 0:
        return joined.grouped(np.zeros(len(keys), np.intp))
    _, group = np.unique(keys, axis=0, return_inverse=True)
    return joined.grouped(group.reshape(-1))


def fold(table: Cells, limit: int, *, floor: int) -> Cells:
    """At most ``limit`` cells with at least ``floor`` samples each: the fullest of ``table``.

    Every other cell is folded into the nearest of them (Euclidean distance of the keys, the lower
    key on a tie). If no cell reaches ``floor``, the fullest takes all.
    """
    fullest = np.argsort(-table.count, kind="stable")[:limit]
    kept = np.sort(fullest[(table.count[fullest] >= floor) | (fullest == fullest[:1])])
    if len(kept) == len(table.count):
        return table
    places = table.keys[kept].astype(np.float64)
    group = np.zeros(len(table.count), np.intp)
    group[kept] = np.arange(len(kept))
    for place in np.setdiff1d(np.arange(len(group)), kept):
        group[place] = ((places - table.keys[place]) ** 2).sum(axis=1).argmin()
    return replace(table.grouped(group), keys=table.keys[kept])


def connected(keys: NDArray[np.int64]) -> NDArray[np.intp]:
    """Number (C,) of each cell's group: cells whose ``keys`` (C, K) touch belong together.

    Groups are numbered in the order of their first cell.
    """
    touches = np.ones((len(keys), len(keys)), np.bool_)
    for places in keys.T:
        touches &= np.abs(places[:, None] - places[None, :]) <= 1
    lowest = np.arange(len(keys))
    while True:
        spread = np.where(touches, lowest[None, :], len(keys)).min(axis=1)
        if (spread == lowest).all():
            return np.unique(lowest, return_inverse=True)[1]
        lowest = spread


def _sums(group: NDArray[np.intp], values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.bincount(group, values).astype(np.float64, copy=False)
