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

    def __init__(self, folder: Path, *sources: SourceOptions, job: Job = JOB) -> None:
        clock = ManualClock()
        self.sources = sources
        self.scorer = Scorer(clock)
        self.store = WindowStore(
            folder / "w.sqlite", clock=clock, max_bytes=10**8, max_age_seconds=1e9
        )
        config = AgentConfig(agent=AgentSection(id="a"), sources=list(sources))
        self.job = job
        self.intake = Intake(job, config, self.store, self.scorer, Journal())

    def read(self) -> None:
        """Take in everything that the sources deliver."""
        for source in self.sources:
            for event in kind_of(source).read(
                source, self.intake.tags(source.name), self.job.rate_hz
            ):
                self.intake.accept(SourceEvent(source.name, event))

    def scored(self, path: Path) -> Versions:
        """Take in and score everything with a version of the job, which ``path`` gets whole."""
        versions = Versions(self.job)
        versions.advance(seed=1)
        template, vector = versions.architecture.template, versions.newest.vector
        self.scorer.swap("v", OnnxSession.from_template(template, vector))
        self.read()
        path.write_bytes(self_contained(template, vector))
        return versions


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
        versions = line.scored(tmp_path / "m.onnx")
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
        versions.architecture.model.load(versions.newest.vector)
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


FAN = Job(
    job=Task(name="fan"),
    signals=[
        Signal(name="vibration", unit="mm/s", rate_hz=1000.0),
        Signal(name="flap", unit="1", rate_hz=1000.0, range=[0.0, 10.0]),
        Signal(name="speed", unit="rpm", rate_hz=10.0),
    ],
    window=Window(
        length=1000,
        trigger="flap",
        trigger_level=5.0,
        trigger_hysteresis=1.0,
        trigger_before=50,
        order="speed",
        revolutions=8,
        per_revolution=32,
    ),
    features=Features(
        steps=["time_statistics", "log_spectrum", "envelope_spectrum"],
        bands=8,
        envelope_bands=4,
        envelope_top=4.0,
    ),
    labels=Labels(classes=["ok", "unbalanced"]),
    model=Mlp(hidden=[8, 8]),
    learning=Learning(batch_size=8, learning_rate=0.01),
)


def run_up(path: Path, amplitude: float, label: str) -> None:
    """A run-up from 600 to 1500 rpm within 30 s; the flap opens every 1.5 s, once by mistake."""
    rng, count = np.random.default_rng(3), 30_000
    hertz = np.linspace(10.0, 25.0, count)
    vibration = amplitude * np.sin(2 * np.pi * np.cumsum(hertz) / 1000)
    vibration += rng.normal(0.0, 0.1, count)
    lines = ["time,vibration,flap,speed,state"]
    for i in range(count):
        flap = -999.0 if i == 7300 else 9.0 * (i % 1500 > 700)
        speed = f"{60 * hertz[i]:.1f}" if i % 100 == 0 else ""
        lines.append(f"{i / 1000:.3f},{vibration[i]:.4f},{flap},{speed},{label}")
    path.write_text("\n".join(lines) + "\n")


class TestAllTogether:
    """Features of windows by angle that begin with an event, of signals with different rates."""

    def test_learned_from_scored_and_replayed(self, lines: list[Line], tmp_path: Path) -> None:
        """The same bits in the store, before the model and in what the exported one is shown."""
        told = ["time_column=time", "label_column=state"]
        sources = []
        for split in ("train", "test"):
            for amplitude, label in ((1.0, "ok"), (3.0, "unbalanced")):
                path = tmp_path / f"{label}-{split}.csv"
                run_up(path, amplitude, label)
                made = make_source(path, None, [*told, f"split={split}"])
                sources.append(msgspec.structs.replace(made, name=path.stem))
        line = Line(tmp_path, *sources, job=FAN)
        lines.append(line)
        line.scored(tmp_path / "m.onnx")
        schema = read_schema(OnnxSession.from_file(tmp_path / "m.onnx").metadata)

        train = line.store.load("train", task="classification")
        test = line.store.load("test", task="classification")
        again = [each.values for source in sources[:2] for each in read_windows(source, schema)]
        assert len(again) > 30
        assert sorted(each.tobytes() for each in train.inputs) == sorted(
            each.tobytes() for each in again
        )

        said = sorted((each.end_ns, each.outputs.tobytes()) for each in line.store.predictions())
        session = OnnxSession.from_file(tmp_path / "m.onnx")
        known = sorted(
            (each.end_ns, session.run(each.values[None])[0].tobytes())
            for source in sources
            for each in read_windows(source, schema)
        )
        assert said == known
        [score] = fit_and_score(FAN, train, {"a": test}, agents=1)
        assert score.metrics["accuracy"] > 0.95
