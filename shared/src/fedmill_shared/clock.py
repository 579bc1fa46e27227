# SPDX-License-Identifier: Apache-2.0
"""Time as a dependency, so that tests own it."""

import time
from typing import Protocol


class Clock(Protocol):
    """Wall clock for what people and other machines see, monotonic clock for waiting."""

    def now_ns(self) -> int:
        """Nanoseconds since 1970-01-01 UTC; may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now_ns(self) -> int:
        """Nanoseconds since 1970-01-01 UTC."""
        return time.time_ns()

    def monotonic(self) -> float:
        """Seconds since an arbitrary start."""
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told to; both hands move together."""

    def __init__(self, start_ns: int = 1_700_000_000_000_000_000) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        """Nanoseconds since 1970-01-01 UTC."""
        return self._now_ns

    def monotonic(self) -> float:
        """Seconds since 1970-01-01 UTC, the same hand."""
        return self._now_ns / 1e9

    def advance(self, seconds: float) -> None:
        """Move both hands forward by ``seconds``."""
        self._now_ns += round(seconds * 1e9)
