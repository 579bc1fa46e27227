# SPDX-License-Identifier: Apache-2.0
"""Which times of a source count, and what to make of a clock that is wrong or was set."""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from fedmill_agent.sources.live import Readings

JUMP_NS = 60 * 10**9
JUMP_READINGS = 5
"""A clock was set if as many batches in a row are ahead, by more than this, of where it was."""
LATEST_NS = 1 << 62
"""In the year 2116; a time behind it, or before 1970, is none."""


@dataclass(slots=True)
class SourceClock:
    """Owns what is known of the clock behind one source.

    One value from the far future would make all that follows late. So what is suddenly far ahead is
    left out until it is clear that the clock was set: the batches in a row are enough, and most
    tags are among them, or no other came for as long.

    Args:
        kind: ``arrival`` where times are those at which values come in here.
        snapshot: whether a session begins by telling values that were measured long ago.
        dropped: where what is left out is counted, as ``clock``, ``time`` and ``historical``.
    """

    kind: Literal["source", "arrival"]
    snapshot: bool
    dropped: Counter[str]
    _opened_ns: int = 0
    _seen: set[str] = field(default_factory=set)
    _ahead_ns: int = 0
    _usual_ns: int = 0
    _leap: list[str] = field(default_factory=list)
    _leapt_ns: int = 0

    def opened(self, now_ns: int) -> None:
        """A session begins at ``now_ns``."""
        self._seen, self._opened_ns, self._leap = set(), now_ns, []

    def timed(self, readings: Readings) -> Readings | None:
        """``readings`` in the times that count; None where they are left out."""
        known = (readings.times_ns >= 0) & (readings.times_ns < LATEST_NS)
        if not known.all():
            self.dropped["time"] += len(readings) - int(np.count_nonzero(known))
            readings = replace(
                readings,
                times_ns=readings.times_ns[known],
                values=readings.values[known],
                quality=readings.quality[known],
            )
        if not len(readings):
            return None
        offset = int(readings.times_ns[-1]) - readings.arrived_ns
        if readings.historical:
            return self._historical(readings)
        if self.kind == "arrival":
            return replace(readings, times_ns=readings.times_ns - np.int64(offset))
        fresh = readings.tag not in self._seen
        self._seen.add(readings.tag)
        if offset > self._ahead_ns + JUMP_NS and not self._was_set(readings):
            self.dropped["clock"] += len(readings)
            return None
        self._leap.clear()
        if offset > -JUMP_NS:
            self._ahead_ns = max(0, offset)
        if fresh and self.snapshot and len(readings) == 1:
            opened = np.array([self._opened_ns + self._usual_ns], np.int64)
            return replace(readings, times_ns=np.maximum(readings.times_ns, opened))
        self._usual_ns = offset
        return readings

    def _historical(self, readings: Readings) -> Readings | None:
        """They say nothing of the clock as it is now, and are of use at their own times only."""
        if self.kind == "arrival":
            self.dropped["historical"] += len(readings)
            return None
        newest = int(readings.times_ns.max())
        if newest > readings.arrived_ns + self._ahead_ns + JUMP_NS:
            self.dropped["clock"] += len(readings)
            return None
        return readings

    def _was_set(self, readings: Readings) -> bool:
        """Whether it is clear by now that the clock is as far ahead as ``readings`` say."""
        if not self._leap:
            self._leapt_ns = readings.arrived_ns
        self._leap = [*self._leap, readings.tag][-1000:]
        if len(self._leap) < JUMP_READINGS:
            return False
        long = readings.arrived_ns - self._leapt_ns > JUMP_NS
        return long or 2 * len(set(self._leap)) > len(self._seen)
