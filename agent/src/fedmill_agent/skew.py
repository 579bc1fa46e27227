# SPDX-License-Identifier: Apache-2.0
"""Notices that this machine's clock and the coordinator's differ; nothing depends on it."""

from fedmill_shared.clock import Clock
from fedmill_shared.log import Logger

SKEW_SECONDS = 60.0
SKEW_JITTER_SECONDS = 5.0
SKEW_SPAN_SECONDS = 0.1
"""What was queued while the agent was away differs by more, or comes within less: it is old."""


class SkewWatch:
    """Owns what is known of the two clocks."""

    def __init__(self, clock: Clock, log: Logger) -> None:
        self._clock = clock
        self._log = log
        self._skewed = False
        self._first: tuple[float, float] | None = None

    def compare(self, sent_ns: int) -> None:
        """Say once that the machine's clock is wrong.

        ``sent_ns`` is when a notice was sent, ns UTC; 0 where it does not tell. It takes two
        notices in a row, some time apart, that agree on it.
        """
        skew = (self._clock.now_ns() - sent_ns) / 1e9 if sent_ns else 0.0
        if abs(skew) <= SKEW_SECONDS:
            self._skewed, self._first = False, None
            return
        now, first = self._clock.monotonic(), self._first
        if first is None or abs(skew - first[0]) > SKEW_JITTER_SECONDS:
            first = self._first = skew, now
        if not self._skewed and now - first[1] >= SKEW_SPAN_SECONDS:
            self._skewed = True
            self._log.warning(
                "clock.skewed",
                seconds=round(skew),
                remedy="set this machine's clock, or the coordinator's; training goes on",
            )
