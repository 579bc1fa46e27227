# SPDX-License-Identifier: Apache-2.0
"""The newest readings of one tag, and what value they give at a time."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.sources.live import GOOD, Readings

NEVER = -(1 << 62)
MOST_PIECES = 1 << 12
"""Pushes that wait side by side, and readings of which those of one time are told apart."""
MOST_HELD = 1 << 21
"""Readings that wait for samples; of more the oldest are lost."""
Times = NDArray[np.int64]
Values = NDArray[np.float64]


@dataclass(slots=True)
class Column:
    """Owns the readings of one tag that are not used up yet, and the last one that is.

    A reading counts for the tick whose cell it lies in. Of several in a cell the first counts, so
    that nothing need be waited for; the last one is what holds from there on. Where a cell has
    none, the one before it counts while it holds.

    Attributes:
        tag: what its source calls it.
        hold_ns: for how long a good value counts where no newer one comes.
        factor: how many times as fast as its neighbours it comes.
        newest_ns: time of the newest reading, good or not; None before the first.
        lost: readings that were too many to wait: a clock that stands still makes no sample.
    """

    tag: str
    hold_ns: int
    factor: int = 1
    newest_ns: int | None = None
    lost: int = 0
    _times: Times = field(default_factory=lambda: np.empty(0, np.int64))
    _values: Values = field(default_factory=lambda: np.empty(0))
    _used: int = 0  # of them, those that samples were made of; at most one is kept
    _fresh: list[tuple[Times, Values]] = field(default_factory=list)

    @property
    def first_ns(self) -> int | None:
        """Time of the oldest reading that no sample was made of; None if there is none."""
        self._merge()
        return int(self._times[self._used]) if self._used < len(self._times) else None

    @property
    def held_until_ns(self) -> int:
        """Time up to which the newest value counts."""
        self._merge()
        if not len(self._times) or not np.isfinite(self._values[-1]):
            return NEVER if self.newest_ns is None else self.newest_ns
        return int(self._times[-1]) + self.hold_ns

    def push(self, readings: Readings, open_ns: int = NEVER, filled_ns: int = NEVER) -> int:
        """Take in ``readings``; the number of them that come too late to change a sample.

        ``open_ns`` is the time from which on samples are still to be made, and ``filled_ns`` where
        the cell before it begins: more of one that has a reading already is not late.
        """
        if not len(readings):
            return 0
        good = (readings.quality == GOOD) & np.isfinite(readings.values)
        times, values = readings.times_ns, readings.values
        if not good.all():
            values = np.where(good, values, np.nan)
        late = 0
        if int(times.min()) < open_ns:
            fresh = times >= open_ns
            late = self._take_late(times[~fresh], values[~fresh], filled_ns)
            times, values = times[fresh], values[fresh]
        if len(times):
            self._fresh.append((times, values))
            if len(self._fresh) >= MOST_PIECES:
                self._merge()
            newest = int(times.max())
            self.newest_ns = newest if self.newest_ns is None else max(self.newest_ns, newest)
        return late

    def take(self, ticks: Times, edges: Times) -> Values:
        """float64 (n,), the value at each of ``ticks`` (n,); NaN where there is none that counts.

        ``edges`` (n + 1,) are where their cells begin, and where the last one ends.
        """
        self._merge()
        if not len(self._times):
            return np.full(len(ticks), np.nan)
        places = np.searchsorted(self._times, edges, "left")
        first, end = places[:-1], int(places[-1])
        own = first < places[1:]
        chosen = np.where(own, first, first - 1)
        known = np.maximum(chosen, 0)
        counts = own | ((chosen >= 0) & (ticks <= self._times[known] + self.hold_ns))
        values = np.where(counts, self._values[known], np.nan)
        if end:
            self._times, self._values = (
                self._times[end - 1 :].copy(),
                self._values[end - 1 :].copy(),
            )
            self._used = 1
        return values

    def spans(self) -> tuple[int, Times, Times]:
        """Until when the used reading holds, and from when until when each of the others does."""
        self._merge()
        good = np.isfinite(self._values)
        ends = self._times + np.where(good, self.hold_ns, 0)
        ends[:-1] = np.minimum(ends[:-1], self._times[1:])
        return (
            int(ends[0]) if self._used else NEVER,
            self._times[self._used :],
            ends[self._used :],
        )

    def release(self, time_ns: int) -> None:
        """No value holds beyond ``time_ns``, or beyond the newest if that is later."""
        if self.newest_ns is not None:
            self.newest_ns = max(self.newest_ns + 1, time_ns)
            self._fresh.append((np.array([self.newest_ns], np.int64), np.array([np.nan])))

    def restart(self, time_ns: int | None) -> None:
        """Forget all that came, or all but the newest value, which holds from ``time_ns`` on."""
        self._merge()
        kept = 0 if time_ns is None else min(1, len(self._times))
        self._values = self._values[len(self._values) - kept :].copy()
        self._times = np.full(kept, time_ns or 0, np.int64)
        self._used, self.newest_ns = 0, time_ns if kept else None

    def _take_late(self, times: Times, values: Values, filled_ns: int) -> int:
        """The newest of late readings holds from now on, if nothing newer does."""
        self._merge()
        used_ns = int(self._times[0]) if self._used else NEVER
        late = times < filled_ns if used_ns >= filled_ns else np.ones(len(times), np.bool_)
        newest = len(times) - 1 - int(np.argmax(times[::-1]))
        if int(times[newest]) >= used_ns:
            self._times = np.append(times[newest], self._times[self._used :])
            self._values = np.append(values[newest], self._values[self._used :])
            self._used, self.newest_ns = 1, int(self._times[-1])
        return int(np.count_nonzero(late))

    def _merge(self) -> None:
        """Put what came into the order of time; what has the same time stays as it came."""
        if not self._fresh:
            return
        times = np.concatenate([self._times, *(times for times, _ in self._fresh)])
        values = np.concatenate([self._values, *(values for _, values in self._fresh)])
        self._fresh.clear()
        if bool((times[1:] < times[:-1]).any()):
            order = np.argsort(times, kind="stable")
            times, values = times[order], values[order]
        self._times, self._values = times, values
        if len(times) > MOST_PIECES:
            self._thin()

    def _thin(self) -> None:
        """Give up what changes no sample, and the oldest of what is still too much.

        Of several readings of one time only the first and the last count.
        """
        times = self._times
        kept = np.ones(len(times), np.bool_)
        kept[1:-1] = (times[1:-1] != times[:-2]) | (times[1:-1] != times[2:])
        kept[: self._used + 1] = True  # as ``_used`` counts them
        places = np.flatnonzero(kept)
        if len(places) > MOST_HELD:
            excess = len(places) - MOST_HELD // 2
            self.lost += excess
            places = np.delete(places, slice(self._used, self._used + excess))
        if len(places) < len(times):
            self._times, self._values = times[places], self._values[places]
