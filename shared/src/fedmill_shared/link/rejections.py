# SPDX-License-Identifier: Apache-2.0
"""When it is told that the broker refuses messages which nobody sends again for that.

The protocol says again what matters, so a rejection changes nothing but that somebody must know:
now, and then once a minute for as long as messages are refused.
"""

import threading
from collections.abc import Callable
from math import inf

from fedmill_shared.clock import Clock
from fedmill_shared.link.base import Rejection

TOLD_SECONDS = 60.0


class Rejections:
    """Owns how many are not told yet; threads share it."""

    def __init__(self, tell: Callable[[Rejection, int], None], clock: Clock) -> None:
        """``tell`` gets one rejection and how many there were since it was called last."""
        self._tell = tell
        self._clock = clock
        self._lock = threading.Lock()
        self._due = -inf
        self._count = 0

    def hear(self, rejection: Rejection | None) -> None:
        """The broker's answer to a message, as :data:`fedmill_shared.link.base.Done`."""
        if rejection is None:
            return
        with self._lock:
            self._count += 1
            now = self._clock.monotonic()
            if now < self._due:
                return
            count, self._count, self._due = self._count, 0, now + TOLD_SECONDS
        self._tell(rejection, count)
