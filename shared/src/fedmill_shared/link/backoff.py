# SPDX-License-Identifier: Apache-2.0
"""How long to wait between attempts to connect, so that a broker's restart makes no storm.

Exponential back-off with full jitter: M. Brooker, "Exponential Backoff And Jitter", AWS
Architecture Blog, 2015.
"""

import random
from collections.abc import Callable

Jitter = Callable[[float], float]
FIRST_SECONDS = 1.0
LONGEST_SECONDS = 30.0
STEADY_SECONDS = 30.0
"""A connection that lasted as long was a good one."""


def full_jitter(longest: float) -> float:
    """Any number of seconds up to ``longest``, all equally likely."""
    return random.uniform(0.0, longest)


class Backoff:
    """Counts attempts and draws the wait before the next one."""

    def __init__(self, jitter: Jitter = full_jitter) -> None:
        """Before the first attempt; ``jitter`` draws a wait, given the longest one in seconds."""
        self._jitter = jitter
        self._longest = FIRST_SECONDS

    def wait(self, lasted: float, *, taken_over: bool = False) -> float:
        """Seconds to wait after a connection that ``lasted`` so many; 0 if none was made.

        A good connection starts the count afresh, unless another client with our name ended it:
        the two would throw each other out at the pace of the first step for ever.
        """
        if lasted >= STEADY_SECONDS and not taken_over:
            self._longest = FIRST_SECONDS
        longest, self._longest = self._longest, min(LONGEST_SECONDS, 2 * self._longest)
        return self._jitter(longest)
