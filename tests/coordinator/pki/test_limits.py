# SPDX-License-Identifier: Apache-2.0
"""What a flood of strangers costs: little, and few lines of log."""

from hypothesis import given
from hypothesis import strategies as st

from fedmill_coordinator.pki.limits import Bucket, Seldom
from fedmill_shared.clock import ManualClock


class TestBucket:
    def test_a_burst_and_then_so_many_a_second(self) -> None:
        """What was not taken does not pile up beyond the burst."""
        clock = ManualClock()
        bucket = Bucket(clock, rate=2.0, burst=3)
        assert [bucket.take() for _ in range(5)] == [True, True, True, False, False]
        clock.advance(1)
        assert [bucket.take() for _ in range(3)] == [True, True, False]
        clock.advance(3600)
        assert sum(bucket.take() for _ in range(50)) == 3

    @given(steps=st.lists(st.floats(0, 5), max_size=60))
    def test_never_more_than_its_rate(self, steps: list[float]) -> None:
        """However the requests come."""
        clock = ManualClock()
        bucket = Bucket(clock, rate=1.5, burst=4)
        passed = 0
        for step in steps:
            clock.advance(step)
            passed += bucket.take()
        assert passed <= 4 + 1.5 * sum(steps) + 1e-6


class TestSeldom:
    def test_at_once_then_once_a_minute(self) -> None:
        """With how often it was since; each subject by itself."""
        clock = ManualClock()
        seldom = Seldom(clock)
        told: list[tuple[str, int]] = []

        def happen(about: str) -> None:
            seldom.tell(about, lambda count: told.append((about, count)))

        for _ in range(10):
            happen("gw7")
        happen("gw8")
        assert told == [("gw7", 1), ("gw8", 1)]
        clock.advance(60)
        happen("gw7")
        assert told[2:] == [("gw7", 10)]
