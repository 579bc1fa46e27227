# SPDX-License-Identifier: Apache-2.0
"""A lower sampling rate without aliases."""

from math import ceil, pi

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

_ATTENUATION_DB = 80.0
_PASS_BAND = 0.8  # of the new Nyquist frequency


def decimate(values: Values, factor: int) -> Values:
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
    decimator = Decimator(factor)
    return np.concatenate((decimator.push(values), decimator.finish()), axis=1)


class Decimator:
    """Decimates a stream as ``decimate`` does a recording, with the same bits however it comes.

    Owns the inputs that outputs to come still need. Output i belongs to input ``i * factor``, and
    is made once ``delay`` more inputs are there. A NaN reaches the about 25 outputs to either side
    whose filter touches it, and no other; infinite values count as NaN.

    Attributes:
        factor: old rate / new rate.
        delay: inputs behind the one that an output belongs to, without which it is not made.
    """

    def __init__(self, factor: int) -> None:
        """Begin with the first sample.

        Raises:
            ValueError: the factor is below 1.
        """
        if factor < 1:
            raise ValueError(f"cannot decimate by {factor}")
        self.factor = factor
        self._taps = low_pass(factor) if factor > 1 else np.ones(1)
        self.delay = self._taps.size // 2
        self._waiting: Values | None = (
            None  # (channels, kept), from the first tap of the next output
        )

    def push(self, values: NDArray[np.floating]) -> Values:
        """Add consecutive ``values`` (channels, n); the outputs (channels, m) that can be made."""
        fresh = np.where(np.isfinite(values), values, np.nan).astype(np.float64)
        if self._waiting is not None:
            self._waiting = np.concatenate((self._waiting, fresh), axis=1)
        elif fresh.shape[1]:
            self._waiting = np.pad(fresh, ((0, 0), (self.delay, 0)), mode="edge")
        else:
            return fresh
        return self._made(self._waiting)

    def finish(self) -> Values:
        """The outputs (channels, m) that are left, as if the last sample continued for ever.

        What is pushed next is the beginning of another stream.
        """
        if self._waiting is None:
            return np.zeros((0, 0))
        padded = np.pad(self._waiting, ((0, 0), (0, self.delay)), mode="edge")
        made = self._made(padded)
        self._waiting = None
        return made

    def _made(self, inputs: Values) -> Values:
        factor, taps = self.factor, self._taps
        count = max(0, (inputs.shape[1] - taps.size) // factor + 1)
        result = np.zeros((inputs.shape[0], count))
        if count:
            used = inputs[:, : (count - 1) * factor + taps.size]
            for channel, row in enumerate(used):
                # polyphase: only the outputs that are kept are computed
                for phase in range(factor):
                    part = np.correlate(row[phase::factor], taps[phase::factor], "valid")
                    result[channel] += part
            self._waiting = inputs[:, count * factor :].copy()
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
