# SPDX-License-Identifier: Apache-2.0
"""Recursive least squares with forgetting, and a ridge towards weights that were there before.

Plackett, "Some Theorems in Least Squares", Biometrika 37 (1950) 149; exponential forgetting and the
information form, in which nothing has to be inverted before it is asked for: Ljung & Soderstrom,
"Theory and Practice of Recursive Identification", MIT Press 1983, chapter 2. Forgetting fades the
examples and never the anchor: with few of them left the solution goes back to it, where the usual
form would blow up.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """All that least squares knows of the examples so far.

    Attributes:
        information: (d, d), weighted sum of the outer products of the rows.
        moment: (d, outputs), weighted sum of rows times targets.
    """

    information: Matrix
    moment: Matrix


def init(width: int, outputs: int) -> Sums:
    """No example yet, of rows (width,) and targets (outputs,)."""
    return Sums(np.zeros((width, width)), np.zeros((width, outputs)))


def step(sums: Sums, rows: Matrix, targets: Matrix, weights: Matrix) -> Sums:
    """``sums`` after the examples ``rows`` (n, d) with ``targets`` (n, outputs), ``weights`` (n,).

    Weights by age, see ``faded_weights``, are the forgetting.
    """
    weighted = rows * weights[:, None]
    return Sums(sums.information + weighted.T @ rows, sums.moment + weighted.T @ targets)


def faded_weights(count: int, forgetting: float) -> Matrix:
    """What each of ``count`` examples counts for its age, the newest, last one 1."""
    return np.asarray(forgetting ** np.arange(count - 1, -1, -1, dtype=np.float64))


def solve(sums: Sums, anchor: Matrix, precision: float) -> Matrix:
    """The layer (d, outputs) with the least weighted squared error.

    To it is added ``precision`` > 0 times the squared distance from ``anchor`` (d, outputs), which
    is the answer where there are no examples.
    """
    curvature = sums.information + precision * np.eye(len(sums.information))
    moved = np.linalg.solve(curvature, sums.moment - sums.information @ anchor)
    return np.asarray(anchor + moved, np.float64)
