# SPDX-License-Identifier: Apache-2.0
"""When the samples of blocks were taken that are sent one after the other, each with one time."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LONGEST_SLACK_NS = 500_000_000
LONGEST_SECONDS = 86_400.0
FASTEST_HZ = 10e6
MOST_SAMPLES = 1 << 20
"""Of one block. In a message eight truths are a byte, and here each of them is twenty and more."""


@dataclass(slots=True)
class Waveform:
    """Owns the time line of one tag's blocks.

    A block ends at the time that came with it. Such times are whole milliseconds, or those at which
    a message happened to arrive; so a block that begins about where the last one ended, to within
    half its length and half a second, follows it without a gap. Anything else is taken at its word.

    Args:
        rate_hz: samples per second.
    """

    rate_hz: float
    _origin_ns: int = 0  # time of a sample long ago that all times are counted from
    _passed: int = -1  # samples since then, to the last one; -1 before the first block

    def times(self, count: int, end_ns: int) -> NDArray[np.int64]:
        """int64 (count,), times (ns UTC) of a block whose last sample was at about ``end_ns``."""
        period = 1e9 / self.rate_hz
        last = self._passed + count
        slack = min(LONGEST_SLACK_NS, count * period / 2)
        if self._passed < 0 or abs(self._origin_ns + round(last * period) - end_ns) > slack:
            self._origin_ns, last = end_ns - round((count - 1) * period), count - 1
        self._passed = last
        steps = np.arange(last - count + 1, last + 1, dtype=np.float64) * period
        return self._origin_ns + np.rint(steps).astype(np.int64)


def plausible(count: int, rate_hz: float) -> bool:
    """Whether a block of ``count`` samples can come at ``rate_hz``: it lasts a day at most.

    Nor has it more samples than the memory of a gateway is for.
    """
    fits = 0.0 < rate_hz <= FASTEST_HZ and count / rate_hz <= LONGEST_SECONDS
    return fits and count <= MOST_SAMPLES
