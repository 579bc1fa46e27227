# SPDX-License-Identifier: Apache-2.0
"""Means over the rows until now: noise falls by the root of their number, and an alarm is later."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from fedmill_shared.errors import DataError
from fedmill_shared.monitoring.scatter import Numbers


def causal_mean(rows: NDArray[np.floating], length: int) -> Numbers:
    """Float64 (n, d): of each of ``rows`` (n, d) and the ``length`` - 1 before it, the mean.

    Before the first row stands the first row, as often as it takes (``window.pad = "edge"``).

    Raises:
        DataError: they are no matrix, or ``length`` is not positive.
    """
    if rows.ndim != 2 or length < 1:
        raise DataError(f"monitoring: rows {rows.shape} cannot be smoothed over {length}")
    if not len(rows):
        return rows.astype(np.float64)
    padded = np.concatenate([np.repeat(rows[:1], length - 1, axis=0), rows]).astype(np.float64)
    means: Numbers = sliding_window_view(padded, length, axis=0).mean(2)
    return means
