# SPDX-License-Identifier: Apache-2.0
"""Multinomial logistic regression, pulled towards weights that were there before.

Böhning, "Multinomial logistic regression algorithm", Annals of the Institute of Statistical
Mathematics 44 (1992) 197: half the weighted Gram matrix bounds the Hessian, whatever the weights.
So one inverse of the size of a row serves all classes and all steps, and no step can overshoot:
each lowers the cost. The pull is a Gaussian prior around the anchor; what is found is its mode.
"""

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.probabilities import probabilities

Matrix = NDArray[np.float64]

STEPS = 60
SETTLED = 1e-4
"""A step that changes no weight by more is the last one."""


def fit(
    rows: Matrix,
    targets: Matrix,
    weights: Matrix,
    *,
    anchor: Matrix,
    precision: float,
    steps: int = STEPS,
) -> Matrix:
    """The layer (d, classes) with nearly the least cost, after at most so many steps.

    Args:
        rows: (n, d).
        targets: (n, classes), probabilities; each row sums to 1.
        weights: (n,), how many examples each row counts.
        anchor: (d, classes), where it begins and what it is pulled towards.
        precision: > 0, of the pull on every weight.
        steps: at most so many.
    """
    weighted = rows * weights[:, None]
    curvature = 0.5 * weighted.T @ rows + precision * np.eye(rows.shape[1])
    inverse = np.linalg.inv(curvature)
    layer = anchor
    for _ in range(steps):
        gradient = weighted.T @ (probabilities(rows @ layer) - targets)
        change = inverse @ (gradient + precision * (layer - anchor))
        layer = layer - change
        if np.abs(change).max() < SETTLED:
            break
    return layer
