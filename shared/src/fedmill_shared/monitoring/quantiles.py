# SPDX-License-Identifier: Apache-2.0
"""Quantiles of the chi-squared and the F distribution, for gateways without SciPy.

The incomplete beta function by its continued fraction, evaluated as Lentz did; the incomplete gamma
function by its series and its continued fraction (Press, Teukolsky, Vetterling & Flannery,
"Numerical Recipes", 3rd edition, sections 6.2 and 6.4). Quantiles by bisection.
"""

from collections.abc import Callable
from math import exp, isinf, lgamma, log, log1p

_TINY = 1e-300
_PRECISION = 1e-15
_TERMS = 10_000
_HALVINGS = 200


def chi_squared(probability: float, freedom: float) -> float:
    """The number that chi-squared with ``freedom`` > 0 stays below with ``probability`` < 1."""
    return _inverse(lambda x: _gamma(freedom / 2, x / 2), probability)


def fisher(probability: float, above: float, below: float) -> float:
    """The number that F with ``above`` and ``below`` degrees of freedom stays below.

    Infinite ``below`` is chi-squared over its degrees of freedom.
    """
    if isinf(below):
        return chi_squared(probability, above) / above
    return _inverse(
        lambda x: _beta(above / 2, below / 2, above * x / (above * x + below)), probability
    )


def _inverse(distribution: Callable[[float], float], probability: float) -> float:
    low, high = 0.0, 1.0
    while distribution(high) < probability:
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if distribution(middle) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _gamma(shape: float, x: float) -> float:
    """Regularised lower incomplete gamma function."""
    if x <= 0:
        return 0.0
    front = exp(shape * log(x) - x - lgamma(shape))
    if x < shape + 1:
        term = total = 1.0 / shape
        for n in range(1, _TERMS):
            term *= x / (shape + n)
            total += term
            if term < total * _PRECISION:
                break
        return front * total
    first = x + 1 - shape
    return 1.0 - front * _fraction(first, lambda n: (-n * (n - shape), first + 2 * n))


def _beta(a: float, b: float, x: float) -> float:
    """Regularised incomplete beta function."""
    if not 0 < x < 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _beta(b, a, 1.0 - x)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)) / a

    def step(n: int) -> tuple[float, float]:
        m = n // 2
        if n % 2 == 0:
            return m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)), 1.0
        return -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)), 1.0

    return front * _fraction(1.0, step)


def _fraction(first: float, step: Callable[[int], tuple[float, float]]) -> float:
    """1 / (first + a1 / (b1 + a2 / (b2 + ...))), where ``step(n)`` is (an, bn), by Lentz."""
    value = numerators = _apart(first)
    denominators = 0.0
    for n in range(1, _TERMS):
        a, b = step(n)
        denominators = 1.0 / _apart(b + a * denominators)
        numerators = _apart(b + a / numerators)
        change = numerators * denominators
        value *= change
        if abs(change - 1.0) < _PRECISION:
            break
    return 1.0 / value


def _apart(number: float) -> float:
    """``number``, but not zero."""
    return number if abs(number) > _TINY else _TINY
