# SPDX-License-Identifier: Apache-2.0
"""Short gaps in a window, filled; long ones stay, for nobody knows what was in them."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Missing = Literal["linear", "hold", "drop"]
Values = NDArray[np.float32]


def fill(values: Values, how: Missing, most: int) -> Values:
    """``values`` (signals, length) with gaps of at most ``most`` values that are not finite filled.

    ``linear`` draws a line between the neighbours of a gap; one that touches an edge stays: nobody
    knows here how long it is, nor where it leads. ``hold`` repeats the value before the gap; one at
    the beginning stays. ``drop`` fills nothing.
    """
    good = np.isfinite(values)
    if how == "drop" or good.all():
        return values
    result = values.copy()
    for signal in np.flatnonzero(~good.all(axis=1)):
        known = np.flatnonzero(good[signal])
        if how == "hold":
            _hold(result[signal], known, most)
        else:
            _draw(result[signal], known, most)
    return result


def _draw(values: Values, known: NDArray[np.intp], most: int) -> None:
    steps = np.diff(known)
    for gap in np.flatnonzero((steps > 1) & (steps <= most + 1)):
        left, right = known[gap], known[gap + 1]
        ends = values[[left, right]].astype(np.float64)
        values[left : right + 1] = np.linspace(ends[0], ends[1], right - left + 1)


def _hold(values: Values, known: NDArray[np.intp], most: int) -> None:
    ends = np.append(known, values.size)[1:]
    for left, right in zip(known, ends, strict=True):
        if 1 < right - left <= most + 1:
            values[left + 1 : right] = values[left]
