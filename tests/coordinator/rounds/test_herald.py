# SPDX-License-Identifier: Apache-2.0
"""What agents are told again, because a broker may have lost it."""

from collections.abc import Callable
from types import SimpleNamespace

from fedmill_coordinator.rounds.herald import REMIND_SECONDS

Make = Callable[..., SimpleNamespace]
A, B, C = "agent-a", "agent-b", "agent-c"


class TestReminders:
    def test_a_notice_is_told_again(self, make_world: Make) -> None:
        """Every ten seconds while a round is open: a broker may have lost it."""
        world = make_world().running(A, B)
        world.voice.take("round")
        world.wait(30)
        told = world.voice.take("round")
        assert len(told) == 3
        assert {(notice.round, notice.attempt) for notice in told} == {(1, 0)}
        assert told[0].seconds_left - told[1].seconds_left == REMIND_SECONDS

    def test_what_is_still_owed(self, make_world: Make) -> None:
        """A job that waits for its last evaluations asks for them again."""
        world = make_world(rounds=1).running(A, B)
        world.deliver(A, B)
        world.voice.take("version")
        world.wait(2 * REMIND_SECONDS + 1)
        assert [notice.evaluate for notice in world.voice.take("version")] == [True] * 2

    def test_statistics_that_were_lost(self, make_world: Make) -> None:
        """Before the first version, agents hear of the job again, and tell theirs again."""
        world = make_world()
        world.join(A, B)
        world.voice.take("job")
        world.wait(REMIND_SECONDS + 1)
        assert [notice.state for notice in world.voice.take("job")] == ["waiting"]

    def test_a_job_that_is_over_says_nothing(self, make_world: Make) -> None:
        """Nobody owes it anything."""
        world = make_world(rounds=1).running(A, B)
        world.deliver(A, B)
        world.evaluate(A, B)
        world.wait(3)
        assert world.state == "finished"
        world.voice.said.clear()
        world.wait(2 * REMIND_SECONDS)
        assert not world.voice.said
