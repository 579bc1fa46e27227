# SPDX-License-Identifier: Apache-2.0
"""Kill -9 of the coordinator at every point of a job: the outcome is the same to the last bit."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest

Make = Callable[..., SimpleNamespace]
NAMES = ["agent-a", "agent-b", "agent-c"]
A, B, C = NAMES
SETTINGS = {"rounds": 2, "minimum": 2, "goal": 3, "rule": "fedavgm"}


def outcome(world: SimpleNamespace) -> tuple[object, ...]:
    """All that the rest of a job's life would follow from."""
    record = world.rows.job("tiny")
    return (
        record.state,
        record.normaliser,
        record.rule_state,
        record.downlink_residual,
        [v.version for v in world.rows.versions("tiny")],
        [(r.round, r.state, r.included) for r in world.rows.rounds("tiny")],
        [[(u.agent, u.sha256, u.state) for u in world.rows.updates("tiny", n)] for n in (1, 2)],
        world.rows.aliases("tiny")[-1].version,
    )


class TestEveryPoint:
    """A process is ended right after each of its effects in turn, then started again."""

    @pytest.fixture
    def whole(self, make_world: Make, kit: SimpleNamespace) -> SimpleNamespace:
        """A job that nobody interrupted."""
        world = make_world(folder="whole", **SETTINGS)
        assert kit.run_to_end(world, NAMES) == 0
        assert world.state == "finished"
        return world

    def test_the_outcome_is_the_same(
        self, make_world: Make, kit: SimpleNamespace, whole: SimpleNamespace
    ) -> None:
        """Whichever write or message is the last one before the kill."""
        assert whole.fuse.burnt > 70
        for at in range(2, whole.fuse.burnt + 1):
            world = make_world(fuse_at=at, folder=f"killed-{at}", **SETTINGS)
            assert kit.run_to_end(world, NAMES) == 1, f"killed at {at}"
            assert outcome(world) == outcome(whole), f"killed at {at}"

    def test_many_kills(
        self, make_world: Make, kit: SimpleNamespace, whole: SimpleNamespace
    ) -> None:
        """Killed again and again, further and further on, the job still ends as it would have."""
        world = make_world(fuse_at=4, **SETTINGS)
        start = world.start

        def start_with_a_new_fuse() -> None:
            world.fuse.at = world.fuse.burnt + 19
            start()

        world.start = start_with_a_new_fuse
        assert kit.run_to_end(world, NAMES) > 5
        assert outcome(world) == outcome(whole)


