# SPDX-License-Identifier: Apache-2.0
"""How much of what strangers send is looked at, and how often it is told that there was more."""

from collections.abc import Callable

from fedmill_shared.clock import Clock

TOLD_SECONDS = 60.0


class Bucket:
    """Lets ``rate`` things a second pass on average, and ``burst`` of them at once."""

    def __init__(self, clock: Clock, *, rate: float, burst: int) -> None:
        """Full."""
        self._clock = clock
        self._rate = rate
        self._burst = burst
        self._left = float(burst)
        self._seen = clock.monotonic()

    def take(self) -> bool:
        """Whether one more may pass now."""
        now = self._clock.monotonic()
        self._left = min(self._burst, self._left + (now - self._seen) * self._rate)
        self._seen = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Seldom:
    """Tells of what happens often: at once, and then once a minute with how often it was."""

    def __init__(self, clock: Clock) -> None:
        """Nothing has happened."""
        self._clock = clock
        self._due: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def tell(self, about: str, tell: Callable[[int], None]) -> None:
        """It happened ``about`` somebody: call ``tell`` with the number of times, if it is time."""
        now = self._clock.monotonic()
        self._counts[about] = self._counts.get(about, 0) + 1
        if now < self._due.get(about, now):
            return
        self._due[about] = now + TOLD_SECONDS
        tell(self._counts.pop(about))
