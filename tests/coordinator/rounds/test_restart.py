# SPDX-License-Identifier: Apache-2.0
"""Kill -9 of the coordinator at every point of a job: the outcome is the same to the last bit."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
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
        [
            sorted((u.agent, u.sha256, u.state) for u in world.rows.updates("tiny", number))
            for number in (1, 2)
        ],
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
            world.fuse.at = world.fuse.burnt + 25
            start()

        world.start = start_with_a_new_fuse
        assert kit.run_to_end(world, NAMES) > 5
        assert outcome(world) == outcome(whole)


class TestOtherModes:
    """Killed at every effect, a job that is no lock step loses nothing and counts nothing twice."""

    MODES = (
        ("asynchronous", {"rounds": 4, "minimum": 1, "goal": 1}),
        ("two of three", {"rounds": 3, "minimum": 1, "goal": 2, "max_staleness": 1}),
        ("cohort", {"rounds": 3, "minimum": 1, "goal": 1, "over_selection": 2.0}),
        ("never late", {"rounds": 3, "minimum": 1, "goal": 2, "max_staleness": 0}),
    )

    @pytest.mark.parametrize(("name", "settings"), MODES, ids=[name for name, _ in MODES])
    def test_every_point(
        self, make_world: Make, kit: SimpleNamespace, name: str, settings: dict[str, float]
    ) -> None:
        """Whichever write or message is the last one before the kill."""
        exact = {"uplink": "fp32", "downlink": "fp32", "patience": 0.0}
        whole = make_world(folder="whole", **exact, **settings)
        assert kit.run_to_end(whole, NAMES) == 0
        self.check(whole, kit)
        for at in range(2, whole.fuse.burnt + 1):
            world = make_world(fuse_at=at, folder=f"killed-{at}", **exact, **settings)
            assert kit.run_to_end(world, NAMES) == 1, f"killed at {at}"
            self.check(world, kit)

    def check(self, world: SimpleNamespace, kit: SimpleNamespace) -> None:
        """Each round made a version, of updates that count once and are all accounted for."""
        rounds = world.rows.rounds("tiny")
        assert world.state == "finished"
        assert [r.state for r in rounds] == ["closed"] * world.job.federation.rounds
        assert [v.round for v in world.rows.versions("tiny")] == [None, *(r.round for r in rounds)]
        fates = kit.fates(world)
        assert {state for _, _, state, _ in fates} <= {"included", "late"}
        for record in rounds:
            used = [agent for _, agent, _, used_by in fates if used_by == record.round]
            assert (record.included, record.accepted) == (sorted(set(used)), len(used))
        late = [each for each in fates if each[2] == "late"]
        assert sum(r.discarded for r in rounds) <= len(late)
        assert len({(number, agent) for number, agent, _, _ in fates}) == len(fates)
        for number, expected in enumerate(kit.recomputed(world, kit.delta)):
            assert np.allclose(world.learned(number), expected, rtol=1e-5, atol=1e-6), number


class TestFullDisk:
    """Every write fails in turn, once or for a while: nothing is lost, and nothing stays untold."""

    @pytest.mark.parametrize("times", [1, 4])
    def test_every_point(self, make_world: Make, kit: SimpleNamespace, times: int) -> None:
        """The outcome is that of a job whose disk never failed."""
        whole = make_world(folder="whole", **SETTINGS)
        asked = self.count_writes(whole)
        kit.run_to_end(whole, NAMES)
        assert len(asked) > 40
        for at in range(1, len(asked) + 1, times):
            world = make_world(folder=f"fails-{at}", **SETTINGS)
            self.count_writes(world, at, times)
            assert kit.run_to_end(world, NAMES) == 0
            assert world.fuse.failed == times, f"fails at {at}"
            assert outcome(world) == outcome(whole), f"fails at {at}"

    def count_writes(self, world: SimpleNamespace, fail_at: int = 0, times: int = 0) -> list[None]:
        """Count the writes from now on; from one of them on, ``times`` of them fail."""
        asked: list[None] = []
        check = world.fuse.check

        def counted() -> None:
            asked.append(None)
            if len(asked) == fail_at:
                world.fuse.failing = times
            check()

        world.fuse.check = counted
        return asked


class TestOrders:
    """Killed while it carries out what the operator wants."""

    def test_paused_at_every_point(self, make_world: Make, kit: SimpleNamespace) -> None:
        """A pause in the middle of the job outlives the kill; resumed, the outcome is the same."""
        whole = make_world(folder="whole", **SETTINGS)
        kit.run_to_end(whole, NAMES)
        for at in range(30, whole.fuse.burnt, 7):
            world = make_world(fuse_at=at, folder=f"killed-{at}", **SETTINGS)
            world.rows.update_job("tiny", updated_ns=1, paused=True)
            world.start()
            held = []

            def resume(world: SimpleNamespace = world, held: list[int] = held) -> None:
                """After some idle time, in which nothing may have happened."""
                held.append(world.number)
                if len(held) == 3:
                    assert held == [0, 0, 0]
                    world.obey("resume")

            assert kit.run_to_end(world, NAMES, idle=resume) <= 1
            assert outcome(world) == outcome(whole), f"killed at {at}"

    def test_aborted_at_every_point(self, make_world: Make) -> None:
        """Given again after the kill, the order ends the job, whatever of it was done."""
        for at in range(1, 6):
            world = make_world(folder=f"killed-{at}", goal=3, rounds=9).running(A, B, C)
            world.deliver(A, B)
            world.fuse.at = world.fuse.burnt + at
            with pytest.raises(BaseException, match=r"^$"):
                world.obey("abort")
            world.restart()
            if world.state != "stopped":
                world.obey("abort")
            assert (world.state, world.number) == ("stopped", 0)
            assert world.rows.pending("tiny") == []


class TestPoints:
    """What a restart finds, point by point."""

    def restarted(self, world: SimpleNamespace) -> SimpleNamespace:
        """Killed, started again, and met by the same agents."""
        restarted: SimpleNamespace = world.restart()
        return restarted

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
        from fedmill_coordinator.registry.newest import Versions

        def die(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        world = make_world(goal=0)
        world.join(A, B)
        world.tell_moments(A, B)
        world.clock.advance(3)
        with monkeypatch.context() as broken:
            broken.setattr(Versions, "announce", die)
            with pytest.raises(KeyboardInterrupt):
                world.step()
        world.rows.update_job("tiny", updated_ns=1, state="statistics")
        before = world.rows.job("tiny").normaliser
        self.restarted(world)
        world.join(C)
        world.tell_moments(C)
        world.clock.advance(3)
        world.step()
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
        world.step()
        assert world.rows.current_round("tiny").round == 1
        world.clock.advance(1)
        world.join(*agents)
        world.clock.advance(5)
        world.step()
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
        world.step()
        assert world.rows.rounds("tiny")[0].included == [A, B]

    def test_closed_but_not_announced(
        self, make_world: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The result of the round is told after the restart, so that residuals are settled."""
        from fedmill_coordinator.registry.newest import Versions

        def die(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        world = make_world().running(A, B)
        sent = {agent: world.update(agent) for agent in (A, B)}
        world.send(A, *sent[A])
        with monkeypatch.context() as broken:
            broken.setattr(Versions, "announce", die)
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
        monkeypatch.setattr("fedmill_coordinator.rounds.admission.LARGEST_CHANGE", np.inf)
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
        world.step()
        assert world.state == "running"
        world.join(A, B)
        world.clock.advance(5)
        world.step()
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
