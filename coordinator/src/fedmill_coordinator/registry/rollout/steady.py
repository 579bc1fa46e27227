# SPDX-License-Identifier: Apache-2.0
"""Wall time that nobody can set while the process runs, so that nothing is late by that."""

from fedmill_shared.clock import Clock


class Steady:
    """The wall clock as it was at the start, carried on by the monotonic one."""

    def __init__(self, clock: Clock, at_least_ns: int = 0) -> None:
        """Read both once; a wall clock that was set back goes on from ``at_least_ns``."""
        self._clock = clock
        self._wall = max(clock.now_ns(), at_least_ns)
        self._begin = clock.monotonic()

    def now_ns(self) -> int:
        """The time in ns since 1970-01-01 UTC."""
        return self._wall + round((self._clock.monotonic() - self._begin) * 1e9)
