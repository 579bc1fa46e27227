# SPDX-License-Identifier: Apache-2.0
"""Nothing goes wrong: where everybody stands at the end of a job."""

from collections.abc import Iterator

import pytest
from msgspec import json
from tests.faults.replay import replay
from tests.system.fleet import Fleet, federation

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A federation at the end of its job, still running."""
    with federation(tmp_path_factory.mktemp("happy") / "fleet") as fleet:
        fleet.finish()
        yield fleet


def scores_with(fleet: Fleet, agent: str, version: str) -> bool:
    """Whether an agent said that it scores live windows with ``version``."""
    phase = fleet.status(agent).state.jobs[fleet.job.name]
    return phase.windows_scored > 0 and phase.version == version


class TestFinishedJob:
    def test_every_agent_scores_with_the_stable_version(self, finished: Fleet) -> None:
        """Listing, status and the live stream's predictions name the version that is stable."""
        version, job = finished.stable(), finished.job.name
        for agent in finished.agents:
            finished.wait(
                f"live windows of {agent}",
                lambda agent=agent: scores_with(finished, agent, version),
            )
        fleet = finished.run("fedmill_coordinator", "fleet", finished.layout.coordinator, "--json")
        rows = json.decode(fleet.stdout)
        assert [row["agent"] for row in rows] == finished.agents
        assert {row["state"] for row in rows} == {"online"}
        assert {row["model"] for row in rows} == {version}
        assert {row["last_refusal"] for row in rows} == {""}
        for agent, config in finished.layout.agents.items():
            told = finished.run("fedmill_agent", "status", config, "--json")
            body = json.decode(told.stdout)
            assert (told.returncode, body["agent"], body["running"]) == (0, agent, True)
            assert body["state"]["jobs"][job]["version"] == version
            with finished.windows(agent) as store:
                newest = store.predictions(1)[0]
            assert (newest.run.partition("#")[0], newest.version) == ("live", version)

    def test_every_agent_took_part_in_every_round_and_scored_the_result(
        self, finished: Fleet
    ) -> None:
        """Five rounds of three updates; each agent's held-out windows are in the evaluation."""
        assert [record.round for record in finished.rounds()] == [1, 2, 3, 4, 5]
        assert {tuple(record.included) for record in finished.rounds()} == {
            ("agent-1", "agent-2", "agent-3")
        }
        told = finished.store.evaluations(finished.job.name, finished.stable())
        windows = {record.agent: record.windows for record in told if record.split == "test"}
        assert windows == dict.fromkeys(finished.agents, 94)

    def test_nothing_waits_for_a_receipt(self, finished: Fleet) -> None:
        """Outboxes are empty, updates are included, and nobody complained."""
        assert not any(finished.parcels(agent) for agent in finished.agents)
        for record in finished.rounds():
            updates = finished.store.updates(finished.job.name, record.round)
            assert [update.state for update in updates] == ["included"] * 3
        for name in ("coordinator", *finished.agents):
            assert {event["level"] for event in finished.events(name)} == {"info"}

    def test_the_weights_are_the_sum_of_the_accepted_updates(self, finished: Fleet) -> None:
        """Aggregating the stored updates once more gives every version bit for bit."""
        outcome = replay(finished.store, finished.blobs, finished.job.name)
        included = sum(len(closed.included) for closed in finished.rounds())
        assert (outcome.rounds, outcome.updates) == (len(finished.rounds()), included)
        assert (outcome.wrong, outcome.final) == ([], True)
