# SPDX-License-Identifier: Apache-2.0
"""Which agents take part, and how rounds cope with slow ones."""

import pytest
from tests.system.conftest import Launch
from tests.system.fleet import COORDINATOR, Fleet, a_job, a_plant

pytestmark = pytest.mark.system


def label(fleet: Fleet, agent: str, line: str) -> None:
    """Write labels into the configuration of an agent that has not been started."""
    path = fleet.layout.agents[agent]
    path.write_text(f'{path.read_text()}\n[agent.labels]\nline = "{line}"\ntags = ["press"]\n')


class TestLabels:
    def test_only_those_that_the_job_selects(self, launch: Launch) -> None:
        """The agent decides by its own labels, says so, and nobody waits for it."""
        job = a_job(rounds=3, select='line == "A" and "press" in tags', deadline_seconds=300.0)
        fleet = launch(job, only=[COORDINATOR])
        for agent, line in zip(fleet.agents, "AAB", strict=True):
            label(fleet, agent, line)
        fleet.start(*fleet.agents)
        fleet.finish()
        assert {tuple(record.included) for record in fleet.rounds()} == {("agent-1", "agent-2")}
        [told] = fleet.events("agent-3", "job.not_selected")
        assert "line" in told["reason"]
        record = fleet.store.agent("agent-3")
        assert record is not None
        assert "line" in record.detail


class TestCohort:
    def test_each_has_its_turn(self, launch: Launch) -> None:
        """Two of four are asked in a round; after all rounds everybody was asked as often."""
        plants = [a_plant(number) for number in (1, 2, 3, 4)]
        job = a_job(rounds=10, goal=2, over_selection=1.0, minimum=2)
        fleet = launch(job, plants)
        fleet.finish()
        asked = [record.asked for record in fleet.rounds() if record.asked]
        assert all(len(names) == 2 for names in asked)
        counts = [sum(agent in names for names in asked) for agent in fleet.agents]
        assert max(counts) - min(counts) <= 2


class TestMachine:
    def test_an_agent_whose_machine_is_busy_is_not_asked(self, launch: Launch) -> None:
        """It goes on scoring, tells why it does not train, and the others go on without it."""
        fleet = launch(a_job(rounds=3, deadline_seconds=300.0), only=[COORDINATOR])
        path = fleet.layout.agents["agent-3"]
        path.write_text(f"{path.read_text()}\n[training]\nmax_cpu_percent = 0.0\n")
        fleet.start(*fleet.agents)
        fleet.finish()
        assert [record.included for record in fleet.rounds()][-1] == ["agent-1", "agent-2"]
        phase = fleet.status("agent-3").state.jobs[fleet.job.name]
        assert "processor" in phase.ineligible
