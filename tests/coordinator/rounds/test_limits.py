# SPDX-License-Identifier: Apache-2.0
"""When a round may close and when it has to, by two clocks and over restarts."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedmill_coordinator.rounds.limits import attempts, limits_of, resumed
from fedmill_coordinator.store.records import RoundRecord
from fedmill_shared.clock import ManualClock
from fedmill_shared.job import Federation

Make = Callable[..., SimpleNamespace]
A, B, C = "agent-a", "agent-b", "agent-c"


class TestClocks:
    """Deadlines are kept by the clock that never jumps, and over a restart by what is left."""

    @pytest.mark.parametrize("jump", [-86400.0, -30.0, 30.0, 86400.0])
    def test_a_clock_that_is_set_changes_no_deadline(self, make_world: Make, jump: float) -> None:
        """Backwards or forwards, while the process runs."""
        world = make_world(goal=3).running(A, B, C)
        world.deliver(A, B)
        world.clock.set_wall(jump)
        world.wait(56)
        assert world.number == 1
        world.wait(1)
        assert world.rows.rounds("tiny")[0].included == [A, B]
        assert world.rows.rounds("tiny")[0].seconds == max(0.0, 60 + jump)

    @pytest.mark.parametrize(
        ("jump", "left"),
        [(0.0, 37.0), (-10.0, 47.0), (-86400.0, 60.0), (20.0, 17.0), (86400.0, 0.0)],
    )
    def test_over_a_restart(self, make_world: Make, jump: float, left: float) -> None:
        """What the wall clock leaves, never less than nothing or more than the whole."""
        world = make_world(goal=3).running(A, B, C)
        world.deliver(A, B)
        world.wait(20)
        world.clock.set_wall(jump)
        world.voice.said.clear()
        world.start()
        assert world.voice.take("round")[0].seconds_left == left
        world.join(A, B, C)
        world.wait(left - 1)
        assert world.number == (1 if left else 2)
        world.wait(1)
        assert world.rows.rounds("tiny")[0].included == [A, B]

    @settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.tuples(st.integers(1, 20), st.floats(-90, 90)), min_size=1, max_size=6))
    def test_no_jump_makes_a_round_wait_for_ever(
        self, make_world: Make, jumps: list[tuple[int, float]]
    ) -> None:
        """However often it is killed and the clock is set, the round ends."""
        world = make_world(goal=3).running(A, B, C)
        world.deliver(A, B)
        for seconds, jump in jumps:
            world.wait(seconds)
            world.clock.set_wall(jump)
            world.restart()
        world.wait(61)
        assert world.rows.rounds("tiny")[0].included == [A, B]

    @pytest.mark.parametrize("jump", [-86400.0, 0.0])
    def test_the_earliest_time_over_a_restart(self, make_world: Make, jump: float) -> None:
        """It began with the round, not with the process; a clock set back begins it anew."""
        world = make_world(goal=2, earliest_seconds=30.0).running(A, B)
        world.deliver(A, B)
        world.wait(17)
        world.clock.set_wall(jump)
        world.restart()
        world.wait(29 if jump else 9)
        assert world.number == 1
        world.wait(1)
        assert world.number == 2

    def test_agents_are_told_what_is_left(self, make_world: Make) -> None:
        """In seconds, because their clocks may be wrong; and what time it is here."""
        world = make_world().running(A, B)
        world.wait(20)
        world.conductor.announce()
        notice = world.voice.take("round")[-1]
        assert (notice.seconds_left, notice.sent_ns) == (37.0, world.clock.now_ns())

    def test_the_attempt_is_never_less_than_before(self, make_world: Make) -> None:
        """An agent whose update was refused trains again only for one that is new to it."""
        world = make_world(goal=2).running(A, B)
        told = []
        for _ in range(3):
            world.wait(60)
            told.append(world.voice.take("round")[-1].attempt)
            world.restart()
            told.append(world.voice.take("round")[-1].attempt)
        assert told == [1, 1, 2, 2, 3, 3]


def a_round(opened: float, deadline: float) -> RoundRecord:
    """An open round by the wall clock, s since the clock of the test began."""
    start = ManualClock().now_ns()
    return RoundRecord(
        job="rig",
        round=1,
        base="ab" * 32,
        state="open",
        opened_ns=start + round(opened * 1e9),
        deadline_ns=start + round(deadline * 1e9),
    )


seconds = st.floats(-1e6, 1e6)


class TestResumed:
    """What a restart makes of a round by the wall clock alone."""

    @given(opened=seconds, lasts=st.floats(0, 1e5), longest=st.floats(1, 1e5))
    def test_never_less_than_nothing_or_more_than_the_whole(
        self, opened: float, lasts: float, longest: float
    ) -> None:
        """However wrong the clock is, the round ends, and may close before it has to."""
        settings, clock = Federation(deadline_seconds=longest, earliest_seconds=1.0), ManualClock()
        found = resumed(settings, a_round(opened, opened + lasts), clock)
        assert -1e-3 <= found.deadline - clock.monotonic() <= longest + 1e-3
        assert 1.0 - longest - 1e-3 <= found.earliest - clock.monotonic() <= 1.0 + 1e-3

    def test_where_the_clock_is_right(self) -> None:
        """Both times are those that the round had before."""
        settings, clock = Federation(deadline_seconds=60.0, earliest_seconds=30.0), ManualClock()
        before = limits_of(settings, clock.monotonic(), 60.0)
        clock.advance(17)
        assert resumed(settings, a_round(0, 60), clock) == before


class TestAttempts:
    @given(count=st.integers(0, 1000), longest=st.floats(1, 1e5))
    def test_one_for_each_deadline_that_passed(self, count: int, longest: float) -> None:
        """A round that was extended whenever its time was over."""
        settings = Federation(deadline_seconds=longest)
        assert attempts(settings, a_round(0, longest * (count + 1))) == count

    @given(opened=seconds, lasts=st.floats(-1e6, 60))
    def test_none_within_the_first(self, opened: float, lasts: float) -> None:
        """A round that patience made shorter, or whose clock was set back."""
        settings = Federation(deadline_seconds=60.0)
        assert attempts(settings, a_round(opened, opened + lasts)) == 0
