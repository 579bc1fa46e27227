# SPDX-License-Identifier: Apache-2.0
"""Which values may be trusted: what is missing, implausible or stuck neither trains nor scores."""

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint8]
Values = NDArray[np.float32]


class Fault(IntEnum):
    """What is wrong with a value; where several are, the largest."""

    GOOD = 0
    OUTLIER = 1
    MISSING = 2
    RANGE = 3
    FLAT = 4

    @property
    def words(self) -> str:
        """For people."""
        return _WORDS[self]


_WORDS = {
    Fault.GOOD: "good",
    Fault.OUTLIER: "outlier",
    Fault.MISSING: "missing",
    Fault.RANGE: "out of range",
    Fault.FLAT: "stuck at one value",
}


def inspect(values: Values, low: Values, high: Values, flat: Sequence[int]) -> Codes:
    """The fault of each of ``values`` (signals, length), uint8 of that shape.

    Args:
        values: not finite where nothing came.
        low: (signals, 1), smallest plausible values.
        high: (signals, 1), largest ones.
        flat: (signals,), samples in a row with one and the same value from which on the signal is
            stuck; 0: it may stay. Missing values in between end no row.
    """
    finite = np.isfinite(values)
    codes = np.where(finite, np.uint8(Fault.GOOD), np.uint8(Fault.MISSING))
    codes[finite & ((values < low) | (values > high))] = Fault.RANGE
    for signal, most in enumerate(flat):
        if most:
            _mark_flat(values[signal], codes[signal], most)
    return codes


def _mark_flat(values: Values, codes: Codes, most: int) -> None:
    """Mark every row of equal values that spans at least ``most`` samples, in ``codes``."""
    known = np.flatnonzero(codes != Fault.MISSING)
    if known.size == 0:
        return
    changes = np.flatnonzero(np.diff(values[known])) + 1
    firsts, lasts = known[np.r_[0, changes]], known[np.r_[changes - 1, known.size - 1]]
    for row in np.flatnonzero(lasts - firsts + 1 >= most):
        part = codes[firsts[row] : lasts[row] + 1]
        part[part != Fault.MISSING] = Fault.FLAT
