# SPDX-License-Identifier: Apache-2.0
"""Two-sample test of Kolmogorov and Smirnov, of each block of windows against the reference.

Smirnov 1939. The exact law of the distance of two samples without ties counts the paths of a
lattice that stay within a band (Hodges 1957, "The significance probability of the Smirnov
two-sample test"). It is the least that a threshold may be: what windows that resemble each other
need comes from the bootstrap.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from fedmill_agent.drift.bootstrap import Draws
from fedmill_agent.drift.detector import Array, Reading

_STEPS = 24
_SLACK = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Smirnov:
    """A sorted reference (n, columns); the state is the block so far (rows, columns).

    The statistic is the largest squared distance of two distribution functions, times n m /
    (n + m).
    """

    reference: Array
    block: int

    @classmethod
    def fit(cls, rows: Array, block: int) -> Self:
        """The test of blocks of ``block`` windows against ``rows`` (n, columns)."""
        return cls(np.sort(rows, axis=0), block)

    @property
    def span(self) -> int:
        """Rows of one path of ``maxima``: one block."""
        return self.block

    def init(self) -> Array:
        """An empty block."""
        return np.empty((0, self.reference.shape[1]))

    def step(self, state: Array, row: Array) -> tuple[Array, Reading | None]:
        """Add ``row`` (columns,); a full block gives a reading, and the next one begins."""
        state = np.concatenate((state, row[None]))
        if len(state) < self.block:
            return state, None
        return self.init(), reading(self.reference, state)

    def maxima(self, rows: Array, draws: Draws, paths: int) -> Array:
        """As ``Detector`` says."""
        references = np.stack(list(draws.walk(rows, paths, len(rows))), 1)
        blocks = np.stack(list(draws.walk(rows, paths, self.block)), 1)
        pairs = zip(np.sort(references, axis=1), blocks, strict=True)
        return np.array([reading(*pair).statistic for pair in pairs])

    def floor(self, run_length: float) -> float:
        """The statistic that independent windows exceed once in ``run_length`` of them."""
        count, columns = self.reference.shape
        tail = self.block / (run_length * columns)
        return scaled(critical(count, self.block, tail), count, self.block)


def reading(reference: Array, block: Array) -> Reading:
    """The statistic of ``block`` (m, columns) against the sorted ``reference`` (n, columns)."""
    far = distances(reference, block)
    column = int(far.argmax())
    return Reading(scaled(float(far[column]), len(reference), len(block)), column)


def scaled(distance: float, count: int, block: int) -> float:
    """The statistic of a distance of distribution functions."""
    return distance * distance * count * block / (count + block)


def distances(reference: Array, block: Array) -> Array:
    """Largest distance (columns,) of the distribution functions; ``reference`` is sorted."""
    count, size = len(reference), len(block)
    found = np.empty(block.shape[1])
    ordered = np.sort(block, axis=0)
    for column in range(block.shape[1]):
        mine, other = ordered[:, column], reference[:, column]
        # between two values of the block only the reference's function moves
        far = [
            np.searchsorted(other, mine, side) / count - np.searchsorted(mine, mine, side) / size
            for side in ("left", "right")
        ]
        found[column] = np.abs(far).max()
    return found


def tail_probability(count: int, block: int, distance: float) -> float:
    """P(D >= ``distance``) of two samples of ``count`` and ``block`` values of one law, no ties."""
    steps = np.arange(block + 1) / block
    row = (steps < distance - _SLACK).astype(np.float64)
    for index in range(1, count + 1):
        inside = np.abs(index / count - steps) < distance - _SLACK
        # each row of the lattice is scaled by index / (index + block): the last cell becomes the
        # share of all paths, and nothing overflows (as R's psmirnov does)
        weighted = np.where(inside, row * index / (index + block), 0.0)
        row = np.where(inside, np.cumsum(weighted), 0.0)
    return min(1.0, max(0.0, 1.0 - float(row[-1])))


def critical(count: int, block: int, tail: float) -> float:
    """The least distance that two samples of one law reach with probability at most ``tail``."""
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if tail_probability(count, block, middle) > tail:
            low = middle
        else:
            high = middle
    return high
