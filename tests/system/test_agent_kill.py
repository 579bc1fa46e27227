# SPDX-License-Identifier: Apache-2.0
"""Kill -9 an agent or its trainer: updates are delivered once, windows are stored once."""

import signal

import psutil
import pytest
from tests.system.conftest import Launch
from tests.system.fleet import Fleet, a_job

pytestmark = [pytest.mark.system, pytest.mark.drill]


def sent(fleet: Fleet, agent: str) -> list[int]:
    """Rounds that an agent trained for, in order."""
    return [int(event["round"]) for event in fleet.events(agent, "update.sent")]


def assert_each_round_once(fleet: Fleet) -> None:
    """Every round has exactly one update of every agent."""
    for record in fleet.rounds():
        updates = fleet.store.updates(fleet.job.name, record.round)
        assert sorted(update.agent for update in updates) == fleet.agents
        assert record.included == fleet.agents


def counts(fleet: Fleet, agent: str) -> dict[str, int]:
    """Stored windows of an agent by split."""
    with fleet.windows(agent) as store:
        return {str(split): count for split, count in store.counts().items()}


class TestAgent:
    def test_killed_before_the_receipt_it_delivers_after_the_restart(self, launch: Launch) -> None:
        """The power fails with the update on disk and nowhere else: it is not trained again."""
        fleet = launch(a_job(rounds=3, deadline_seconds=60.0))
        held = fleet.hold("agent-1")
        fleet.wait("two updates", lambda: fleet.received(1) == ["agent-2", "agent-3"])
        fleet.broker().suspend()
        held.resume()
        fleet.wait("an update on disk", lambda: fleet.events("agent-1", "update.sent") != [])
        (parcel,) = fleet.parcels("agent-1")
        before = counts(fleet, "agent-1")
        fleet.kill("agent-1")
        fleet.kill_broker()
        assert fleet.received(1) == ["agent-2", "agent-3"]

        fleet.start_broker()
        fleet.start("agent-1")
        fleet.finish()
        mine = [u for u in fleet.store.updates(fleet.job.name, 1) if u.agent == "agent-1"]
        assert [update.sha256 for update in mine] == [parcel.stem]
        assert sent(fleet, "agent-1") == [1, 2, 3]
        assert_each_round_once(fleet)
        assert counts(fleet, "agent-1") == before

    def test_killed_after_the_receipt_it_is_counted_once(self, launch: Launch) -> None:
        """The round is still open: the update is offered again, and settled when it closes."""
        fleet = launch(a_job(rounds=3, deadline_seconds=60.0))
        held = fleet.hold("agent-2")
        fleet.wait("two updates", lambda: fleet.received(1) == ["agent-1", "agent-3"])
        before = counts(fleet, "agent-1")
        trainer = fleet.trainer("agent-1")
        fleet.kill("agent-1")
        fleet.start("agent-1")
        fleet.wait("the restart", lambda: len(fleet.events("agent-1", "job.joined")) == 2)
        held.resume()
        fleet.finish()
        assert sent(fleet, "agent-1") == [1, 2, 3]
        assert_each_round_once(fleet)
        assert counts(fleet, "agent-1") == before
        psutil.wait_procs([trainer], timeout=5)
        assert not trainer.is_running()


class TestTrainer:
    @pytest.mark.parametrize("phase", ["statistics", "round"])
    def test_killed_it_is_started_again_and_the_work_is_done(
        self, launch: Launch, phase: str
    ) -> None:
        """The daemon lives on, and neither the statistics nor the round go without the agent."""
        fleet = launch(a_job(rounds=3, deadline_seconds=60.0))
        daemon = fleet.process("agent-2")
        if phase == "round":
            trainer = fleet.hold("agent-2")
            fleet.wait("two updates", lambda: fleet.received(1) == ["agent-1", "agent-3"])
        else:
            trainer = fleet.trainer("agent-2")
            trainer.suspend()
        fleet.wait("its pid", lambda: fleet.status("agent-2").trainer_pid == trainer.pid)
        trainer.send_signal(signal.SIGKILL)
        fleet.finish()
        assert daemon.is_running()
        assert len(fleet.events("agent-2", "trainer.died", exit_code=-9)) == 1
        assert sent(fleet, "agent-2") == [1, 2, 3]
        assert_each_round_once(fleet)
        assert fleet.trainer("agent-2").pid != trainer.pid
        moments = {record.agent for record in fleet.store.moments(fleet.job.name)}
        assert moments == set(fleet.agents)
