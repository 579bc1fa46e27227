# SPDX-License-Identifier: Apache-2.0
"""Which agents take part, and how rounds cope with slow ones."""

from collections.abc import Iterator

import pytest
from tests.system.conftest import Launch
from tests.system.fleet import COORDINATOR, Fleet, a_job, a_plant, federation

pytestmark = pytest.mark.system


def label(fleet: Fleet, agent: str, line: str) -> None:
    """Write labels into the configuration of an agent that has not been started."""
    path = fleet.layout.agents[agent]
    path.write_text(f'{path.read_text()}\n[agent.labels]\nline = "{line}"\ntags = ["press"]\n')


def occupy(fleet: Fleet, agent: str) -> None:
    """Have the machine of an agent that has not been started always be too busy for training."""
    path = fleet.layout.agents[agent]
    path.write_text(f"{path.read_text()}\n[training]\nmax_cpu_percent = 0.0\n")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A job that two of four agents have taken part in; no round waited for its deadline."""
    job = a_job(rounds=3, select='line == "A" and "press" in tags', deadline_seconds=300.0)
    plants = [a_plant(number) for number in (1, 2, 3, 4)]
    folder = tmp_path_factory.mktemp("selection") / "fleet"
    with federation(folder, job, plants, only=[COORDINATOR]) as fleet:
        for agent, line in zip(fleet.agents, "AABA", strict=True):
            label(fleet, agent, line)
        occupy(fleet, "agent-4")
        fleet.start(*fleet.agents)
        fleet.finish()
        yield fleet


class TestLabels:
    def test_only_those_that_the_job_selects(self, finished: Fleet) -> None:
        """The agent decides by its own labels, says so, and nobody waits for it."""
        included = {tuple(record.included) for record in finished.rounds()}
        assert included == {("agent-1", "agent-2")}
        [told] = finished.events("agent-3", "job.not_selected")
        assert "line" in told["reason"]
        record = finished.store.agent("agent-3")
        assert record is not None
        assert "line" in record.detail
        assert not finished.events("agent-4", "job.not_selected")


class TestMachine:
    def test_an_agent_whose_machine_is_busy_is_not_asked(self, finished: Fleet) -> None:
        """It goes on scoring, tells why it does not train, and the others go on without it."""
        assert [record.included for record in finished.rounds()][-1] == ["agent-1", "agent-2"]
        phase = finished.status("agent-4").state.jobs[finished.job.name]
        assert "processor" in phase.ineligible


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
