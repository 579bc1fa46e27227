# SPDX-License-Identifier: Apache-2.0
"""When a source that has to be asked is asked next."""

import time
from collections import Counter
from dataclasses import dataclass, field

from fedmill_shared.clock import Clock


@dataclass(slots=True)
class Schedule:
    """Times that are whole intervals apart, however late each of them is taken.

    Attributes:
        interval: seconds between two of them.
        due: the next one, by the same clock as the arguments.
    """

    interval: float
    due: float

    def begin(self, now: float) -> int:
        """Take the time that is due; the number of those that were missed since."""
        missed = max(0, int((now - self.due) / self.interval))
        self.due += (missed + 1) * self.interval
        return missed


@dataclass(slots=True)
class Pace:
    """Questions ``seconds`` apart, the first one at once.

    One that comes late does not make the later ones late, and those that were missed are not made
    up for: they are counted as ``late poll``.
    """

    seconds: float
    clock: Clock
    counts: Counter[str] = field(default_factory=Counter)
    _schedule: Schedule | None = None

    def due(self, timeout: float) -> bool:
        """Whether to ask now; waits for that, at most ``timeout`` seconds."""
        now = self.clock.monotonic()
        schedule = self._schedule = self._schedule or Schedule(self.seconds, now)
        if schedule.due - now > timeout:
            time.sleep(timeout)
            return False
        if schedule.due > now:
            time.sleep(schedule.due - now)
            now = schedule.due
        if missed := schedule.begin(now):
            self.counts["late poll"] += missed
        return True

    def hold_off(self, seconds: float) -> None:
        """Ask no sooner than ``seconds`` from now: the other side wishes it."""
        until = self.clock.monotonic() + seconds
        known = until if self._schedule is None else self._schedule.due
        self._schedule = Schedule(self.seconds, max(known, until))
