# SPDX-License-Identifier: Apache-2.0
"""EWMA chart of every column, of which the farthest counts.

Roberts 1959, "Control chart tests based on geometric moving averages"; run lengths in Lucas and
Saccucci 1990, "Exponentially weighted moving average control schemes".
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np

from fedmill_agent.drift.bootstrap import Draws
from fedmill_agent.drift.detector import LIMIT, Array, Reading

WEIGHT = 0.05
SPAN = 1000
_TINY = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Ewma:
    """Means (columns,) and deviations of a reference; its state is the moving average (columns,).

    The statistic is the largest squared average, as a multiple of the variance that it has in the
    long run where rows are independent: weight / (2 - weight).
    """

    mean: Array
    scale: Array
    weight: float = WEIGHT
    limit: float = LIMIT

    @classmethod
    def fit(cls, rows: Array, weight: float = WEIGHT, limit: float = LIMIT) -> Self:
        """The chart of the reference ``rows`` (n, columns)."""
        mean, scale = moments(rows)
        return cls(mean, scale, weight, limit)

    @property
    def span(self) -> int:
        """Rows of one path of ``maxima``."""
        return SPAN

    def init(self) -> Array:
        """Nothing is away from its mean."""
        return np.zeros(self.mean.shape)

    def step(self, state: Array, row: Array) -> tuple[Array, Reading | None]:
        """Fold ``row`` (columns,) in."""
        state = state + self.weight * (standardised(row, self.mean, self.scale, self.limit) - state)
        squares = state * state
        column = int(squares.argmax())
        return state, Reading(float(squares[column]) / variance(self.weight), column)

    def maxima(self, rows: Array, draws: Draws, paths: int) -> Array:
        """As ``Detector`` says."""
        mean, scale = told(draws.walk(rows, paths, len(rows)), len(rows))
        level, highest = np.zeros(mean.shape), np.zeros(paths)
        for row in draws.walk(rows, paths, SPAN):
            level += self.weight * (standardised(row, mean, scale, self.limit) - level)
            highest = np.maximum(highest, (level * level).max(1))
        return highest / variance(self.weight)


def told(stream: Iterable[Array], count: int) -> tuple[Array, Array]:
    """Mean and deviation, each of the shape of one of the ``count`` rows of a stream."""
    first = iter(stream)
    start = next(first)
    total, squares = np.zeros(start.shape), np.zeros(start.shape)
    for row in first:
        total += row - start
        squares += (row - start) ** 2
    middle = total / count
    return spread(start + middle, np.sqrt(np.maximum(squares / count - middle * middle, 0.0)))


def moments(rows: Array) -> tuple[Array, Array]:
    """Mean and deviation (columns,) of ``rows`` (n, columns); constant columns have deviation 1."""
    return spread(rows.mean(0), rows.std(0))


def spread(mean: Array, scale: Array) -> tuple[Array, Array]:
    """The same, but for a deviation that is only rounding, which becomes 1."""
    return mean, np.where(scale > _TINY * (1.0 + np.abs(mean)), scale, 1.0)


def standardised(row: Array, mean: Array, scale: Array, limit: float = LIMIT) -> Array:
    """``row`` in deviations from the mean, cut at ``limit``."""
    return limited((row - mean) / scale, limit)


def limited(row: Array, limit: float = LIMIT) -> Array:
    """``row`` cut at ``limit``; ``np.clip`` takes three times as long for so few numbers."""
    found: Array = np.minimum(np.maximum(row, -limit), limit)
    return found


def variance(weight: float) -> float:
    """Variance of the moving average of independent rows of variance 1, in the long run."""
    return weight / (2.0 - weight)
