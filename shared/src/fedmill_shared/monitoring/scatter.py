# SPDX-License-Identifier: Apache-2.0
"""What rows of numbers come to in a mean and a matrix: enough for every covariance, and it adds.

Chan, Golub & LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances",
COMPSTAT 1982: sums around each part's own mean, so that a mean that is large beside the deviation
takes no digits. :meth:`Scatter.moments` gives the plain moments that a federation can average.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.errors import DataError

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Scatter:
    """Sufficient statistics of ``count`` rows of d numbers.

    Attributes:
        count: rows.
        mean: float64 (d,).
        products: float64 (d, d), sum of the outer products of rows less the mean.
    """

    count: int
    mean: Numbers
    products: Numbers

    @property
    def width(self) -> int:
        """Numbers of a row, d."""
        return self.mean.size

    def covariance(self) -> Numbers:
        """Float64 (d, d), with the denominator ``count`` - 1.

        Raises:
            DataError: there are fewer than two rows.
        """
        if self.count < 2:
            raise DataError(f"monitoring: {self.count} rows have no covariance")
        return self.products / (self.count - 1)

    def moments(self) -> tuple[Numbers, Numbers]:
        """Means of x (d,) and of the upper triangle, row by row, of x x^T (d (d + 1) / 2,).

        The mean over parts of these, weighted by their rows, is that of all rows.

        Raises:
            DataError: there are no rows.
        """
        if self.count < 1:
            raise DataError("monitoring: no rows have no moments")
        second = self.products / self.count + np.outer(self.mean, self.mean)
        return self.mean, second[np.triu_indices(self.width)]


def of_rows(rows: NDArray[np.floating]) -> Scatter:
    """Statistics of ``rows`` (n, d); n may be 0.

    Raises:
        DataError: they are no matrix, or hold NaN or infinity.
    """
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise DataError(f"monitoring: rows {rows.shape} are no matrix of finite numbers")
    exact = rows.astype(np.float64)
    if not len(exact):
        width = rows.shape[1]
        return Scatter(0, np.zeros(width), np.zeros((width, width)))
    mean = exact.mean(0)
    centred = exact - mean
    return Scatter(len(exact), mean, centred.T @ centred)


def of_moments(count: int, mean: Numbers, second: Numbers) -> Scatter:
    """What :meth:`Scatter.moments` came from: ``mean`` (d,), ``second`` (d (d + 1) / 2,).

    Raises:
        DataError: their lengths do not fit together.
    """
    width = mean.size
    if second.shape != (width * (width + 1) // 2,):
        raise DataError(f"monitoring: {second.shape} are not the second moments of {width} numbers")
    full = np.zeros((width, width))
    full[np.triu_indices(width)] = second
    full += np.triu(full, 1).T
    return Scatter(count, mean, count * (full - np.outer(mean, mean)))


def merge(left: Scatter, right: Scatter) -> Scatter:
    """Statistics of the rows of both.

    Raises:
        DataError: their rows are of different widths.
    """
    if left.width != right.width:
        raise DataError(
            f"monitoring: rows of {left.width} and of {right.width} numbers do not add up",
            remedy="the agents run different versions of the job",
        )
    if not (left.count and right.count):
        return left if left.count else right
    count = left.count + right.count
    apart = right.mean - left.mean
    mean = left.mean + apart * (right.count / count)
    between = np.outer(apart, apart) * (left.count * (right.count / count))
    return Scatter(count, mean, left.products + right.products + between)


def merge_all(parts: Iterable[Scatter]) -> Scatter:
    """Statistics of the rows of all.

    Raises:
        DataError: there are none, or their rows are of different widths.
    """
    listed = list(parts)
    if not listed:
        raise DataError("monitoring: there are no statistics to merge")
    return reduce(merge, listed)
