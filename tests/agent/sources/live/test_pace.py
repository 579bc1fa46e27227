# SPDX-License-Identifier: Apache-2.0
"""When a source that has to be asked is asked next."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_agent.sources import pace
from fedmill_agent.sources.pace import Pace, Schedule
from fedmill_shared.clock import ManualClock

INTERVAL = 2.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """A clock that moves while somebody sleeps, and only then."""
    moved = ManualClock()
    monkeypatch.setattr(pace.time, "sleep", moved.advance)
    return moved


def asked(polls: Pace, clock: ManualClock, count: int, timeout: float = 10.0) -> list[float]:
    """When the next ``count`` questions are asked, in seconds from now."""
    begin, times = clock.monotonic(), list[float]()
    while len(times) < count:
        if polls.due(timeout):
            times.append(round(clock.monotonic() - begin, 3))
    return times


class TestSchedule:
    @given(st.lists(st.floats(0.0, 5.0), min_size=1, max_size=50))
    def test_keeps_to_its_grid(self, takes: list[float]) -> None:
        """However long each time takes; those that are left out are counted."""
        schedule, now, missed = Schedule(1.0, 10.0), 10.0, 0
        for begun, each in enumerate(takes, 1):
            now = max(now, schedule.due)
            missed += schedule.begin(now)
            assert schedule.due == 10.0 + begun + missed
            assert now < schedule.due <= now + 1.0
            now += each

    def test_a_time_that_is_taken_early_misses_none(self) -> None:
        """The one after it is where it was."""
        schedule = Schedule(1.0, 10.0)
        assert schedule.begin(7.0) == 0
        assert schedule.due == 11.0


class TestPace:
    def test_the_first_question_is_asked_at_once(self, clock: ManualClock) -> None:
        """Whenever that is: nobody has missed what came before it."""
        polls = Pace(INTERVAL, clock)
        clock.advance(100.0)
        assert asked(polls, clock, 4) == [0.0, 2.0, 4.0, 6.0]
        assert polls.counts == {}

    def test_nobody_is_held_up_longer_than_he_may(self, clock: ManualClock) -> None:
        """The question is asked in a later call, and not any later for that."""
        polls = Pace(INTERVAL, clock)
        assert polls.due(0.5)
        begin = clock.monotonic()
        told = [polls.due(0.75) for _ in range(3)]
        assert told == [False, False, True]
        assert clock.monotonic() - begin == pytest.approx(INTERVAL, abs=1e-6)

    def test_a_late_question_does_not_put_off_the_next(self, clock: ManualClock) -> None:
        """The next one is on the grid again; none is missed within an interval."""
        polls = Pace(INTERVAL, clock)
        asked(polls, clock, 1)
        clock.advance(3.5)
        assert asked(polls, clock, 3) == [0.0, 0.5, 2.5]
        assert polls.counts == {}

    def test_missed_ones_are_counted_and_not_made_up_for(self, clock: ManualClock) -> None:
        """Three of them; the one that is late is asked."""
        polls = Pace(INTERVAL, clock)
        asked(polls, clock, 1)
        clock.advance(9.0)
        assert asked(polls, clock, 2) == [0.0, 1.0]
        assert polls.counts == {"late poll": 3}

    @pytest.mark.parametrize("before", [lambda _: None, lambda polls: polls.due(0.0)])
    def test_the_other_side_may_wish_for_a_pause(
        self, clock: ManualClock, before: Callable[[Pace], object]
    ) -> None:
        """Also before the first question; the questions go on from its end."""
        polls = Pace(INTERVAL, clock)
        before(polls)
        polls.hold_off(5.0)
        assert asked(polls, clock, 3) == [5.0, 7.0, 9.0]
        assert polls.counts == {}

    def test_a_pause_never_hurries(self, clock: ManualClock) -> None:
        """One that would be over sooner than the next question is due changes nothing."""
        polls = Pace(INTERVAL, clock)
        asked(polls, clock, 1)
        polls.hold_off(0.5)
        assert asked(polls, clock, 1) == [INTERVAL]
