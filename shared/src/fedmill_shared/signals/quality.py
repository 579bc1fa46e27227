# SPDX-License-Identifier: Apache-2.0
"""Which values may be trusted: what is missing, implausible or stuck neither trains nor scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint8]
Values = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Slope:
    """How fast a signal may change.

    Attributes:
        step: largest plausible change from one sample of the window to the next; 0: it may jump.
        held: samples of the window that one value of the signal stands for, 1 or more.
    """

    step: float = 0.0
    held: int = 1


class Fault(IntEnum):
    """What is wrong with a value; where several are, the largest."""

    GOOD = 0
    OUTLIER = 1
    MISSING = 2
    RANGE = 3
    FLAT = 4
    SPIKE = 5
    SLOW = 6

    @property
    def words(self) -> str:
        """For people."""
        return _WORDS[self]


_RESOLUTION = float(np.finfo(np.float32).eps)
_WORDS = {
    Fault.GOOD: "good",
    Fault.OUTLIER: "outlier",
    Fault.MISSING: "missing",
    Fault.RANGE: "out of range",
    Fault.FLAT: "stuck at one value",
    Fault.SPIKE: "spike",
    Fault.SLOW: "too few revolutions",
}


def inspect(
    values: Values,
    low: Values,
    high: Values,
    flat: Sequence[int],
    slopes: Sequence[Slope] = (),
) -> Codes:
    """The fault of each of ``values`` (signals, length), uint8 of that shape.

    Args:
        values: not finite where nothing came.
        low: (signals, 1), smallest plausible values.
        high: (signals, 1), largest ones.
        flat: (signals,), samples in a row with one and the same value from which on the signal is
            stuck; 0: it may stay. Missing values in between end no row.
        slopes: (signals,) or none. A value is a spike if it is further from the last good one than
            the signal can have come since then, so that after a while it is believed again. Good is
            what belongs to the longest stretch without a jump; from there it is looked at both
            ways, and a window may begin with a spike.
    """
    finite = np.isfinite(values)
    codes = np.where(finite, np.uint8(Fault.GOOD), np.uint8(Fault.MISSING))
    codes[finite & ((values < low) | (values > high))] = Fault.RANGE
    for signal, most in enumerate(flat):
        if most:
            _mark_flat(values[signal], codes[signal], most)
    for signal, slope in enumerate(slopes):
        if slope.step:
            _mark_spikes(values[signal], codes[signal], slope)
    return codes


def _mark_flat(values: Values, codes: Codes, most: int) -> None:
    """Mark every row of equal values that spans at least ``most`` samples, in ``codes``."""
    known = np.flatnonzero(codes != Fault.MISSING)
    if known.size == 0:
        return
    there = values[known]
    changes = np.flatnonzero(there[1:] != there[:-1]) + 1
    firsts, lasts = known[np.r_[0, changes]], known[np.r_[changes - 1, known.size - 1]]
    for row in np.flatnonzero(lasts - firsts + 1 >= most):
        part = codes[firsts[row] : lasts[row] + 1]
        part[part != Fault.MISSING] = Fault.FLAT


def _mark_spikes(values: Values, codes: Codes, slope: Slope) -> None:
    """Mark what changes too fast among the good values, in ``codes``."""
    places = np.flatnonzero(codes == Fault.GOOD)
    exact = values[places].astype(np.float64)
    jumps = np.flatnonzero(_far(exact[:-1], exact[1:], np.diff(places), slope))
    if jumps.size == 0:
        return
    firsts = np.concatenate(([0], jumps + 1))
    longest = int(np.diff(np.append(firsts, places.size)).argmax())
    first, last = firsts[longest], np.append(jumps, places.size - 1)[longest]
    spikes = [last + each for each in _spikes(exact[last:], places[last:], slope)]
    spikes += [first - each for each in _spikes(exact[first::-1], -places[first::-1], slope)]
    codes[places[spikes]] = Fault.SPIKE


def _spikes(values: NDArray[np.float64], places: NDArray[np.intp], slope: Slope) -> list[int]:
    """Positions of the spikes in ``values`` (n,) at ascending ``places``; the first is good."""
    jumps = np.flatnonzero(_far(values[:-1], values[1:], np.diff(places), slope))
    found: list[int] = []
    good = 0
    while (following := int(np.searchsorted(jumps, good))) < jumps.size:
        good = int(jumps[following])
        back, size = good + 1, 16
        while back < values.size:
            part = slice(back, back + size)
            far = _far(values[good], values[part], places[part] - places[good], slope)
            back, size = back + int(np.argmin(far) if not far.all() else far.size), 2 * size
            if not far.all():
                break
        found += range(good + 1, back)
        good = back
    return found


def _far(
    before: NDArray[np.float64] | np.float64,
    after: NDArray[np.float64],
    samples: NDArray[np.intp],
    slope: Slope,
) -> NDArray[np.bool_]:
    """Whether a signal cannot have come from ``before`` to ``after`` in so many samples."""
    rounding = _RESOLUTION * (np.abs(before) + np.abs(after))
    far: NDArray[np.bool_] = (
        np.abs(after - before) > slope.step * np.maximum(samples, slope.held) + rounding
    )
    return far
