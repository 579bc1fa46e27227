# SPDX-License-Identifier: Apache-2.0
"""The broker dies and comes back without a memory."""

import time

import pytest
from tests.system.conftest import Launch
from tests.system.fleet import COORDINATOR, Fleet, a_job, a_pair

pytestmark = [pytest.mark.system, pytest.mark.drill]


class TestBroker:
    def test_killed_in_mid_job_everyone_comes_back(self, launch: Launch) -> None:
        """Sessions, retained messages and what was on its way are gone; no round is lost."""
        fleet = launch(a_job(rounds=40, deadline_seconds=60.0), a_pair())
        fleet.wait("some rounds", lambda: fleet.closed() >= 5)
        fleet.kill_broker()
        fleet.start_broker()
        fleet.finish()

        assert [record.round for record in fleet.rounds()] == list(range(1, 41))
        assert {tuple(record.included) for record in fleet.rounds()} == {tuple(fleet.agents)}
        for name in (COORDINATOR, *fleet.agents):
            assert len(fleet.events(name, "broker.connected")) == 2
            lost = fleet.events(name, "broker.unreachable", level="error")
            assert lost
            assert all(event["remedy"] for event in lost)

    def test_killed_with_the_coordinator_the_last_version_is_still_scored(
        self, launch: Launch
    ) -> None:
        """What an agent told of the last version is gone with both: it tells it again.

        The agent is so slow that the weights which it was to train from are gone: no error.
        """
        fleet = launch(a_job(rounds=6, goal=2, deadline_seconds=300.0))
        slow = fleet.trainer("agent-3")
        slow.suspend()
        fleet.wait("the others' scores", lambda: scored(fleet) == {"agent-1", "agent-2"})
        fleet.process(COORDINATOR).suspend()
        slow.resume()
        fleet.wait("work of agent-3", lambda: fleet.events("agent-3", "training.outdated") != [])
        time.sleep(0.5)  # meanwhile it scores the last version, and no event tells
        fleet.kill(COORDINATOR)
        fleet.kill_broker()
        assert scored(fleet) == {"agent-1", "agent-2"}

        fleet.start_broker()
        fleet.start(COORDINATOR)
        fleet.finish()
        assert scored(fleet) == set(fleet.agents)
        assert not fleet.heard("agent.refused")
        errors = {event["event"] for event in fleet.events("agent-3", level="error")}
        assert errors == {"broker.unreachable"}


def scored(fleet: Fleet) -> set[str]:
    """Agents whose score of the version that the last round made is known."""
    name, last = fleet.job.name, fleet.job.federation.rounds
    made = [v.version for v in fleet.store.versions(name) if v.round == last]
    return {record.agent for v in made for record in fleet.store.evaluations(name, v)}
