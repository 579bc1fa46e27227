# SPDX-License-Identifier: Apache-2.0
"""Whether a thread that must advance does: it beats, others look."""

from math import inf

from fedmill_shared.clock import Clock


class Pulse:
    """Knows by when its thread is to beat again. One thread beats, any may look."""

    def __init__(self, clock: Clock, patience: float) -> None:
        """At rest; ``patience`` is the longest time (s) between two beats of one that works."""
        self._clock = clock
        self._patience = patience
        self._due = inf

    @property
    def late(self) -> float:
        """Seconds for which it has been overdue; 0 while it works or rests."""
        return max(0.0, self._clock.monotonic() - self._due)

    def beat(self, rest: float = 0.0) -> None:
        """It advances, and will again after a ``rest`` (s) that it means to take; inf for any."""
        self._due = self._clock.monotonic() + rest + self._patience

    def end(self) -> None:
        """Its work is done: it is late no more."""
        self._due = inf
