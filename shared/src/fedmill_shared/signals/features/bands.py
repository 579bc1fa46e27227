# SPDX-License-Identifier: Apache-2.0
"""The power of a signal in bands of its spectrum."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FLOOR = 1e-30
"""Power that counts as none, in the square of the signal's unit: a logarithm needs one."""


def powers(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """One-sided power (windows, signals, length // 2) of each bin of the spectrum from the first.

    Of ``values`` (windows, signals, length), at least 2 long, under a Hann window, from which what
    lies at 0 Hz is taken out; all bins together have the power of that (Parseval). G. Heinzel, A.
    Rüdiger, R. Schilling, "Spectrum and spectral density estimation by the DFT", Max Planck
    Institute for Gravitational Physics, 2002, 9. A tone's power lies in three bins.
    """
    length = values.shape[2]
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(length) / length)
    centre = (values * window).sum(axis=2, keepdims=True) / window.sum()
    bins = np.fft.rfft((values - centre) * window, axis=2)[:, :, 1:]
    scale = 2.0 / length / float(np.square(window).sum())
    power: NDArray[np.float64] = (np.square(bins.real) + np.square(bins.imag)) * scale
    if length % 2 == 0:
        power[:, :, -1] /= 2.0  # half the rate has no twin at a negative frequency
    return power


def log_bands(power: NDArray[np.float64], edges: Sequence[int]) -> NDArray[np.float64]:
    """Decimal logarithm (windows, signals, bands) of the power between ``edges``, ascending."""
    total = np.add.reduceat(power[:, :, : edges[-1]], list(edges[:-1]), axis=2)
    return np.log10(np.maximum(total, FLOOR))
