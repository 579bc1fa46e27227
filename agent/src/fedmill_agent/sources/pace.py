# SPDX-License-Identifier: Apache-2.0
"""When a source that has to be asked is asked next."""

import time
from collections import Counter
from dataclasses import dataclass, field

from fedmill_shared.clock import Clock


@dataclass(slots=True)
class Pace:
    """Questions ``seconds`` apart, the first one at once.

    One that comes late does not make the later ones late, and those that were missed are not made
    up for: they are counted as ``late poll``.
    """

    seconds: float
    clock: Clock
    counts: Counter[str] = field(default_factory=Counter)
    _due: float | None = None

    def due(self, timeout: float) -> bool:
        """Whether to ask now; waits for that, at most ``timeout`` seconds."""
        now = self.clock.monotonic()
        if self._due is None:
            self._due = now
        if self._due - now > timeout:
            time.sleep(timeout)
            return False
        if self._due > now:
            time.sleep(self._due - now)
            now = self._due
        missed = int((now - self._due) / self.seconds)
        if missed:
            self.counts["late poll"] += missed
        self._due += (missed + 1) * self.seconds
        return True

    def hold_off(self, seconds: float) -> None:
        """Ask no sooner than ``seconds`` from now: the other side wishes it."""
        self._due = max(self._due or 0.0, self.clock.monotonic() + seconds)
