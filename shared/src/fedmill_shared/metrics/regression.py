# SPDX-License-Identifier: Apache-2.0
"""Regression: error sums and the spread of the targets, which add across agents."""

from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from fedmill_shared.errors import DataError

# A remaining life missed by 500 cycles costs exp(50); beyond, only the size of the sum would
# change, until one absurd prediction makes it infinite.
LARGEST_EXPONENT = 50.0

_NotNegative = Annotated[float, Meta(ge=0.0)]


class RegressionStatistic(Struct, frozen=True, tag="regression"):
    """Sufficient statistic of predicted numbers, in the target's unit.

    Attributes:
        count: number of examples.
        squared_error: sum of squared errors.
        absolute_error: sum of absolute errors.
        score: sum of the C-MAPSS scores, see ``of_numbers``.
        mean: mean of the targets.
        m2: sum of the targets' squared deviations from their mean.
    """

    count: Annotated[int, Meta(ge=0)]
    squared_error: _NotNegative
    absolute_error: _NotNegative
    score: _NotNegative
    mean: float
    m2: _NotNegative

    def __post_init__(self) -> None:
        sums = (self.squared_error, self.absolute_error, self.score, self.mean, self.m2)
        if not np.isfinite(sums).all():
            raise DataError(
                "metrics: an error sum is infinite or no number",
                remedy="the model's output or a target is absurdly large; look at both",
            )


def of_numbers(
    predictions: NDArray[np.floating], targets: NDArray[np.floating]
) -> RegressionStatistic:
    """Statistic of ``predictions`` (n,) and ``targets`` (n,).

    The score is that of Saxena et al. 2008 ("Damage propagation modeling for aircraft engine
    run-to-failure simulation", PHM): with the error d = prediction - target in cycles, the sum of
    exp(-d / 13) - 1 for early and exp(d / 10) - 1 for late predictions. Exponents are clipped to
    ``LARGEST_EXPONENT``.

    Raises:
        DataError: shapes do not match, or a number is not finite or too large to be squared.
    """
    if predictions.ndim != 1 or predictions.shape != targets.shape:
        raise DataError(
            f"metrics: predictions {predictions.shape} and targets {targets.shape} are not both "
            "(n,)"
        )
    if not (np.isfinite(predictions).all() and np.isfinite(targets).all()):
        raise DataError("metrics: a prediction or target is NaN or infinite")
    truth = targets.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        errors = predictions.astype(np.float64) - truth
        exponents = np.where(errors < 0, errors / -13.0, errors / 10.0)
        mean = truth.sum() / max(truth.size, 1)
        return RegressionStatistic(
            count=truth.size,
            squared_error=float((errors**2).sum()),
            absolute_error=float(np.abs(errors).sum()),
            score=float(np.expm1(np.minimum(exponents, LARGEST_EXPONENT)).sum()),
            mean=float(mean),
            m2=float(((truth - mean) ** 2).sum()),
        )


def merge_numbers(left: RegressionStatistic, right: RegressionStatistic) -> RegressionStatistic:
    """Statistic of the examples of both.

    The deviations merge as in Chan, Golub and LeVeque 1983 ("Algorithms for computing the sample
    variance", The American Statistician 37): a difference of large sums of squares would cancel.
    """
    count = left.count + right.count
    share = right.count / max(count, 1)
    distance = right.mean - left.mean
    return RegressionStatistic(
        count=count,
        squared_error=left.squared_error + right.squared_error,
        absolute_error=left.absolute_error + right.absolute_error,
        score=left.score + right.score,
        mean=left.mean + distance * share,
        m2=left.m2 + right.m2 + distance * distance * share * left.count,
    )


def summary_of_numbers(statistic: RegressionStatistic) -> dict[str, float]:
    """Rmse, mae, score (the sum) and r2; undefined ones are left out."""
    if statistic.count == 0:
        return {}
    metrics = {
        "rmse": float(np.sqrt(statistic.squared_error / statistic.count)),
        "mae": statistic.absolute_error / statistic.count,
        "score": statistic.score,
    }
    if statistic.m2 > 0:
        metrics["r2"] = 1.0 - statistic.squared_error / statistic.m2
    return metrics
