# SPDX-License-Identifier: Apache-2.0
"""How often something strikes: the spectrum of the envelope of a band.

Impacts excite resonances of the structure; how often they come shows in the squared envelope of
such a band, not in the spectrum of the signal itself. R. B. Randall, J. Antoni, "Rolling element
bearing diagnostics - a tutorial", Mechanical Systems and Signal Processing 25 (2011) 485-520.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.signals.features.bands import log_bands, powers


def envelope_spectrum(
    values: NDArray[np.float64], band: tuple[int, int], edges: Sequence[int]
) -> NDArray[np.float64]:
    """Decimal logarithm (windows, signals, bands) of the power of the squared envelope.

    Args:
        values: (windows, signals, length), at least 2 long.
        band: first and last bin of the spectrum that is demodulated, from 1.
        edges: bins of the envelope's spectrum, that at 0 Hz left out, between which the bands lie.
    """
    return log_bands(powers(squared_envelope(values, band)), edges)


def squared_envelope(values: NDArray[np.float64], band: tuple[int, int]) -> NDArray[np.float64]:
    """Square of the modulus (windows, signals, length) of the analytic signal of a band.

    The analytic signal is the inverse transform of twice the positive frequencies (S. L. Marple,
    "Computing the discrete-time analytic signal via FFT", IEEE Transactions on Signal Processing 47
    (1999) 2600-2603); what lies outside ``band`` (first and last bin) is left out.
    """
    length = values.shape[2]
    first, last = band
    spectrum = np.zeros(values.shape, np.complex128)
    spectrum[:, :, first : last + 1] = 2.0 * np.fft.rfft(values, axis=2)[:, :, first : last + 1]
    if length % 2 == 0 and last == length // 2:
        spectrum[:, :, last] /= 2.0  # it is its own negative frequency
    analytic = np.fft.ifft(spectrum, axis=2)
    return np.square(analytic.real) + np.square(analytic.imag)
