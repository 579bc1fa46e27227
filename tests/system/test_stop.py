# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM: everything ends at once, in order, and the next start goes on from there."""

import signal

import psutil
import pytest
from tests.system.conftest import Launch
from tests.system.fleet import COORDINATOR, a_job, processes_of

pytestmark = pytest.mark.system

ASK = [signal.SIGTERM, signal.SIGINT]


class TestStop:
    def test_everything_ends_at_once_and_the_next_start_goes_on(self, launch: Launch) -> None:
        """Exit code 0 within two seconds, no trainer left; rounds are numbered on, none is lost."""
        fleet = launch(a_job(rounds=30, deadline_seconds=60.0))
        fleet.wait("some rounds", lambda: fleet.closed() >= 4)
        trainers = [fleet.trainer(agent) for agent in fleet.agents]
        asked = dict(zip((*fleet.agents, COORDINATOR), 2 * ASK, strict=True))
        assert [fleet.end(name, number) for name, number in asked.items()] == [0] * 4
        gone, left = psutil.wait_procs(trainers, timeout=2.0)
        assert (len(gone), left) == (3, [])
        assert [process.name() for process in processes_of(fleet.folder)] == ["mosquitto"]
        closed = fleet.closed()
        assert 4 <= closed < 30

        fleet.start(COORDINATOR, *fleet.agents)
        fleet.finish()
        assert [record.round for record in fleet.rounds()] == list(range(1, 31))
        assert {record.state for record in fleet.rounds()} == {"closed"}
        numbers = [version.number for version in fleet.store.versions(fleet.job.name)]
        assert numbers == list(range(31))
        assert {len(record.included) for record in fleet.rounds()} <= {2, 3}

    def test_an_agent_that_leaves_is_not_waited_for(self, launch: Launch) -> None:
        """It says farewell, so the round that is open closes without it, before its deadline."""
        fleet = launch(a_job(rounds=3, deadline_seconds=300.0))
        held = fleet.hold("agent-3")
        fleet.wait("two updates", lambda: fleet.received(1) == ["agent-1", "agent-2"])
        held.resume()
        held.kill()
        assert fleet.end("agent-3") == 0
        fleet.finish()
        assert fleet.rounds()[-1].included == ["agent-1", "agent-2"]
        assert not fleet.heard("round.extended")
