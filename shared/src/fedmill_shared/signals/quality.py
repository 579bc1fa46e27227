# SPDX-License-Identifier: Apache-2.0
"""Which samples may be trusted, and which gaps may be bridged."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.signals.windows import Window

HOLD = 5
"""Missing samples in a row that are bridged unless told otherwise."""


def assess(values: NDArray[np.float64] | NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which values are good, in the shape of ``values``: a value that is not finite is bad (0)."""
    return np.isfinite(values)


def bridge(values: NDArray[np.float32], hold: int = HOLD) -> NDArray[np.float32]:
    """``values`` (signals, length) with gaps of at most ``hold`` bad samples interpolated linearly.

    A gap that touches an edge stays: nobody knows here how long it is, nor where it leads.
    """
    good = assess(values)
    if good.all():
        return values
    result = values.copy()
    for signal in np.flatnonzero(~good.all(axis=1)):
        known = np.flatnonzero(good[signal])
        steps = np.diff(known)
        for gap in np.flatnonzero((steps > 1) & (steps <= hold + 1)):
            left, right = known[gap], known[gap + 1]
            ends = values[signal, [left, right]].astype(np.float64)
            result[signal, left : right + 1] = np.linspace(ends[0], ends[1], right - left + 1)
    return result


def mend(window: Window, hold: int = HOLD) -> Window:
    """``window`` with its short gaps bridged; ``good_share`` still tells what really came."""
    return replace(window, values=bridge(window.values, hold))


def usable(window: Window) -> bool:
    """Whether ``window`` may train and be scored: every value is good."""
    return bool(assess(window.values).all())
