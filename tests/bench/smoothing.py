# SPDX-License-Identifier: Apache-2.0
"""Means over the rows until now: noise falls by the root of their number, and an alarm is later."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray


def causal_mean(rows: NDArray[np.floating], length: int) -> NDArray[np.float64]:
    """Float64 (n, d): of each of ``rows`` (n, d) and the ``length`` - 1 before it, the mean.

    Before the first row stands the first row, as often as it takes.
    """
    padded = np.concatenate([np.repeat(rows[:1], length - 1, axis=0), rows]).astype(np.float64)
    means: NDArray[np.float64] = sliding_window_view(padded, length, axis=0).mean(2)
    return means
