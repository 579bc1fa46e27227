# SPDX-License-Identifier: Apache-2.0
"""What one agent can do to the rounds of all the others: nothing that lasts."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

from fedmill_coordinator.rounds.attendance import SILENT_AFTER
from fedmill_coordinator.rounds.harvest import TURNS
from fedmill_shared.job import Robustness
from fedmill_shared.messages import Refusal

Make = Callable[..., SimpleNamespace]
A, B, C = "agent-a", "agent-b", "agent-c"


class TestSilent:
    """An agent that is online, takes part, and never delivers."""

    def test_is_waited_for_twice(self, make_world: Make) -> None:
        """Then rounds close as soon as the others are done; it is still asked."""
        world = make_world(goal=0, rounds=9, deadline_seconds=60.0).running(A, B, C)
        waited = []
        for _ in range(SILENT_AFTER + 3):
            opened, number = world.clock.monotonic(), world.number
            world.deliver(A, B)
            for _ in range(100):
                if world.number == number:
                    world.wait(1)
            waited.append(world.clock.monotonic() - opened > 30)
        assert waited == [True] * SILENT_AFTER + [False] * 3

    def test_is_waited_for_again_once_it_delivers(self, make_world: Make) -> None:
        """Late or not: it is alive."""
        world = make_world(goal=0, rounds=9, deadline_seconds=60.0).running(A, B, C)
        for _ in range(SILENT_AFTER):
            late = world.update(C)
            world.deliver(A, B)
            world.wait(61)
        world.send(C, *late)
        number = world.number
        world.deliver(A, B)
        world.wait(5)
        assert world.number == number
        world.deliver(C)
        assert world.number != number


class TestFailed:
    def test_a_failed_training_is_no_farewell(self, make_world: Make) -> None:
        """The round goes on without it; the next one asks it like any other."""
        world = make_world(goal=0, rounds=3).running(A, B, C)
        world.conductor.desk.refuse(C, Refusal(job="tiny", reason="ModelError", text="diverged"))
        world.deliver(A, B)
        world.wait(3)
        assert world.rows.rounds("tiny")[0].included == [A, B]
        world.deliver(A, B)
        world.wait(5)
        assert world.number == 2
        world.deliver(C)
        assert world.rows.rounds("tiny")[1].included == [A, B, C]

    def test_it_cannot_forge_the_counts_of_updates(self, make_world: Make) -> None:
        """Its own words are no reason code of ours, and bounded."""
        world = make_world(goal=0).running(A, B, C)
        forged = Refusal(job="tiny", reason="update:" + "x" * 500, text="")
        world.conductor.desk.refuse(C, forged)
        world.restart()
        world.deliver(A, B)
        world.wait(61)
        closed = world.rows.rounds("tiny")[0]
        assert closed.rejected == 0
        assert len(world.rows.refusals("tiny")[0].reason) <= 64


class TestPoison:
    def test_the_worst_is_left_out(self, make_world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        """A round that makes no model closes without the update that moves it most."""
        world = make_world(goal=3, rounds=2, uplink="fp32").running(A, B, C)
        parts = world.conductor._versions
        advance = parts.advance

        def fails(delta: np.ndarray, *arguments: object, **options: object) -> bool:
            if np.abs(delta).max() > 1e3:
                raise results_error()
            return advance(delta, *arguments, **options)

        monkeypatch.setattr(parts, "advance", fails)
        world.deliver(A, B)
        world.deliver(C, delta=np.full(world.elements, 9e5, np.float32), examples=2**32 - 1)
        world.wait(61)
        closed = world.rows.rounds("tiny")[0]
        assert (closed.state, closed.included, closed.rejected) == ("closed", [A, B], 1)
        [worst] = [u for u in world.rows.updates("tiny", 1) if u.agent == C]
        assert (worst.state, worst.code) == ("refused", "implausible")

    def test_one_agent_does_not_count_many_times(self, make_world: Make) -> None:
        """Of what it saved up, the newest two are used; the others come too late."""
        world = make_world(goal=2, rounds=20, max_staleness=32).running(A, B, C)
        saved = []
        for _ in range(5):
            saved.append(world.update(C))
            world.deliver(A, B)
        for offer, frame in saved:
            world.send(C, offer, frame)
        world.deliver(A)
        closed = world.rows.rounds("tiny")[-2]
        assert (closed.included, closed.accepted) == ([A, C], 1 + TURNS)
        rows = [world.rows.updates("tiny", n) for n in range(1, 6)]
        fates = [u.state for updates in rows for u in updates if u.agent == C]
        assert fates == ["late"] * 3 + ["included"] * 2

    @pytest.mark.parametrize(
        ("robustness", "votes"),
        [
            (Robustness(), 2),
            (Robustness(rule="krum"), 1),
            (Robustness(rule="median"), 1),
            (Robustness(quarantine_rounds=0), 2),
        ],
    )
    def test_nobody_has_two_votes(
        self, make_world: Make, robustness: Robustness, votes: int
    ) -> None:
        """Where agents are outvoted, the newest update of each counts alone."""
        world = make_world(
            goal=3, minimum=2, rounds=9, uplink="fp32", robustness=robustness
        ).running(A, B, C)
        late = world.update(C)
        world.deliver(A, B)
        world.wait(61)
        assert world.number == 2
        world.send(C, *late)
        world.deliver(C, A, B)
        closed = world.rows.rounds("tiny")[1]
        assert (closed.included, closed.accepted) == ([A, B, C], 2 + votes)
        [old] = [update for update in world.rows.updates("tiny", 1) if update.agent == C]
        state = ("included", "") if votes == 2 else ("late", "superseded")
        assert (old.state, old.code) == state


def results_error() -> Exception:
    """What a version that is no model raises."""
    from fedmill_shared.errors import ModelError

    return ModelError("canary: largest error 6e11")
