# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec import structs
from tests.agent.kit import Journal

from fedmill_agent.cli import main
from fedmill_agent.cli.fit import joined, read
from fedmill_agent.config import load
from fedmill_agent.inference.scorer import Scorer
from fedmill_agent.intake import Intake
from fedmill_agent.places import windows_file
from fedmill_agent.sources import kind_of
from fedmill_agent.sources.runner import SourceRunner
from fedmill_agent.store.windows import WindowStore
from fedmill_agent.training.baseline import fit_and_score
from fedmill_shared.clock import ManualClock
from fedmill_shared.job import Job
from fedmill_shared.job_check import load_job
from fedmill_shared.metrics.score import Score

Configure = Callable[..., Path]


def store_windows(path: Path, job: Job) -> None:
    """What the daemon of this configuration would have stored."""
    config, clock = load(path), ManualClock()
    with WindowStore(
        windows_file(config.agent.state, job), clock=clock, max_bytes=10**7, max_age_seconds=1e9
    ) as store:
        intake = Intake(job, config, store, Scorer(clock), Journal())
        [source] = config.sources

        def sink(event: object) -> bool:
            intake.accept(event)
            return True

        tags = intake.tags(source.name)
        SourceRunner(kind_of(source), source, tags, 1.0, sink=sink, clock=clock)._run()


@pytest.fixture
def plants(configure: Configure, job_file: Path) -> list[Path]:
    """Two agents that have stored windows of the job."""
    paths = [configure("a", seed=1), configure("b", seed=2)]
    for path in paths:
        store_windows(path, load_job(job_file))
    return paths


def scores(capsys: pytest.CaptureFixture[str]) -> list[Score]:
    """What was printed."""
    return [msgspec.json.decode(line, type=Score) for line in capsys.readouterr().out.splitlines()]


class TestFit:
    def test_one_agent(
        self, plants: list[Path], job_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Local only: its own windows, and a score on those it held out."""
        assert main(["fit", str(plants[0]), "--job", str(job_file)]) == 0
        [score] = scores(capsys)
        config, job = load(plants[0]), load_job(job_file)
        train, test = read(config, job, "train"), read(config, job, "test")
        assert (len(train), len(test)) == (18, 6)
        [expected] = fit_and_score(job, train, {"a": test}, agents=1)
        assert score == expected

    def test_pooled(
        self, plants: list[Path], job_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """As if the data could leave the plants: one model, a line for each agent."""
        first, second = map(str, plants)
        assert main(["fit", first, "--also", second, "--job", str(job_file), "--rounds", "2"]) == 0
        found = scores(capsys)
        job = load_job(job_file)
        job = structs.replace(job, federation=structs.replace(job.federation, rounds=2))
        configs = [load(path) for path in plants]
        train = joined([read(config, job, "train") for config in configs])
        assert len(train) == 36
        held_out = {config.agent.id: read(config, job, "test") for config in configs}
        assert found == list(fit_and_score(job, train, held_out, agents=2))
        assert [score.agent for score in found] == ["a", "b"]

    def test_agents_without_windows_add_nothing(self, plants: list[Path], job_file: Path) -> None:
        """Joining keeps order and leaves out what is empty."""
        job, config = load_job(job_file), load(plants[0])
        train, none = read(config, job, "train"), read(config, job, "validation")
        assert joined([none, train, none]).runs == train.runs
        assert len(joined([none, none])) == 0
        both = joined([train, train])
        np.testing.assert_array_equal(both.inputs[18:], train.inputs)


class TestFaults:
    def test_an_agent_that_never_ran(
        self, configure: Configure, job_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """It is named, with what to do."""
        assert main(["fit", str(configure()), "--job", str(job_file)]) == 21
        assert "agent a has stored no windows of job press" in capsys.readouterr().err

    def test_another_window(
        self, plants: list[Path], job_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Windows of the job as it was before it was changed are not taken."""
        job_file.write_text(job_file.read_text().replace("length = 8", "length = 4"))
        assert main(["fit", str(plants[0]), "--job", str(job_file)]) == 21

    def test_nothing_to_learn_from(
        self, configure: Configure, job_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Windows without a label."""
        path = configure(extra="")
        path.write_text(path.read_text().replace('label_column = "label"\n', ""))
        store_windows(path, load_job(job_file))
        assert main(["fit", str(path), "--job", str(job_file)]) == 13
        assert "job press: no labelled training windows" in capsys.readouterr().err

    def test_a_negative_number_of_rounds(
        self, plants: list[Path], job_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A mistake on the command line."""
        assert main(["fit", str(plants[0]), "--job", str(job_file), "--rounds", "-1"]) == 2
        assert "--rounds -1" in capsys.readouterr().err
