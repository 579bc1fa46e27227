# SPDX-License-Identifier: Apache-2.0
"""Single values that do not belong to their neighbours or to the rest of a window.

For slow signals. In a vibration the impulses are what a bearing's damage looks like: leave it be.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Values = NDArray[np.float32]
Mask = NDArray[np.bool_]

_TO_SIGMA = 1.4826  # median absolute deviation to standard deviation, if normal
_SORTED = 1 << 17  # values that are sorted at a time: samples times neighbours


def hampel(values: Values, reach: int, sigmas: float) -> tuple[Values, Mask]:
    """``values`` with outliers replaced by the median of their neighbourhood, and which they are.

    The Hampel identifier in a moving window (R. K. Pearson, Y. Neuvo, J. Astola, M. Gabbouj,
    "Generalized Hampel Filters", EURASIP Journal on Advances in Signal Processing 2016:87): a value
    further from the median of itself and ``reach`` neighbours to either side than ``sigmas`` times
    1.4826 times their median absolute deviation. Near an edge there are fewer neighbours. Values
    that are not finite are no neighbours, and stay; so does a value that stands alone.

    Args:
        values: float32 (signals, length).
        reach: neighbours to either side, at least 1.
        sigmas: at least 0.

    Returns:
        float32 and bool of the shape of ``values``.
    """
    result, found = values.copy(), np.zeros(values.shape, np.bool_)
    finite = np.where(np.isfinite(values), values, np.nan).astype(np.float32, copy=False)
    padded = np.pad(finite, ((0, 0), (reach, reach)), constant_values=np.nan)
    columns = max(1, _SORTED // (2 * reach + 1))
    for signal, row in enumerate(padded):
        for first in range(0, values.shape[1], columns):
            last = min(first + columns, values.shape[1])
            around = sliding_window_view(row[first : last + 2 * reach], 2 * reach + 1)
            middle = _median(around)
            here = finite[signal, first:last]
            with np.errstate(over="ignore"):  # what is infinitely far is far
                spread = _median(np.abs(around - middle[:, None])).astype(np.float64)
                # NaN is not further than anything.
                far = np.abs(here - middle) > sigmas * _TO_SIGMA * spread
            found[signal, first:last] = far
            result[signal, first:last][far] = middle[far]
    return result, found


def winsorise(values: Values, tails: float) -> Values:
    """``values`` (signals, length) with both tails of each signal drawn in.

    Of the n finite values of a signal, the ``floor(tails * n)`` smallest become the next larger
    one, and as many of the largest the next smaller one (W. J. Dixon, "Simplified Estimation from
    Censored Normal Samples", Annals of Mathematical Statistics 31, 1960). Others stay.

    Args:
        values: float32 (signals, length).
        tails: share of each tail, below 0.5.
    """
    result = values.copy()
    for row in result:
        good = np.isfinite(row)
        cut = int(tails * np.count_nonzero(good))
        if cut:
            ordered = np.sort(row[good])
            row[good] = np.clip(row[good], ordered[cut], ordered[-cut - 1])
    return result


def _median(rows: Values) -> Values:
    """Median (n,) of what is finite in each of ``rows`` (n, m); NaN where nothing is."""
    ordered = np.sort(rows, axis=1)  # NaN come last
    count = np.count_nonzero(~np.isnan(rows), axis=1)
    places = np.arange(len(rows))
    low, high = ordered[places, (count - 1) // 2], ordered[places, count // 2]
    # Half of each, as their sum may overflow.
    return np.where(count > 0, low / 2 + high / 2, np.float32(np.nan)).astype(np.float32)
