# SPDX-License-Identifier: Apache-2.0
"""The agent's commands with a job that needs no labels."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests.agent.cli.test_fit import store_windows

from fedmill_agent.cli import main
from fedmill_coordinator.registry.golden import GoldenSet
from fedmill_shared.golden import read_golden
from fedmill_shared.job_check import load_job
from fedmill_shared.metrics.score import Score

Configure = Callable[..., Path]


@pytest.fixture
def job_file(job_file: Path) -> Path:
    """The tiny press, without classes."""
    text = job_file.read_text()
    text = text.replace('name = "press"', 'name = "press"\ntask = "reconstruction"')
    text = text.replace('[labels]\nclasses = ["good", "worn"]\n', "")
    text = text.replace('"mlp"\nhidden = [4, 3]', '"autoencoder"\nhidden = [4]\nbottleneck = 3')
    job_file.write_text(text)
    assert not load_job(job_file).needs_labels
    return job_file


class TestCheck:
    def test_windows_are_enough(
        self, configure: Configure, job_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Labels that the recording has are no fault; that there are none is none either."""
        assert main(["check", str(configure()), "--job", str(job_file), "--offline"]) == 0
        output = capsys.readouterr().out
        assert "  24 windows; the job needs no labels\n" in output
        assert "job press: 24 windows, 24 to learn or test by\n" in output
        assert "missing" not in output

    def test_too_few(
        self, configure: Configure, job_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What is missing are windows, and no labels."""
        text = job_file.read_text().replace("minimum = 1", "minimum = 1\nmin_examples = 99")
        job_file.write_text(text)
        main(["check", str(configure()), "--job", str(job_file), "--offline"])
        output = capsys.readouterr().out
        assert "missing: about 18 training windows, 99 wanted" in output


class TestGolden:
    def test_windows_without_labels(
        self,
        configure: Configure,
        job_file: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Drawn evenly; the coordinator can train on them for the rule `trust`."""
        out = tmp_path / "press.golden"
        command = ["golden", str(configure()), "--job", str(job_file), "--out", str(out)]
        assert main([*command, "--windows", "6"]) == 0
        told = capsys.readouterr().out
        assert told == f"{out}: 6 windows of job press; they are raw data\n"
        job = load_job(job_file)
        golden, inputs = read_golden(out, job)
        assert (golden.texts, inputs.shape) == ([""] * 6, (6, 1, 8))
        assert len({window.tobytes() for window in inputs}) == 6
        examples = GoldenSet.load(job, out).examples
        assert examples.targets.tolist() == [0.0] * 6


class TestFit:
    def test_the_error_of_what_was_held_out(
        self, configure: Configure, job_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """After the agent has stored windows: its metrics are an error and its deviation."""
        path = configure()
        store_windows(path, load_job(job_file))
        assert main(["fit", str(path), "--job", str(job_file)]) == 0
        score = msgspec.json.decode(capsys.readouterr().out, type=Score)
        assert score.windows == 6
        assert set(score.metrics) == {"mse", "deviation"}
        assert np.isfinite(score.metrics["mse"])
