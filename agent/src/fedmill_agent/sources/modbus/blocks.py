# SPDX-License-Identifier: Apache-2.0
"""When the samples of a block were taken, by the number that its device counts blocks with.

The number and the rate alone space the samples: a slow network, a late poll, and a device that is
faster or slower than real time change nothing. Only the first block has the time at which it came.
"""

from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

SLACK = 16
"""Blocks that may be lost at once, however little time has passed."""
LATELY = 64
"""Blocks by which a device's time is compared with ours."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a block lies.

    Attributes:
        times_ns: int64 (count,) of its samples.
        lost: blocks between it and the last one.
        restarted: whether the device counts anew, so that the time is that of the arrival again.
    """

    times_ns: NDArray[np.int64]
    lost: int = 0
    restarted: bool = False


@dataclass(slots=True)
class BlockClock:
    """Owns the time line of one block register.

    Args:
        count: samples of a block.
        rate_hz: samples per second.
        modulus: the number after which the device counts from 0 again.
    """

    count: int
    rate_hz: float
    modulus: int = 0
    last: int | None = None
    _origin_ns: int = 0  # time of the last sample of the first block
    _passed: int = 0  # blocks since then, lost ones too
    _arrived_ns: int = 0
    _begun_ns: int = 0
    _late_ns: deque[int] = field(default_factory=lambda: deque(maxlen=LATELY))
    _end_ns: int | None = None

    def place(self, number: int | None, arrived_ns: int) -> Placed:
        """Times of the block ``number``, None where nothing counts it, that came at a time."""
        if number is None:
            self._end_ns = arrived_ns
            return Placed(self._times(arrived_ns))
        step = 0 if self.last is None else (number - self.last) % self.modulus
        fresh = self.last is None
        restarted = not fresh and step > self._most(arrived_ns)
        if fresh or restarted:
            earliest = arrived_ns if self._end_ns is None else self._end_ns + self._span(1)
            self._origin_ns, self._passed = max(arrived_ns, earliest), 0
            self._begun_ns = arrived_ns
            self._late_ns.clear()
        else:
            self._passed += step
        self.last, self._arrived_ns = number, arrived_ns
        self._end_ns = self._origin_ns + self._span(self._passed)
        self._late_ns.append(arrived_ns - self._end_ns)
        lost = 0 if fresh or restarted else max(0, step - 1)
        return Placed(self._times(self._end_ns), lost, restarted)

    def at(self, now_ns: int) -> int:
        """Where what is read at ``now_ns`` lies: behind the last block, and not behind the next.

        However late a block or a poll is, and whatever time the device has. In between, the block
        that was the least late of the last ones tells how its time is to ours.
        """
        if self._end_ns is None or self.modulus == 0:
            return now_ns
        own_ns = now_ns - min(self._late_ns)
        return min(max(own_ns, self._end_ns), self._end_ns + self._span(1))

    def after_ns(self, now_ns: int) -> int:
        """A time at which no good sample lies or will lie: right after the last one."""
        if self._end_ns is None or self.modulus == 0:
            return now_ns
        return self._end_ns + max(1, self._span(1) // self.count // 2)

    def _most(self, arrived_ns: int) -> float:
        """Blocks that the device can have made since the last one; more is a new beginning."""
        since = arrived_ns - self._arrived_ns
        told = since / self._span(1)
        lived = self._arrived_ns - self._begun_ns
        seen = since * self._passed / lived if lived > 0 else 0.0
        return min(self.modulus / 2, SLACK + 4 * max(told, seen))

    def _span(self, blocks: int) -> int:
        return round(Fraction(blocks * self.count * 10**9) / Fraction(self.rate_hz))

    def _times(self, end_ns: int) -> NDArray[np.int64]:
        back = np.arange(self.count - 1, -1, -1) * (1e9 / self.rate_hz)
        return np.asarray(end_ns - np.rint(back).astype(np.int64))
