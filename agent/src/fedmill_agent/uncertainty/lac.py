# SPDX-License-Identifier: Apache-2.0
"""Sets of classes that hold the true one as often as asked for, and are as small as can be.

M. Sadinle, J. Lei, L. Wasserman, "Least Ambiguous Set-Valued Classifiers with Bounded Error
Levels", Journal of the American Statistical Association 114 (2019) 223. A class is in the set where
its probability reaches a threshold. No calibrated probability is needed for that, so the plain ones
are taken: then no window serves two purposes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.probabilities import probabilities
from fedmill_agent.uncertainty.conformal import quantile

_ROUNDING = 1e-9
"""Two ways to compute an exponential differ by less than this, as a share of it."""


def threshold(logits: NDArray[np.floating], labels: NDArray[np.integer], coverage: float) -> float:
    """The probability that a class must reach; minus infinity where n is too small.

    Args:
        logits: (n, classes).
        labels: (n,) position of the true class.
        coverage: share of sets that hold the true class.
    """
    true = probabilities(logits)[np.arange(len(labels)), labels]
    return -quantile(-true, coverage)


def plausible(shares: Sequence[float], least: float) -> list[int]:
    """Positions of the classes whose plain probability, one of ``shares``, reaches ``least``.

    The predicted class is always among them: a set that said "none of these" would contradict it.
    A larger set covers no less.
    """
    best = shares.index(max(shares))
    limit = least - abs(least) * _ROUNDING
    return [place for place, share in enumerate(shares) if share >= limit or place == best]


def reaching(shares: NDArray[np.float64], least: float) -> NDArray[np.bool_]:
    """The same of many windows: which classes (n, classes) of ``shares`` (n, classes)."""
    sets: NDArray[np.bool_] = shares >= least - abs(least) * _ROUNDING
    sets[np.arange(len(sets)), shares.argmax(axis=1)] = True
    return sets
