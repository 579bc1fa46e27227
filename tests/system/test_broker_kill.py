# SPDX-License-Identifier: Apache-2.0
"""The broker dies and comes back without a memory."""

import time

import pytest
from tests.system.conftest import Launch
from tests.system.fleet import COORDINATOR, a_job

pytestmark = pytest.mark.system


class TestBroker:
    def test_killed_in_mid_job_everyone_comes_back(self, launch: Launch) -> None:
        """Sessions, retained messages and what was on its way are gone; no round is lost."""
        fleet = launch(a_job(rounds=40, deadline_seconds=60.0))
        fleet.wait("some rounds", lambda: fleet.closed() >= 5)
        fleet.kill_broker()
        fleet.start_broker()
        fleet.finish()

        assert [record.round for record in fleet.rounds()] == list(range(1, 41))
        assert {tuple(record.included) for record in fleet.rounds()} == {tuple(fleet.agents)}
        for name in (COORDINATOR, *fleet.agents):
            assert len(fleet.events(name, "broker.connected")) == 2
            (lost,) = fleet.events(name, "broker.unreachable", level="error")
            assert lost["remedy"]

    def test_killed_with_the_coordinator_the_last_version_is_still_scored(
        self, launch: Launch
    ) -> None:
        """What agents told of the last version is gone with both: they tell it again when asked."""
        fleet = launch(a_job(rounds=2, deadline_seconds=300.0))
        fleet.wait("the last round", lambda: fleet.closed() == 2)
        fleet.process(COORDINATOR).suspend()
        for agent in fleet.agents:
            fleet.wait(
                f"the last version at {agent}",
                lambda agent=agent: fleet.events(agent, "version.installed", number=2) != [],
            )
        time.sleep(0.5)  # no event tells that a version has been scored
        fleet.kill(COORDINATOR)
        fleet.kill_broker()
        fleet.start_broker()
        fleet.start(COORDINATOR)
        fleet.finish()
        alias = fleet.store.alias(fleet.job.name, "stable")
        assert alias is not None
        told = fleet.store.evaluations(fleet.job.name, alias.version)
        assert {record.agent for record in told} == set(fleet.agents)
