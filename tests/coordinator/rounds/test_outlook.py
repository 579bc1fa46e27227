# SPDX-License-Identifier: Apache-2.0
"""Whom a round counts on, and whom it does not wait for."""

from collections.abc import Callable
from types import SimpleNamespace

Make = Callable[..., SimpleNamespace]
A, B, C = "agent-a", "agent-b", "agent-c"


class TestFlapping:
    def test_an_agent_that_comes_and_goes_holds_up_nobody(self, make_world: Make) -> None:
        """The others' round closes once it has been seen to flap, not at its deadline."""
        world = make_world(goal=0, deadline_seconds=600.0).running(A, B)
        world.deliver(A, B)
        world.seen(C)
        for turn in range(16):
            world.clock.advance(1)
            world.seen(C, online=turn % 2 == 0)
            world.step()
        assert world.rows.rounds("tiny")[0].included == [A, B]


class TestIneligible:
    def test_who_may_not_train_is_not_waited_for(self, make_world: Make) -> None:
        """A synchronous round closes without it; what it sends all the same counts."""
        world = make_world(goal=0, rounds=3).running(A, B, C)
        world.seen(C, ineligible="battery below 20 %")
        world.deliver(A, B)
        world.wait(3)
        assert world.rows.rounds("tiny")[0].included == [A, B]
        world.deliver(C, A, B)
        assert world.rows.rounds("tiny")[1].included == [A, B, C]

    def test_no_round_opens_for_too_few_that_may(self, make_world: Make) -> None:
        """It would only run into its deadline."""
        world = make_world(goal=2)
        world.join(A, B)
        world.seen(B, ineligible="outside its shift window")
        world.tell_moments(A, B)
        assert (world.state, world.number) == ("running", 0)
        world.seen(B)
        world.step()
        assert world.number == 1
