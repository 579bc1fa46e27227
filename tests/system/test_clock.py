# SPDX-License-Identifier: Apache-2.0
"""Gateways without a battery: their clocks are years off, and they take part all the same."""

import sys
from pathlib import Path

import pytest
from tests.faults import clock
from tests.system.conftest import Launch
from tests.system.fleet import COORDINATOR, a_job, marked

from fedmill_coordinator.demo.processes import program

pytestmark = [pytest.mark.system, pytest.mark.drill]

SEVEN_YEARS = 7 * 365 * 86_400


def test_agents_that_live_in_other_years(launch: Launch) -> None:
    """They say so, the fleet shows by how much, and every round has their updates."""
    fleet = launch(a_job(rounds=4, minimum=3), only=[COORDINATOR, "agent-1"])
    skews = {"agent-2": -SEVEN_YEARS, "agent-3": SEVEN_YEARS}
    for agent, seconds in skews.items():
        _python, _m, *rest = program("fedmill_agent", "run", fleet.layout.agents[agent])
        command = [sys.executable, str(Path(clock.__file__)), str(seconds), "--", *rest]
        with marked(fleet.folder):
            fleet._daemons.start(agent, command)
    fleet.finish()

    assert [record.included for record in fleet.rounds()][-1] == fleet.agents
    assert not fleet.events("agent-1", "clock.skewed")
    for agent, seconds in skews.items():
        [skewed] = fleet.events(agent, "clock.skewed")
        assert abs(int(skewed["seconds"]) - seconds) < 60
        record = fleet.store.agent(agent)
        assert record is not None
        assert record.clock_skew_ms is not None
        assert abs(record.clock_skew_ms / 1000 - seconds) < 60
