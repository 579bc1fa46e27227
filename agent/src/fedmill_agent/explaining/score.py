# SPDX-License-Identifier: Apache-2.0
"""The one number that is explained."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def scores(outputs: NDArray[np.float32], chosen: Sequence[int]) -> NDArray[np.float64]:
    """Score (n,) of each of n ``outputs`` (n, outputs).

    Of classes it is the logarithm of the odds that one of those at ``chosen`` is the true one, by
    which M. Robnik-Šikonja and I. Kononenko explain ("Explaining Classifications For Individual
    Instances", IEEE Transactions on Knowledge and Data Engineering 20 (2008) 589). Without any it
    is the number itself; all of them have no odds.
    """
    values = outputs.astype(np.float64)
    if not chosen:
        return values[:, 0]
    others = np.ones(values.shape[1], np.bool_)
    others[list(chosen)] = False
    return _log_sum(values[:, ~others]) - _log_sum(values[:, others])


def _log_sum(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm (n,) of the summed exponentials of ``values`` (n, k)."""
    largest = values.max(axis=1)
    total: NDArray[np.float64] = largest + np.log(np.exp(values - largest[:, None]).sum(axis=1))
    return total
