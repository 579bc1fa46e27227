# SPDX-License-Identifier: Apache-2.0
"""The newest readings of one tag, and what value they give at a time."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.sources.live import GOOD, Readings

_NEVER = -(1 << 62)


@dataclass(slots=True)
class Column:
    """Owns the readings of one tag that are not used up yet, and the last one that is.

    Attributes:
        tag: what its source calls it.
        hold_ns: for how long a good value counts where no newer one comes.
        newest_ns: time of the newest reading, good or not; None before the first.
    """

    tag: str
    hold_ns: int
    newest_ns: int | None = None
    _times: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    _values: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    _used: int = 0  # of them, those that samples were made of; at most one is kept

    @property
    def first_ns(self) -> int | None:
        """Time of the oldest reading that no sample was made of; None if there is none."""
        return int(self._times[self._used]) if self._used < len(self._times) else None

    @property
    def held_until_ns(self) -> int:
        """Time up to which the newest value counts."""
        if not len(self._times) or not np.isfinite(self._values[-1]):
            return self.newest_ns if self.newest_ns is not None else _NEVER
        return int(self._times[-1]) + self.hold_ns

    def push(self, readings: Readings, open_ns: int | None) -> int:
        """Take in ``readings``; the number of them that come too late for any sample to come.

        ``open_ns`` is the time from which on samples are still to be made; None for any.
        """
        good = (readings.quality == GOOD) & np.isfinite(readings.values)
        times, values = readings.times_ns, np.where(good, readings.values, np.nan)
        late = 0
        if open_ns is not None:
            fresh = times >= open_ns
            late = int(len(times) - np.count_nonzero(fresh))
            if late:
                self._hold(times[~fresh], values[~fresh])
                times, values = times[fresh], values[fresh]
        if len(times):
            ordered = self.newest_ns is None or int(times[0]) > self.newest_ns
            self._times = np.concatenate((self._times, times))
            self._values = np.concatenate((self._values, values))
            if not ordered or bool((np.diff(times) <= 0).any()):
                self._sort()
            self.newest_ns = int(self._times[-1])
        return late

    def take(self, ticks: NDArray[np.int64], half_ns: int) -> NDArray[np.float64]:
        """float64 (n,), the value at each of ``ticks`` (n,); NaN where there is none that counts.

        A reading counts from ``half_ns`` before its time on.
        """
        if not len(self._times):
            return np.full(len(ticks), np.nan)
        places = np.searchsorted(self._times, ticks + half_ns, "left") - 1
        known = np.maximum(places, 0)
        until = self._times[known] + max(self.hold_ns, half_ns)
        values = np.where((places >= 0) & (ticks <= until), self._values[known], np.nan)
        last = int(places[-1])
        if last >= 0:
            self._times, self._values, self._used = self._times[last:], self._values[last:], 1
        return values

    def release(self, time_ns: int) -> None:
        """No value holds beyond ``time_ns``, nor beyond the newest."""
        if self.newest_ns is not None:
            self.newest_ns = max(self.newest_ns + 1, time_ns)
            self._times = np.append(self._times, self.newest_ns)
            self._values = np.append(self._values, np.nan)

    def forget(self) -> None:
        """All that came."""
        self._times, self._values = self._times[:0], self._values[:0]
        self._used, self.newest_ns = 0, None

    def _hold(self, times: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        """The newest of late readings holds from now on, if nothing newer does."""
        newest = int(np.argmax(times))
        if self._used and int(self._times[0]) >= int(times[newest]):
            return
        self._times = np.concatenate((times[newest : newest + 1], self._times[self._used :]))
        self._values = np.concatenate((values[newest : newest + 1], self._values[self._used :]))
        self._used, self.newest_ns = 1, int(self._times[-1])

    def _sort(self) -> None:
        """By time; of several readings with one time the last that came counts."""
        used = self._times[: self._used]
        order = np.argsort(self._times, kind="stable")
        times = self._times[order]
        last = np.append(times[1:] != times[:-1], True)
        self._times, self._values = times[last], self._values[order][last]
        if len(used):
            self._used = int(np.searchsorted(self._times, used[-1], "right"))
