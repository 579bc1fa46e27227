# SPDX-License-Identifier: Apache-2.0
"""How far a model that was sure elsewhere may be sure here.

Guo, Pleiss, Sun & Weinberger, "On Calibration of Modern Neural Networks", ICML 2017,
arXiv:1706.04599: one factor on all logits. It changes no class. A head that is anchored at weights
which are far too sure would need many labels to be moved; the factor makes room first. Few labels
say little about it, so a prior holds it at 1.
"""

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.probabilities import probabilities

Matrix = NDArray[np.float64]

LOWEST = 0.03
STEPS = 25
PRECISION = 30.0
"""Of the logarithm of the factor: what some thirty labels that are told wrong with certainty
outweigh."""


def factor(logits: Matrix, classes: NDArray[np.intp], weights: Matrix) -> float:
    """The factor in [0.03, 1] for ``logits`` (n, classes) of examples with these ``classes`` (n,).

    ``weights`` (n,) is how many examples each counts. It never makes surer.
    """
    places = np.arange(len(classes))
    best, least = 1.0, np.inf
    for candidate in np.exp(np.linspace(0.0, np.log(LOWEST), STEPS)):
        told = np.maximum(probabilities(candidate * logits)[places, classes], 1e-300)
        missed = -float(weights @ np.log(told)) + 0.5 * PRECISION * np.log(candidate) ** 2
        if missed < least:
            best, least = float(candidate), missed
    return best
