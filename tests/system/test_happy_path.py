# SPDX-License-Identifier: Apache-2.0
"""Nothing goes wrong: where everybody stands at the end of a job."""

from collections.abc import Iterator

import numpy as np
import pytest
from msgspec import json, msgpack
from tests.system.fleet import Fleet, federation

from fedmill_coordinator.aggregation import RULES, Update
from fedmill_coordinator.registry.versions import Architecture
from fedmill_shared.codec.frame import decode_frame
from fedmill_shared.link.blocks import BLOB_LIMIT
from fedmill_shared.models.normaliser import Normaliser

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A federation at the end of its job, still running."""
    with federation(tmp_path_factory.mktemp("happy") / "fleet") as fleet:
        fleet.finish()
        yield fleet


def stable(fleet: Fleet) -> str:
    """The version that the job ended with."""
    alias = fleet.store.alias(fleet.job.name, "stable")
    assert alias is not None
    return alias.version


def scores_with(fleet: Fleet, agent: str, version: str) -> bool:
    """Whether an agent said that it scores live windows with ``version``."""
    phase = fleet.status(agent).state.jobs[fleet.job.name]
    return phase.windows_scored > 0 and phase.version == version


class TestFinishedJob:
    def test_every_agent_scores_with_the_stable_version(self, finished: Fleet) -> None:
        """Listing, status and the live stream's predictions name the version that is stable."""
        version, job = stable(finished), finished.job.name
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
        told = finished.store.evaluations(finished.job.name, stable(finished))
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
        store, blobs, name = finished.store, finished.blobs, finished.job.name
        record = store.job(name)
        assert record is not None
        assert record.normaliser is not None
        assert record.template is not None
        assert record.canary_inputs is not None
        normaliser = msgpack.decode(record.normaliser, type=Normaliser)
        architecture = Architecture.restore(
            finished.job,
            normaliser,
            blobs.get(record.template, BLOB_LIMIT),
            blobs.get(record.canary_inputs, BLOB_LIMIT),
        )
        made = architecture.first(normaliser)
        rule = RULES[finished.job.federation.rule]
        state, residual, versions = rule.init(architecture.learned), None, [made.version]
        for closed in finished.rounds():
            updates = {update.agent: update for update in store.updates(name, closed.round)}
            stream = [
                Update(
                    agent,
                    updates[agent].examples,
                    decode_frame(
                        blobs.get(updates[agent].blob, BLOB_LIMIT), elements=architecture.learned
                    )[1],
                )
                for agent in sorted(closed.included)
            ]
            delta, state, _ = rule.step(state, stream, finished.job.federation)
            made = architecture.next(made.vector, delta, residual, closed.round)
            residual = made.residual
            versions.append(made.version)
        assert versions == [version.version for version in store.versions(name)]
        assert versions[-1] == stable(finished)
        last = store.version(name, stable(finished))
        assert last is not None
        assert last.weights is not None
        weights = np.frombuffer(blobs.get(last.weights, BLOB_LIMIT), "<f4")
        assert weights.tobytes() == made.vector.astype("<f4").tobytes()
