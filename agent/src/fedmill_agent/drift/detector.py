# SPDX-License-Identifier: Apache-2.0
"""What every detector of drift can do; each is frozen, and its state is one array."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.drift.bootstrap import Draws

Array = NDArray[np.float64]
LIMIT = 6.0
"""Standardised values are cut here, so that a single outlier is no drift."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How far what was seen is from the reference.

    Attributes:
        statistic: at least 0, with a tail that falls about exponentially.
        column: the number of a row that is farthest away; -1 where it is all of them together.
    """

    statistic: float
    column: int


class Detector(Protocol):
    """Compares a stream of rows (columns,) with the reference that it was made from.

    Attributes:
        span: rows of one path of ``maxima``.
    """

    @property
    def span(self) -> int:
        """Rows of one path of ``maxima``."""
        ...

    def init(self) -> Array:
        """The state before the first row."""
        ...

    def step(self, state: Array, row: Array) -> tuple[Array, Reading | None]:
        """The state after ``row`` (columns,), and a reading where there is a new one."""
        ...

    def maxima(self, rows: Array, draws: Draws, paths: int) -> Array:
        """The largest statistic of each of ``paths`` streams in which nothing changes (paths,).

        Both a reference and ``span`` rows after it are drawn from ``rows`` (n, columns), so that
        the thresholds know how badly a reference of this size tells what is usual.
        """
        ...
