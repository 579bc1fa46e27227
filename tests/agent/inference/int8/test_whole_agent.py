# SPDX-License-Identifier: Apache-2.0
"""A whole agent: the form is fetched where it is wanted, and what scores is told."""

from collections.abc import Iterator

import numpy as np
import pytest
from msgspec import structs
from tests.agent.inference.int8.stand import LENGTH, a_convolving_job, blob_of
from tests.agent.kit import Versions
from tests.agent.whole import ONLY_TRAIN, Agent, Plant

from fedmill_agent.cli import status
from fedmill_agent.inference.int8 import trial
from fedmill_agent.inference.options import InferenceSection
from fedmill_shared.files import sha256
from fedmill_shared.messages import BlobRequest, JobPhase

JOB = a_convolving_job(evaluation=ONLY_TRAIN)


@pytest.fixture
def plant(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Int8 is twice as fast here."""
    monkeypatch.setattr(trial, "compared", lambda *_: (1.0, 0.5))
    return plant


def recorded(plant: Plant, **fields: object) -> tuple[Agent, Versions]:
    """An agent with 100 windows of two runs that follows a version with an int8 form."""
    versions = Versions(JOB)
    if len(versions.made) == 1:
        versions.advance(scale=0.6)
    generator = np.random.default_rng(0)
    runs = {
        name: generator.normal(0, scale, 50 * LENGTH).round(4).tolist()
        for name, scale in (("good-0", 1.0), ("worn-1", 2.0))
    }
    agent = plant.agent(plant.recording(**runs), **fields)
    plant.coordinator.offer(JOB, state="running")
    agent.until(lambda: plant.said("join"))
    plant.coordinator.versions = {JOB.name: versions}
    notice = structs.replace(versions.notice(), quantised=versions.put(blob_of(versions)))
    plant.coordinator.tell("version", notice)
    agent.until(lambda: agent.word().jobs[JOB.name].version == versions.newest.version)
    return agent, versions


def asked(plant: Plant, versions: Versions) -> list[BlobRequest]:
    """Requests for the int8 form."""
    name = versions.put(blob_of(versions)).sha256
    return [request for request in plant.said("request") if request.blob == name]


class TestAgent:
    def test_takes_what_it_is_told_to_look_for(
        self, plant: Plant, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The form comes, int8 takes over, and fleet and status are told; also after a restart."""
        wanted = InferenceSection(int8="auto")
        agent, versions = recorded(plant, inference=wanted)
        agent.until(lambda: agent.journal.of("int8.chosen"))
        assert asked(plant, versions)
        phase = agent.word().jobs[JOB.name]
        assert phase.int8["int8_ms"] == 0.5
        assert phase.version == versions.newest.version
        status._show_job("press", phase)
        assert "scores in int8: 0.5 ms" in capsys.readouterr().out
        plant.stop(agent)
        requests = len(asked(plant, versions))
        again = plant.agent(plant.recording(), online=False, inference=wanted)
        again.until(lambda: again.journal.of("int8.chosen"))
        assert len(asked(plant, versions)) == requests

    def test_by_default_nothing_is_fetched(self, plant: Plant) -> None:
        """Float32 scores, and nothing is said of int8."""
        agent, versions = recorded(plant)
        agent.run(150)
        assert asked(plant, versions) == []
        assert agent.word().jobs[JOB.name].int8 == {}
        assert agent.seat()._work.equipment.int8 is None

    def test_a_form_that_nobody_has_changes_nothing(
        self, plant: Plant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The version is installed and scores in float32; the form is asked for again."""
        served = Versions.blocks

        def lacking(self: Versions, request: BlobRequest) -> Iterator[bytes]:
            lost = request.blob == sha256(blob_of(self))
            return iter(()) if lost else served(self, request)

        monkeypatch.setattr(Versions, "blocks", lacking)
        agent, versions = recorded(plant, inference=InferenceSection(int8="auto"))
        agent.run(150)
        assert agent.word().jobs[JOB.name].int8 == {}
        assert agent.phase() == "joined"
        assert len(asked(plant, versions)) > 1


def test_float32_says_nothing_of_int8(capsys: pytest.CaptureFixture[str]) -> None:
    """Its line is for those who have it."""
    status._show_job("press", JobPhase(phase="joined"))
    assert "int8" not in capsys.readouterr().out
