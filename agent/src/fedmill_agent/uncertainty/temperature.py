# SPDX-License-Identifier: Apache-2.0
"""One number that all logits are divided by, so that probabilities are what they say.

C. Guo, G. Pleiss, Y. Sun, K. Weinberger, "On Calibration of Modern Neural Networks", ICML 2017,
4.2. Which class is predicted does not change. The targets are smoothed by Laplace's rule as in J.
Platt, "Probabilistic Outputs for Support Vector Machines", 1999, 2.2: a model that is right on all
windows would otherwise be made sure without limit.
"""

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.probabilities import probabilities

LEAST_WINDOWS = 30
"""With fewer, the temperature would tell more of chance than of the model."""
HOTTEST = 20.0
COLDEST = 0.05
_HALVINGS = 40


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The temperature with the smallest negative log-likelihood of the true classes.

    That is convex in the inverse of the temperature, so its slope is halved down to zero between
    ``1 / HOTTEST`` and ``1 / COLDEST``: no step can lead astray. 1 where there are fewer than
    ``LEAST_WINDOWS``, or where no temperature makes a difference.

    Args:
        logits: (n, classes), finite.
        labels: (n,) position of the true class.
    """
    if len(logits) < LEAST_WINDOWS:
        return 1.0
    values = logits.astype(np.float64)
    wanted = _wanted(values, labels)
    low, high = 1.0 / HOTTEST, 1.0 / COLDEST
    if _slope(values, wanted, low) == _slope(values, wanted, high) == 0.0:
        return 1.0
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        if _slope(values, wanted, middle) > 0.0:
            high = middle
        else:
            low = middle
    return float((low * high) ** -0.5)


def _wanted(logits: NDArray[np.float64], labels: NDArray[np.integer]) -> float:
    """What the smoothed targets would have the sum of all expected logits be."""
    count, classes = logits.shape
    each = 1.0 / (count + classes)
    true = logits[np.arange(count), labels]
    return float((true * (1.0 - classes * each) + logits.sum(axis=1) * each).sum())


def _slope(logits: NDArray[np.float64], wanted: float, inverse: float) -> float:
    """Derivative of the negative log-likelihood by the inverse of the temperature."""
    expected = (probabilities(logits, 1.0 / inverse) * logits).sum()
    return float(expected) - wanted
