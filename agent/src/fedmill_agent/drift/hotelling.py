# SPDX-License-Identifier: Apache-2.0
"""EWMA chart of many columns at once, by how unlikely their common direction is.

Lowry, Woodall, Champ and Rigdon 1992, "A multivariate exponentially weighted moving average control
chart": the distance of Mahalanobis of the moving average from the mean of the reference. The
covariance is shrunk towards a multiple of the identity (Ledoit and Wolf 2004, "A well-conditioned
estimator for large-dimensional covariance matrices"), and only its largest directions are looked
at, so that a wide model costs no more.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from fedmill_agent.drift.bootstrap import Draws
from fedmill_agent.drift.detector import Array, Reading
from fedmill_agent.drift.ewma import SPAN, WEIGHT, limited, variance

DIRECTIONS = 16
_TINY = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Hotelling:
    """Mean (columns,) and whitening (columns, directions) of a reference.

    The state is the moving average (directions,) of whitened rows; the statistic is its squared
    length over the variance that it has in the long run where rows are independent.
    """

    mean: Array
    whitening: Array

    @classmethod
    def fit(cls, rows: Array) -> Self:
        """The chart of the reference ``rows`` (n, columns)."""
        mean = rows.mean(0)
        return cls(mean, whitening(rows - mean))

    @property
    def span(self) -> int:
        """Rows of one path of ``maxima``."""
        return SPAN

    def init(self) -> Array:
        """Nothing is away from its mean."""
        return np.zeros(self.whitening.shape[1])

    def step(self, state: Array, row: Array) -> tuple[Array, Reading | None]:
        """Fold ``row`` (columns,) in."""
        white = limited((row - self.mean) @ self.whitening)
        state = state + WEIGHT * (white - state)
        return state, Reading(float(state @ state) / variance(WEIGHT), -1)

    def maxima(self, rows: Array, draws: Draws, paths: int) -> Array:
        """As ``Detector`` says; paths are drawn in the directions of the reference."""
        white = (rows - self.mean) @ self.whitening
        drawn = np.stack(list(draws.walk(white, paths, len(white))), 1)
        mean = drawn.mean(1)
        turn = np.stack([whitening(own - middle) for own, middle in zip(drawn, mean, strict=True)])
        level, highest = np.zeros(mean.shape), np.zeros(paths)
        for row in draws.walk(white, paths, SPAN):
            turned = np.matmul((row - mean)[:, None, :], turn)[:, 0]
            level += WEIGHT * (limited(turned) - level)
            highest = np.maximum(highest, (level * level).sum(1))
        return highest / variance(WEIGHT)


def shrunk(centred: Array) -> Array:
    """Covariance (columns, columns) of ``centred`` (n, columns), shrunk as Ledoit and Wolf do.

    The weight of the identity is the mean squared error of the sample covariance over its squared
    distance from it, at most 1.
    """
    count, width = centred.shape
    sample = centred.T @ centred / count
    middle = np.trace(sample) / width
    apart = float(np.square(sample - middle * np.eye(width)).sum())
    squared = np.square(centred)
    error = float((squared.T @ squared).sum() / count - np.square(sample).sum()) / count
    share = min(1.0, error / apart) if apart > 0 else 1.0
    mixed: Array = (1.0 - share) * sample + share * middle * np.eye(width)
    return mixed


def whitening(centred: Array) -> Array:
    """Directions (columns, directions) that make ``centred`` (n, columns) white, largest first."""
    values, vectors = np.linalg.eigh(shrunk(centred))
    kept = slice(None, None, -1)
    values, vectors = values[kept][:DIRECTIONS], vectors[:, kept][:, :DIRECTIONS]
    floor = _TINY * max(float(values[0]), _TINY)
    white: Array = np.where(values > floor, 1.0, 0.0) * vectors / np.sqrt(np.maximum(values, floor))
    return white