class TestPoints:
    """What a restart finds, point by point."""

    def restarted(self, world: SimpleNamespace) -> SimpleNamespace:
        """Killed, started again, and met by the same agents."""
        world.voice.said.clear()
        world.start()
        world.join(*world.phases)
        return world

    def test_in_the_middle_of_statistics(self, make_world: Make) -> None:
        """What was told is still there; only the others are waited for."""
        world = make_world()
        world.join(A, B)
        world.tell_moments(A)
        self.restarted(world)
        assert world.state == "statistics"
        world.tell_moments(B)
        assert world.state == "running"

    def test_agreed_but_without_a_version(
        self, make_world: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The agreement is kept even when another agent's statistics come in between."""
        from fedmill_coordinator.registry.releases import Releases

        def die(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        world = make_world(goal=0)
        world.join(A, B)
        world.tell_moments(A, B)
        world.clock.advance(3)
        with monkeypatch.context() as broken:
            broken.setattr(Releases, "announce", die)
            with pytest.raises(KeyboardInterrupt):
                world.conductor.step()
        world.rows.update_job("tiny", updated_ns=1, state="statistics")
        before = world.rows.job("tiny").normaliser
        self.restarted(world)
        world.join(C)
        world.tell_moments(C)
        world.clock.advance(3)
        world.conductor.step()
        assert world.state == "running"
        assert world.rows.job("tiny").normaliser == before
        assert len(world.rows.versions("tiny")) == 1

    def test_an_open_round_with_two_of_three_updates(self, make_world: Make) -> None:
        """The same round, the same two updates, the same deadline; nobody trains again."""
        world = make_world(goal=3).running(A, B, C)
        opened = world.rows.current_round("tiny")
        world.deliver(A, B)
        world.clock.advance(10)
        self.restarted(world)
        [notice] = world.voice.take("round")
        assert (notice.round, notice.deadline_ns) == (1, opened.deadline_ns)
        assert world.rows.current_round("tiny") == opened
        world.deliver(C)
        assert world.rows.rounds("tiny")[0].included == [A, B, C]

    def test_the_round_waits_for_agents_to_come_back(self, make_world: Make) -> None:
        """Right after the start nobody is there; that does not mean that nobody is missing."""
        world = make_world(goal=3).running(A, B, C)
        world.deliver(A, B)
        world.clock.advance(30)
        agents, world.phases = world.phases, {}
        world.start()
        world.conductor.step()
        assert world.rows.current_round("tiny").round == 1
        world.clock.advance(1)
        world.join(*agents)
        world.clock.advance(5)
        world.conductor.step()
        assert world.rows.current_round("tiny").round == 1
        world.deliver(C)
        assert world.rows.rounds("tiny")[0].included == [A, B, C]

    def test_the_deadline_passed_while_it_was_down(self, make_world: Make) -> None:
        """A round that has enough closes; one that has not is extended."""
        world = make_world(goal=3).running(A, B, C)
        world.deliver(A, B)
        world.clock.advance(3600)
        self.restarted(world)
        assert world.rows.rounds("tiny")[0].included == [A, B]
        world.deliver(A)
        world.clock.advance(3600)
        self.restarted(world)
        assert world.rows.current_round("tiny").round == 2
        assert world.rows.current_round("tiny").deadline_ns > world.clock.now_ns()

    def test_a_clock_that_was_set_back(self, make_world: Make) -> None:
        """The time left never exceeds the job's own deadline."""
        world = make_world(goal=3).running(A, B, C)
        world.deliver(A, B)
        world.clock.advance(-7200)
        self.restarted(world)
        world.clock.advance(60)
        world.conductor.step()
        assert world.rows.rounds("tiny")[0].included == [A, B]

    def test_closed_but_not_announced(
        self, make_world: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The result of the round is told after the restart, so that residuals are settled."""
        from fedmill_coordinator.registry.releases import Releases

        def die(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        world = make_world().running(A, B)
        sent = {agent: world.update(agent) for agent in (A, B)}
        world.send(A, *sent[A])
        with monkeypatch.context() as broken:
            broken.setattr(Releases, "announce", die)
            with pytest.raises(KeyboardInterrupt):
                world.send(B, *sent[B])
        assert world.rows.current_round("tiny") is None
        self.restarted(world)
        first, second = world.voice.take("round")
        assert (first.round, first.closed) == (0, 1)
        assert (second.round, second.closed) == (2, 1)
        assert first.included == {agent: offer.sha256 for agent, (offer, _) in sent.items()}
        assert world.voice.take("version")[0].number == 1

    def test_after_an_abandoned_round(
        self, make_world: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody was included, and that is what is told."""
        import numpy as np

        monkeypatch.setattr("fedmill_coordinator.rounds.reception.LARGEST_CHANGE", np.inf)
        world = make_world().running(A, B)
        world.deliver(A, B, delta=np.full(world.elements, 3e38, np.float32))
        self.restarted(world)
        [notice] = world.voice.take("round")
        assert (notice.round, notice.closed, notice.included) == (2, 1, {})

    def test_before_the_last_evaluations(self, make_world: Make) -> None:
        """Who has scored the last version is not asked again, and the others are waited for."""
        world = make_world(rounds=1).running(A, B)
        world.deliver(A, B)
        world.evaluate(A)
        world.clock.advance(5)
        world.start()
        world.conductor.step()
        assert world.state == "running"
        world.join(A, B)
        world.clock.advance(5)
        world.conductor.step()
        assert world.state == "running"
        world.evaluate(B)
        assert world.state == "finished"

    def test_a_finished_job(self, make_world: Make) -> None:
        """It stays finished, and its version stays on offer."""
        world = make_world(rounds=1).running(A, B)
        world.deliver(A, B)
        world.clock.advance(2)
        world.evaluate(A, B)
        self.restarted(world)
        assert world.state == "finished"
        assert [notice.number for notice in world.voice.take("version")] == [1]
        assert world.rows.current_round("tiny") is None
