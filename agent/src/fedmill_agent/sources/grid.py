# SPDX-License-Identifier: Apache-2.0
"""Times that samples are made for, exact to the nanosecond however long they go on."""

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

_SECOND = 10**9
_FINEST = 10**6
_LARGEST = 10**11


def exact(rate_hz: float) -> Fraction:
    """``rate_hz`` as the simple fraction that was meant, such as 1/60 or 100/3."""
    if rate_hz < 1:
        return 1 / Fraction(1 / rate_hz).limit_denominator(_FINEST)
    return Fraction(rate_hz).limit_denominator(max(1, min(_FINEST, int(_LARGEST / rate_hz))))


@dataclass(frozen=True)
class Grid:
    """Owns ``origin_ns`` and every 1 / ``rate`` s after it, rounded down to whole ns.

    Tick k has a cell of its own, from half a period before it to half a period before the next
    one. Cells leave nothing out between them.
    """

    origin_ns: int
    rate: Fraction

    @cached_property
    def step(self) -> Fraction:
        """Nanoseconds between ticks."""
        return _SECOND / self.rate

    @cached_property
    def half_ns(self) -> int:
        """How long before its tick a cell begins."""
        return int(self.step / 2)

    def time(self, tick: int) -> int:
        """Time (ns UTC) of a tick."""
        return self.origin_ns + tick * self.step.numerator // self.step.denominator

    def edge(self, tick: int) -> int:
        """Time (ns UTC) at which the cell of a tick begins."""
        return self.time(tick) - self.half_ns

    def times(self, first: int, count: int) -> NDArray[np.int64]:
        """int64 (count,), those of the ticks from number ``first`` on, at most some 10,000."""
        parts = self.step.denominator
        whole, rest = divmod(self.step.numerator, parts)
        begin, left = divmod(first * self.step.numerator, parts)
        steps = np.arange(count, dtype=np.int64)
        found: NDArray[np.int64] = self.origin_ns + begin + steps * whole
        found += (left + steps * rest) // parts
        return found

    def reached(self, time_ns: int) -> int:
        """Number of ticks whose time is ``time_ns`` or before."""
        later = time_ns - self.origin_ns + 1
        return max(0, -(-later * self.step.denominator // self.step.numerator))

    def finer(self, factor: int) -> "Grid":
        """The grid with ``factor`` ticks for each of these; tick k is tick ``k * factor`` there."""
        return Grid(self.origin_ns, self.rate * factor)
