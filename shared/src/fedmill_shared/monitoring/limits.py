# SPDX-License-Identifier: Apache-2.0
"""From which number on a statistic is no longer as in normal operation.

Theory asks for rows that are normal and independent, which windows of a process seldom are: limits
from rows that fitted nothing (:func:`rank_limit`) hold where these do not. Limits from the rows
that the components were fitted to look better, and raise several times as many false alarms.
"""

from math import ceil, inf, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.errors import DataError
from fedmill_shared.monitoring.quantiles import chi_squared, fisher
from fedmill_shared.monitoring.scatter import Numbers


def t2_limit(kept: int, false_alarms: float, count: int = 0) -> float:
    """What T2 of ``kept`` components exceeds with probability ``false_alarms``.

    By F for rows that were not among the ``count`` that the components come from; 0 is infinitely
    many, and then it is chi-squared. Tracy, Young & Mason, "Multivariate Control Charts for
    Individual Observations", Journal of Quality Technology 24 (1992) 88, equation 6.

    Raises:
        DataError: there are no more rows than components.
    """
    if not count:
        return chi_squared(1 - false_alarms, kept)
    if count <= kept:
        raise DataError(f"monitoring: {count} rows say nothing of {kept} components")
    factor = kept * (count + 1) * (count - 1) / (count * (count - kept))
    return factor * fisher(1 - false_alarms, kept, count - kept)


def box_limit(eigenvalues: Numbers, false_alarms: float) -> float:
    """What a weighted sum of chi-squared exceeds with probability ``false_alarms``, by its moments.

    ``eigenvalues`` (m,) are the weights: for Q the variances of the components that it is made of.
    Box, "Some Theorems on Quadratic Forms Applied in the Study of Analysis of Variance Problems",
    Annals of Mathematical Statistics 25 (1954) 290, theorem 3.1. 0 where there is nothing.
    """
    first, second = float(eigenvalues.sum()), float((eigenvalues**2).sum())
    if first <= 0:
        return 0.0
    return second / first * chi_squared(1 - false_alarms, first * first / second)


def jackson_mudholkar_limit(eigenvalues: Numbers, false_alarms: float) -> float:
    """What Q exceeds with probability ``false_alarms``; 0 where nothing is left over.

    ``eigenvalues`` (m,) are the variances of the components that were not kept. Jackson &
    Mudholkar, Technometrics 21 (1979) 341, equation 3.4.

    Raises:
        DataError: the eigenvalues are so uneven that the formula has no value.
    """
    one, two, three = (float((eigenvalues**power).sum()) for power in (1, 2, 3))
    if one <= 0:
        return 0.0
    exponent = 1 - 2 * one * three / (3 * two * two)
    deviations = NormalDist().inv_cdf(1 - false_alarms)
    inner = (
        1
        + deviations * sqrt(2 * two * exponent * exponent) / one
        + two * exponent * (exponent - 1) / (one * one)
    )
    if exponent <= 0 or inner <= 0:
        raise DataError(
            "monitoring: the limit of Jackson and Mudholkar is not defined for these components",
            remedy="use box_limit",
        )
    return one * float(inner ** (1 / exponent))


def rank_limit(unseen: NDArray[np.floating], false_alarms: float) -> float:
    """The limit that one more normal value exceeds with a probability of at most ``false_alarms``.

    ``unseen`` (n,) are values of normal rows that nothing was fitted to; the limit is one of them,
    or infinite where they are fewer than 1 / ``false_alarms`` - 1. Wilks, "Determination of Sample
    Sizes for Setting Tolerance Limits", Annals of Mathematical Statistics 12 (1941) 91; Vovk,
    Gammerman & Shafer, "Algorithmic Learning in a Random World", Springer 2005, section 2.2. It
    asks for values in any order, not for a distribution.
    """
    rank = ceil((unseen.size + 1) * (1 - false_alarms) - 1e-9)
    if rank > unseen.size:
        return inf
    return float(np.sort(unseen)[rank - 1])


def empirical_limit(
    unseen: NDArray[np.floating], false_alarms: float, margin: float = 1.0
) -> float:
    """:func:`rank_limit`, or where that is infinite the largest of ``unseen``, times ``margin``.

    Raises:
        DataError: there are no values, or one is NaN or infinite.
    """
    if not unseen.size or not np.isfinite(unseen).all():
        raise DataError(f"monitoring: {unseen.size} values give no limit, or one is not finite")
    return margin * min(rank_limit(unseen, false_alarms), float(unseen.max()))
