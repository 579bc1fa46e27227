# SPDX-License-Identifier: Apache-2.0
"""A job that learns from features: the same bits wherever its windows go."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy.io import savemat
from tests.agent.kit import Journal, Versions

from fedmill_agent.cli import main
from fedmill_agent.cli.replay import make_source, read_windows
from fedmill_agent.config import AgentConfig, AgentSection
from fedmill_agent.inference.scorer import Scorer
from fedmill_agent.intake import Intake
from fedmill_agent.sources import kind_of
from fedmill_agent.sources.base import SourceOptions
from fedmill_agent.sources.rig import RigOptions
from fedmill_agent.sources.runner import SourceEvent
from fedmill_agent.store.windows import WindowStore
from fedmill_agent.training.baseline import fit_and_score
from fedmill_coordinator.registry.export import self_contained
from fedmill_shared.clock import ManualClock
from fedmill_shared.job import Features, Job, Labels, Learning, Mlp, Signal, Task, Window
from fedmill_shared.models.schema import read_schema
from fedmill_shared.onnx_session import OnnxSession

FAULTS = ["normal", "inner", "outer", "ball"]
RATE = 12_000.0
JOB = Job(
    job=Task(name="rig"),
    signals=[Signal(name="vibration", unit="g", rate_hz=RATE)],
    window=Window(length=2048),
    features=Features(
        steps=["time_statistics", "log_spectrum", "envelope_spectrum"],
        envelope_band=[2000.0, 5000.0],
        envelope_top=600.0,
    ),
    labels=Labels(classes=FAULTS),
    model=Mlp(hidden=[16, 8]),
    learning=Learning(batch_size=16, learning_rate=0.01),
)


class Line:
    """An agent's intake of this job, its store and what scores."""

    def __init__(self, folder: Path, *sources: SourceOptions) -> None:
        clock = ManualClock()
        self.sources = sources
        self.scorer = Scorer(clock)
        self.store = WindowStore(
            folder / "w.sqlite", clock=clock, max_bytes=10**8, max_age_seconds=1e9
        )
        config = AgentConfig(agent=AgentSection(id="a"), sources=list(sources))
        self.intake = Intake(JOB, config, self.store, self.scorer, Journal())

    def read(self) -> None:
        """Take in everything that the sources deliver."""
        for source in self.sources:
            for event in kind_of(source).read(source, self.intake.tags(source.name), RATE):
                self.intake.accept(SourceEvent(source.name, event))


@pytest.fixture
def lines() -> Iterator[list[Line]]:
    """Lines whose stores are closed."""
    made: list[Line] = []
    yield made
    for line in made:
        line.store.close()


def rigs(split: Any, seed: int, seconds: float) -> list[SourceOptions]:
    """One recording of each fault."""
    return [
        RigOptions(
            name=f"{split}-{fault}", fault=fault, split=split, seed=seed + i, seconds=seconds
        )
        for i, fault in enumerate(FAULTS)
    ]


class TestFeatures:
    def test_replay_is_what_the_agent_said(
        self, lines: list[Line], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A recording scored live, stored, and replayed with the exported model."""
        values = np.random.default_rng(0).normal(size=2048 * 6 + 700) * np.linspace(1, 5, 12_988)
        savemat(tmp_path / "r.mat", {"vibration": values})
        source = make_source(tmp_path / "r.mat", None, ["split=train", "label=ball"])
        line = Line(tmp_path, source)
        lines.append(line)
        versions = Versions(JOB)
        versions.advance(seed=1)
        template, vector = versions.architecture.template, versions.newest.vector
        line.scorer.swap("v", OnnxSession.from_template(template, vector))
        line.read()
        (tmp_path / "m.onnx").write_bytes(self_contained(template, vector))

        schema = read_schema(OnnxSession.from_file(tmp_path / "m.onnx").metadata)
        again = [window.values for window in read_windows(source, schema)]
        stored = line.store.load("train", task="classification").inputs
        assert stored.shape == (7, len(JOB.channels), 1)
        assert stored.tobytes() == np.stack(again).tobytes()

        said = line.store.predictions()
        command = ["replay", str(tmp_path / "r.mat"), "--model", str(tmp_path / "m.onnx"), "--json"]
        assert main(command) == 0
        replayed = [msgspec.json.decode(text) for text in capsys.readouterr().out.splitlines()]
        outputs = np.stack([each.outputs for each in sorted(said, key=lambda p: p.end_ns)])
        versions.architecture.model.load(vector)
        np.testing.assert_allclose(outputs, versions.architecture.model.predict(stored), rtol=1e-4)
        assert [each["class"] for each in replayed] == [FAULTS[i] for i in outputs.argmax(1)]
        shares = np.exp(outputs - outputs.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        told = [each["probability"] for each in replayed]
        np.testing.assert_allclose(told, shares.max(1), rtol=1e-4)
        assert np.ptp(told) > 0.01

    def test_they_tell_faults_apart(self, lines: list[Line], tmp_path: Path) -> None:
        """A small network on 40 numbers of each window learns the rig's faults from 10 s each."""
        line = Line(tmp_path, *rigs("train", 0, 10.0), *rigs("test", 50, 3.0))
        lines.append(line)
        line.read()
        train = line.store.load("train", task="classification")
        test = line.store.load("test", task="classification")
        assert train.inputs.shape[1:] == (40, 1)
        [score] = fit_and_score(JOB, train, {"a": test}, agents=1)
        assert score.metrics["accuracy"] > 0.95
