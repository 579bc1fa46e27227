# SPDX-License-Identifier: Apache-2.0
"""A lower sampling rate without aliases."""

from math import ceil, pi

import numpy as np
from numpy.typing import NDArray

_ATTENUATION_DB = 80.0
_PASS_BAND = 0.8  # of the new Nyquist frequency


def decimate(values: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """Every ``factor``-th sample of ``values`` after an anti-aliasing low pass, without delay.

    The filter is a linear-phase windowed sinc with a Kaiser window (A. V. Oppenheim, R. W. Schafer,
    Discrete-Time Signal Processing, 3rd ed., 7.5.3): flat to 80 % of the new Nyquist frequency, at
    least 80 dB down from it on. The first and the last sample are thought to continue for ever.

    Args:
        values: (channels, n); a NaN reaches about 25 outputs to either side.
        factor: old rate / new rate, 1 or more.

    Returns:
        float64 (channels, ceil(n / factor)); output i is at the time of input ``i * factor``.

    Raises:
        ValueError: the factor is below 1, or ``values`` does not have two dimensions.
    """
    if factor < 1 or values.ndim != 2:
        raise ValueError(f"cannot decimate an array of shape {values.shape} by {factor}")
    if factor == 1 or values.shape[1] == 0:
        return values[:, ::factor].astype(np.float64)
    taps = low_pass(factor)
    half = taps.size // 2
    padded = np.pad(values.astype(np.float64), ((0, 0), (half, half)), mode="edge")
    result = np.zeros((values.shape[0], ceil(values.shape[1] / factor)))
    for channel, row in enumerate(padded):
        # polyphase: only the outputs that are kept are computed
        for phase in range(factor):
            part = np.correlate(row[phase::factor], taps[phase::factor], "valid")
            result[channel] += part[: result.shape[1]]
    return result


def low_pass(factor: int) -> NDArray[np.float64]:
    """The taps, an odd number of about ``50 * factor``; symmetric, sum 1."""
    nyquist = 0.5 / factor  # cycles per old sample
    transition = (1.0 - _PASS_BAND) * nyquist
    cutoff = nyquist - transition / 2
    half = ceil((_ATTENUATION_DB - 7.95) / (2.285 * 2 * pi * transition) / 2)
    window = np.kaiser(2 * half + 1, 0.1102 * (_ATTENUATION_DB - 8.7))
    taps: NDArray[np.float64] = np.sinc(2 * cutoff * np.arange(-half, half + 1)) * window
    taps /= taps.sum()
    return taps
