# SPDX-License-Identifier: Apache-2.0
"""Agents that come late, or were away: they get the model as it is now and take part."""

import pytest
from tests.system.conftest import Launch
from tests.system.fleet import COORDINATOR, Fleet, a_job

pytestmark = [pytest.mark.system, pytest.mark.drill]


def meet(fleet: Fleet, agent: str, times: int) -> None:
    """Hold the open round until ``agent`` has joined for the ``times``-th time and delivered."""
    held = fleet.trainer("agent-2")
    held.suspend()
    fleet.start(agent)
    fleet.wait(f"{agent} joins", lambda: len(fleet.events(agent, "job.joined")) == times)
    current = fleet.store.current_round(fleet.job.name)
    assert current is not None
    fleet.wait(f"{agent} delivers", lambda: agent in fleet.received(current.round))
    held.resume()


class TestAway:
    def test_late_and_returning_agents_take_part(self, launch: Launch) -> None:
        """One starts after round 2, another misses some rounds; both are evaluated at the end."""
        fleet = launch(
            a_job(rounds=60, deadline_seconds=120.0), only=[COORDINATOR, "agent-1", "agent-2"]
        )
        fleet.wait("two rounds", lambda: fleet.closed() >= 2)
        meet(fleet, "agent-3", 1)
        late = next(r.round for r in fleet.rounds() if "agent-3" in fleet.received(r.round))
        assert late > 2

        fleet.wait("a round of three", lambda: fleet.rounds()[-2].included == fleet.agents)
        assert fleet.end("agent-1") == 0
        left = fleet.closed()
        fleet.wait("rounds without it", lambda: fleet.closed() >= left + 5)
        meet(fleet, "agent-1", 2)
        fleet.finish()

        included = {record.round: record.included for record in fleet.rounds()}
        assert included[1] == ["agent-1", "agent-2"]
        assert included[left + 3] == ["agent-2", "agent-3"]
        assert included[60] == fleet.agents
        stable = fleet.store.alias(fleet.job.name, "stable")
        assert stable is not None
        told = fleet.store.evaluations(fleet.job.name, stable.version)
        windows = {record.agent: record.windows for record in told if record.split == "test"}
        assert windows == dict.fromkeys(fleet.agents, 94)
        first = fleet.events("agent-3", "version.installed")[0]
        assert int(first["number"]) >= 2
