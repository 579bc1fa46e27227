# SPDX-License-Identifier: Apache-2.0
"""Reconstruction: sums of what a model could not give back, which add across agents."""

from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from fedmill_shared.errors import DataError

_NotNegative = Annotated[float, Meta(ge=0.0)]


class ReconstructionStatistic(Struct, frozen=True, tag="reconstruction"):
    """Sufficient statistic of reconstructed windows.

    Attributes:
        count: number of windows.
        error: sum of their mean squared errors, in standardised units.
        squares: sum of the squares of these.
    """

    count: Annotated[int, Meta(ge=0)]
    error: _NotNegative
    squares: _NotNegative

    def __post_init__(self) -> None:
        if not np.isfinite((self.error, self.squares)).all():
            raise DataError("metrics: a sum of reconstruction errors is infinite or no number")


def of_errors(errors: NDArray[np.floating]) -> ReconstructionStatistic:
    """Statistic of ``errors`` (n,), the mean squared error of each window.

    Raises:
        DataError: they are no (n,), or one is negative, not finite, or too large to be squared.
    """
    if errors.ndim != 1:
        raise DataError(f"metrics: reconstruction errors {errors.shape} are not (n,)")
    if not (np.isfinite(errors).all() and (errors >= 0).all()):
        raise DataError("metrics: a reconstruction error is negative, NaN or infinite")
    exact = errors.astype(np.float64)
    with np.errstate(over="ignore"):
        squares = float((exact**2).sum())
    return ReconstructionStatistic(count=errors.size, error=float(exact.sum()), squares=squares)


def merge_errors(
    left: ReconstructionStatistic, right: ReconstructionStatistic
) -> ReconstructionStatistic:
    """Statistic of the windows of both."""
    return ReconstructionStatistic(
        count=left.count + right.count,
        error=left.error + right.error,
        squares=left.squares + right.squares,
    )


def summary_of_errors(statistic: ReconstructionStatistic) -> dict[str, float]:
    """The mean squared error, and how much it differs from window to window (its deviation).

    Without windows there is neither.
    """
    if statistic.count == 0:
        return {}
    mean = statistic.error / statistic.count
    variance = statistic.squares / statistic.count - mean * mean
    return {"mse": mean, "deviation": float(np.sqrt(max(0.0, variance)))}
