# SPDX-License-Identifier: Apache-2.0
"""Labels between rounds in a whole agent, from the recording to what scores."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs
from tests.agent.feedback.conftest import blind
from tests.agent.kit import LENGTH, Versions, a_job, classes_of, write_csv
from tests.agent.whole import ONLY_TRAIN, Agent, Plant, release, whole_plant

from fedmill_agent.cli.feedback_line import feedback_lines
from fedmill_agent.sources.csv import CsvOptions
from fedmill_shared.job import Feedback, Job, Serving
from fedmill_shared.job_check import job_from_canonical

JOB: Job = structs.replace(
    a_job(evaluation=ONLY_TRAIN), feedback=Feedback(method="ridge", min_labels=6)
)


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plant]:
    """A broker in memory, and what agents are made of."""
    with whole_plant(tmp_path, monkeypatch) as made:
        yield made


def levels(windows: int) -> dict[str, list[float]]:
    """Two runs of each class, which differ in their level."""
    random = np.random.default_rng(0)
    names = ["good-0", "worn-1", "good-2", "worn-3"]
    return {
        name: (random.normal(0.0, 0.3, windows * LENGTH) + (1.5 if n % 2 else -1.5)).tolist()
        for n, name in enumerate(names)
    }


def held_out(plant: Plant) -> CsvOptions:
    """The same two classes, aside."""
    values = levels(10)
    path = write_csv(plant.folder / "aside.csv", values, classes_of(values))
    return CsvOptions(
        name="aside", path=str(path), run_column="run", label_column="label", split="validation"
    )


def serving(agent: Agent) -> str:
    """The version that scores."""
    version: str = agent.seat()._work.scorer.version
    return version


def begin(plant: Plant, job: Job, windows: int = 6) -> tuple[Agent, Versions]:
    """An agent whose first version tells most windows wrong."""
    agent = plant.agent(plant.recording(**levels(windows)))
    versions = blind(Versions(job))
    plant.coordinator.offer(job, state="running")
    agent.until(lambda: plant.said("join"))
    release(plant, agent, versions)
    return agent, versions


class TestWholeAgent:
    def test_labels_of_a_recording_change_what_scores(self, whole: Plant) -> None:
        """Some seconds after a version came; the status tells, and training goes on from it."""
        agent, versions = begin(whole, JOB)
        base = versions.newest.version
        agent.until(lambda: serving(agent) != base, "feedback")
        assert agent.word().jobs["press"].version == base
        assert agent.journal.of("feedback.proposed")
        (line,) = feedback_lines(str(agent.state), "press")
        assert line.startswith("feedback: ridge on 24 labels")

    def test_survives_a_restart(self, whole: Plant) -> None:
        """The same head scores from the start, and nothing new is proposed."""
        agent, versions = begin(whole, JOB)
        agent.until(lambda: serving(agent) != versions.newest.version, "feedback")
        head = serving(agent)
        whole.stop(agent)
        again = whole.agent(whole.recording(**levels(6)))
        assert serving(again) == head
        again.until(lambda: again.journal.of("feedback.fitted"), "fitted again")
        again.run(200)
        assert serving(again) == head
        assert again.journal.of("feedback.proposed") == []

    def test_the_next_version_serves_as_well_as_what_was_fitted(self, whole: Plant) -> None:
        """It knows this machine less; fitted to the same labels it takes the place at once."""
        job = structs.replace(JOB, serving=Serving(min_labels=10))
        recordings = whole.recording(**levels(6)), held_out(whole)
        agent = whole.agent(*recordings)
        versions = blind(Versions(job))
        whole.coordinator.offer(job, state="running")
        agent.until(lambda: whole.said("join"))
        release(whole, agent, versions)
        agent.until(lambda: serving(agent) != versions.newest.version, "feedback")
        own = serving(agent)
        versions.advance(scale=0.001)
        release(whole, agent, versions)
        agent.until(lambda: serving(agent) != own, "the next version")
        form = serving(agent)
        assert form != versions.newest.version
        install = agent.seat()._work.deployment.installer.report()
        assert (install.version, install.state) == (versions.newest.version, "committed")
        assert install.evidence["error_unfitted"] > install.evidence["error_serving"]
        agent.until(lambda: len(agent.journal.of("feedback.proposed")) == 2, "put down")
        agent.run(200)
        assert serving(agent) == form  # the desk has come to the same bytes

    def test_few_labels_change_nothing(self, whole: Plant) -> None:
        """As the job wants."""
        job = structs.replace(JOB, feedback=Feedback(method="ridge", min_labels=50))
        agent, versions = begin(whole, job)
        agent.run(1000)
        assert serving(agent) == versions.newest.version
        assert agent.journal.of("feedback.fitted") == []

    def test_a_job_without_it_has_no_desk(self, whole: Plant) -> None:
        """Nor does it import any of this: most agents have no room for it."""
        job = structs.replace(JOB, feedback=Feedback())
        agent, _ = begin(whole, job)
        assert agent.seat()._work.equipment.feedback is None
        assert job_from_canonical(agent.seat().text) == job
        code = (
            "import sys, fedmill_agent.daemon;"
            "sys.exit(any(name.startswith('fedmill_agent.feedback') for name in sys.modules))"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
