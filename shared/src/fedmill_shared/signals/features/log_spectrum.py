# SPDX-License-Identifier: Apache-2.0
"""How a signal's power is spread over its frequencies."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.signals.features.bands import log_bands, powers


def log_spectrum(values: NDArray[np.float64], edges: Sequence[int]) -> NDArray[np.float64]:
    """Decimal logarithm (windows, signals, bands) of the power of ``values`` in each band.

    Args:
        values: (windows, signals, length), at least 2 long.
        edges: bins of the spectrum, that at 0 Hz left out, between which the bands lie.
    """
    return log_bands(powers(values), edges)
