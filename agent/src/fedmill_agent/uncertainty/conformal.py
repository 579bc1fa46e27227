# SPDX-License-Identifier: Apache-2.0
"""The quantile of split-conformal prediction.

V. Vovk, A. Gammerman, G. Shafer, "Algorithmic Learning in a Random World", 2005, 4.1; H.
Papadopoulos et al., "Inductive Confidence Machines for Regression", ECML 2002. Whatever the model:
a new window conforms at least as well as this with the probability asked for, as long as it is
exchangeable with those that the quantile was taken of.
"""

import math

import numpy as np
from numpy.typing import NDArray


def quantile(scores: NDArray[np.floating], coverage: float) -> float:
    """The score that a new one does not exceed with probability ``coverage`` at least.

    The ceil((n + 1) * coverage)-th smallest of the n ``scores``; infinite where n is too small to
    promise anything.
    """
    place = math.ceil((len(scores) + 1) * coverage - 1e-9)
    if place > len(scores):
        return math.inf
    return float(np.partition(scores, place - 1)[place - 1])
