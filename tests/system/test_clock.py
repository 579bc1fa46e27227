# SPDX-License-Identifier: Apache-2.0
"""A gateway without a battery: its clock is years off, and it takes part all the same."""

import sys
from pathlib import Path

import pytest
from tests.faults import clock
from tests.system.conftest import Launch
from tests.system.fleet import COORDINATOR, a_job, marked

from fedmill_coordinator.demo.processes import program

pytestmark = pytest.mark.system

SEVEN_YEARS = 7 * 365 * 86_400


@pytest.mark.parametrize("seconds", [-SEVEN_YEARS, SEVEN_YEARS])
def test_an_agent_that_lives_in_another_year(launch: Launch, seconds: int) -> None:
    """It says so, the fleet shows by how much, and every round has its update."""
    fleet = launch(a_job(rounds=4), only=[COORDINATOR, "agent-1", "agent-2"])
    _python, _m, *rest = program("fedmill_agent", "run", fleet.layout.agents["agent-3"])
    script = str(Path(clock.__file__))
    with marked(fleet.folder):
        fleet._daemons.start("agent-3", [sys.executable, script, str(seconds), "--", *rest])
    fleet.finish()

    [skewed] = fleet.events("agent-3", "clock.skewed")
    assert abs(int(skewed["seconds"]) - seconds) < 60
    assert not fleet.events("agent-1", "clock.skewed")
    assert [record.included for record in fleet.rounds()][-1] == fleet.agents
    record = fleet.store.agent("agent-3")
    assert record is not None
    assert record.clock_skew_ms is not None
    assert abs(record.clock_skew_ms / 1000 - seconds) < 60
