# SPDX-License-Identifier: Apache-2.0
import time

from fedmill_shared.clock import Clock, ManualClock, SystemClock


class TestManualClock:
    def test_moves_only_when_told(self) -> None:
        """Both hands, by the same time, to the nanosecond."""
        clock: Clock = ManualClock()
        assert (clock.now_ns(), clock.monotonic()) == (1_700_000_000_000_000_000, 1.7e9)
        assert clock.now_ns() == 1_700_000_000_000_000_000
        assert isinstance(clock, ManualClock)
        clock.advance(0.1)
        clock.advance(1e-9)
        assert clock.now_ns() == 1_700_000_000_100_000_001
        assert clock.monotonic() == 1.7e9 + 0.1

    def test_starts_where_told(self) -> None:
        """A test of dates needs one."""
        assert ManualClock(5).now_ns() == 5


class TestSystemClock:
    def test_lies_between_the_machines_own(self) -> None:
        """Nanoseconds since 1970 and seconds that never go back."""
        clock: Clock = SystemClock()
        before = time.time_ns(), time.monotonic()
        now = clock.now_ns(), clock.monotonic()
        assert before[1] <= now[1] <= time.monotonic()
        assert before[0] <= now[0] <= time.time_ns()
