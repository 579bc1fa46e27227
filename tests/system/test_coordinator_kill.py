# SPDX-License-Identifier: Apache-2.0
"""Kill -9 the coordinator: the same round goes on, and nothing is trained or counted twice."""

import pytest
from tests.system.conftest import Launch
from tests.system.fleet import COORDINATOR, a_job, a_pair

pytestmark = [pytest.mark.system, pytest.mark.drill]


class TestMidRound:
    def test_comes_back_to_the_same_round_with_the_updates_it_had(self, launch: Launch) -> None:
        """Killed with two of three updates, it has both after the start and waits for the third."""
        fleet = launch(a_job(rounds=3, deadline_seconds=60.0))
        held = fleet.hold("agent-3")
        fleet.wait("two updates", lambda: fleet.received(1) == ["agent-1", "agent-2"])
        before = fleet.store.current_round(fleet.job.name)
        updates = fleet.store.updates(fleet.job.name, 1)

        fleet.kill(COORDINATOR)
        fleet.start(COORDINATOR)
        fleet.wait("the restart", lambda: len(fleet.events(COORDINATOR, "broker.connected")) == 2)
        assert fleet.store.current_round(fleet.job.name) == before
        assert fleet.store.updates(fleet.job.name, 1) == updates
        held.resume()
        fleet.finish()

        assert [record.round for record in fleet.rounds()] == [1, 2, 3]
        assert {tuple(record.included) for record in fleet.rounds()} == {tuple(fleet.agents)}
        for agent in fleet.agents:
            sent = [event["round"] for event in fleet.events(agent, "update.sent")]
            assert sent == ["1", "2", "3"]
        assert not fleet.heard("round.extended")


class TestAtAnyTime:
    def test_a_job_survives_a_coordinator_that_keeps_dying(self, launch: Launch) -> None:
        """Killed again and again between two arbitrary steps, it runs every round exactly once."""
        fleet = launch(a_job(rounds=40, deadline_seconds=60.0), a_pair())
        for rounds in (1, 20):
            fleet.wait(f"{rounds} rounds", lambda rounds=rounds: fleet.closed() >= rounds)
            fleet.kill(COORDINATOR)
            fleet.start(COORDINATOR)
        fleet.finish()

        assert [record.round for record in fleet.rounds()] == list(range(1, 41))
        assert {record.state for record in fleet.rounds()} == {"closed"}
        versions = fleet.store.versions(fleet.job.name)
        assert [version.number for version in versions] == list(range(41))
        for agent in fleet.agents:
            sent = [int(event["round"]) for event in fleet.events(agent, "update.sent")]
            assert sent == sorted(set(sent))

    def test_killed_after_the_last_round_it_still_ends_the_job(self, launch: Launch) -> None:
        """Evaluations and receipts that were on their way are not waited for until the deadline."""
        fleet = launch(a_job(rounds=3, deadline_seconds=300.0), a_pair())
        fleet.wait("the last round", lambda: fleet.closed() == 3)
        fleet.kill(COORDINATOR)
        fleet.start(COORDINATOR)
        fleet.finish()
        alias = fleet.store.alias(fleet.job.name, "stable")
        assert alias is not None
        told = fleet.store.evaluations(fleet.job.name, alias.version)
        assert {record.agent for record in told} == set(fleet.agents)
