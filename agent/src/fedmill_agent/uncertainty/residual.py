# SPDX-License-Identifier: Apache-2.0
"""Intervals around a number that hold the true one as often as asked for.

Split-conformal prediction by absolute residuals: J. Lei, M. G'Sell, A. Rinaldo, R. Tibshirani, L.
Wasserman, "Distribution-Free Predictive Inference for Regression", Journal of the American
Statistical Association 113 (2018) 1094, algorithm 2. Where there are windows enough, each range of
predicted numbers has a width of its own: H. Boström, U. Johansson, "Mondrian conformal regressors",
COPA 2020. A remaining life is foretold far better near its end, and a common width would hide that.
"""

from bisect import bisect_right

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fedmill_agent.uncertainty.conformal import quantile
from fedmill_shared.errors import DataError

LEAST_OF_RANGE = 50
"""Windows of each range; with fewer than twice as many there is one range."""
MOST_RANGES = 8


class Widths(Struct, frozen=True):
    """Half the width of the interval, by what was predicted.

    Attributes:
        edges: predicted numbers where the next range begins, ascending.
        halves: one more than ``edges``; infinite where nothing can be promised.
    """

    edges: tuple[float, ...] = ()
    halves: tuple[float, ...] = (np.inf,)

    def __post_init__(self) -> None:
        if len(self.halves) != len(self.edges) + 1:
            raise DataError(f"{len(self.edges)} edges have no {len(self.halves)} widths between")


def widths(predicted: NDArray[np.floating], true: NDArray[np.floating], coverage: float) -> Widths:
    """Widths for intervals that hold the true number with probability ``coverage``.

    Args:
        predicted: (n,).
        true: (n,), same unit.
        coverage: share of intervals that hold the true number.
    """
    numbers = predicted.astype(np.float64)
    residuals = np.abs(true.astype(np.float64) - numbers)
    ranges = min(MOST_RANGES, len(numbers) // LEAST_OF_RANGE)
    if ranges < 2:
        return Widths((), (quantile(residuals, coverage),))
    inner = np.arange(1, ranges) / ranges
    edges = np.unique(np.quantile(numbers, inner))
    places = np.searchsorted(edges, numbers, side="right")
    halves = [quantile(residuals[places == each], coverage) for each in range(len(edges) + 1)]
    return Widths(tuple(edges.tolist()), tuple(halves))


def interval(predicted: float, given: Widths) -> tuple[float, float]:
    """Lower and upper end of the interval around a ``predicted`` number."""
    half = given.halves[bisect_right(given.edges, predicted)]
    return predicted - half, predicted + half
