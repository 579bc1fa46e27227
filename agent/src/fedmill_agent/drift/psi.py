# SPDX-License-Identifier: Apache-2.0
"""Population stability index of each block of windows: how other its histogram is.

The sum over bins of (p - q) ln(p / q), which is Jeffreys' divergence (Jeffreys 1946; in credit
scoring Siddiqi 2006, with 0.1 as "some" and 0.25 as "much"). With samples it grows by chance alone,
by about (bins - 1) (1/n + 1/m) (Yurdakul 2018), so its thresholds come from the bootstrap, too.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from fedmill_agent.drift.bootstrap import Draws
from fedmill_agent.drift.detector import Array, Reading

BINS = 10
_HALF = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Stability:
    """Inner edges of bins (columns, bins - 1) and the shares (columns, bins) of a reference.

    The state is the block so far (rows, columns).
    """

    edges: Array
    shares: Array
    block: int

    @classmethod
    def fit(cls, rows: Array, block: int) -> Self:
        """Bins that hold a tenth of ``rows`` (n, columns) each."""
        return cls.within(rows, deciles(rows), block)

    @classmethod
    def within(cls, rows: Array, edges: Array, block: int) -> Self:
        """Bins between ``edges`` (columns, bins - 1), such as those between classes."""
        return cls(edges, shares(rows, edges), block)

    @property
    def span(self) -> int:
        """Rows of one path of ``maxima``: one block."""
        return self.block

    def init(self) -> Array:
        """An empty block."""
        return np.empty((0, len(self.edges)))

    def step(self, state: Array, row: Array) -> tuple[Array, Reading | None]:
        """Add ``row`` (columns,); a full block gives a reading, and the next one begins."""
        state = np.concatenate((state, row[None]))
        if len(state) < self.block:
            return state, None
        return self.init(), self._reading(self.shares, state)

    def maxima(self, rows: Array, draws: Draws, paths: int) -> Array:
        """As ``Detector`` says."""
        references = np.stack(list(draws.walk(rows, paths, len(rows))), 1)
        blocks = np.stack(list(draws.walk(rows, paths, self.block)), 1)
        pairs = zip(references, blocks, strict=True)
        return np.array(
            [self._reading(shares(own, self.edges), block).statistic for own, block in pairs]
        )

    def _reading(self, reference: Array, block: Array) -> Reading:
        found = index(reference, shares(block, self.edges))
        column = int(found.argmax())
        return Reading(float(found[column]), column)


def deciles(rows: Array) -> Array:
    """Inner edges (columns, 9) between tenths of ``rows`` (n, columns)."""
    edges: Array = np.quantile(rows, np.arange(1, BINS) / BINS, axis=0).T.astype(np.float64)
    return edges


def shares(rows: Array, edges: Array) -> Array:
    """Share (columns, bins) of ``rows`` (n, columns) in each bin, half a row added to each.

    A value on an edge belongs to the bin below.
    """
    bins = edges.shape[1] + 1
    counts = np.empty((len(edges), bins))
    for column, own in enumerate(edges):
        places = np.searchsorted(own, rows[:, column], "left")
        counts[column] = np.bincount(places, minlength=bins)
    found: Array = (counts + _HALF) / (len(rows) + _HALF * bins)
    return found


def index(expected: Array, actual: Array) -> Array:
    """The index (columns,) of two tables of shares (columns, bins), none of them 0."""
    found: Array = ((actual - expected) * np.log(actual / expected)).sum(-1)
    return found
