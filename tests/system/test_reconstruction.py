# SPDX-License-Identifier: Apache-2.0
"""Two plants without a single label learn together what their pumps look like."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from msgspec import json
from tests.system.fleet import Fleet, federation

from fedmill_coordinator.demo.recipes.plan import Plant
from fedmill_shared.job import (
    Autoencoder,
    Evaluation,
    Federation,
    Job,
    Learning,
    Signal,
    Task,
    Window,
)
from fedmill_shared.onnx_session import OnnxSession

pytestmark = [pytest.mark.system, pytest.mark.drill]

SIGNALS = ["pressure", "flow", "current"]
LENGTH = 8
RUNS = 10


def job() -> Job:
    """Three signals, of which 24 numbers go through 4."""
    return Job(
        job=Task(name="pumps", task="reconstruction"),
        signals=[Signal(name=name, rate_hz=10.0) for name in SIGNALS],
        window=Window(length=LENGTH),
        model=Autoencoder(hidden=[16], bottleneck=4),
        learning=Learning(learning_rate=0.01, batch_size=16, epochs=4),
        federation=Federation(rounds=6, minimum=2, deadline_seconds=10.0),
        evaluation=Evaluation(every=2),
    )


def pumps(seed: int, samples: int) -> np.ndarray:
    """Signals (3, samples) of a pump whose load drifts: all three follow it, and nothing else."""
    generator = np.random.default_rng(seed)
    load = np.convolve(generator.standard_normal(samples + 20), np.ones(20) / 20**0.5, "valid")
    follow = np.array([[1.0], [0.7], [-0.4]]) * load[:samples]
    noise = 0.05 * generator.standard_normal((3, samples))
    return np.array([[10.0], [40.0], [3.0]]) + follow + noise


def broken(seed: int, samples: int) -> np.ndarray:
    """The same, but the flow goes its own way, within its usual range."""
    values = pumps(seed, samples)
    values[1] = pumps(seed + 1000, samples)[1]
    return values


def write(path: Path, runs: dict[str, np.ndarray]) -> Path:
    """A recording of several runs."""
    lines = [f"run,{','.join(SIGNALS)}"]
    for run, values in runs.items():
        lines += [f"{run},{','.join(f'{value:.6f}' for value in row)}" for row in values.T]
    path.write_text("\n".join(lines) + "\n")
    return path


def a_plant(number: int, folder: Path) -> Plant:
    """An agent with ten runs of a healthy pump, and a stream of one that breaks."""
    runs = {f"day{n}": pumps(100 * number + n, 160) for n in range(RUNS)}
    live = {"healthy": pumps(number + 7, 160), "broken": broken(number + 7, 160)}
    return a_line(number, folder, runs, live)


def a_line(
    number: int, folder: Path, runs: dict[str, np.ndarray], live: dict[str, np.ndarray]
) -> Plant:
    """An agent with recordings ``runs``, and a stream that plays ``live`` again and again."""
    recorded = {
        "kind": "csv",
        "name": "line",
        "path": str(write(folder / f"line-{number}.csv", runs)),
        "run_column": "run",
        "rate_hz": 10.0,
    }
    stream = recorded | {
        "name": "live",
        "path": str(write(folder / f"live-{number}.csv", live)),
        "split": "live",
        "speed": 20.0,
        "repeat": True,
    }
    return Plant(f"agent-{number}", [recorded, stream])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two plants at the end of the job, still running."""
    folder = tmp_path_factory.mktemp("pumps")
    plants = [a_plant(number, folder) for number in (1, 2)]
    with federation(folder / "fleet", job(), plants) as fleet:
        fleet.finish()
        yield fleet


def held_out(fleet: Fleet) -> np.ndarray:
    """Test windows (windows, 3, 8) of all agents."""
    found = []
    for agent in fleet.agents:
        with fleet.windows(agent) as store:
            found.append(store.load("test", task="reconstruction").inputs)
    return np.concatenate(found)


def constant_error(fleet: Fleet) -> float:
    """Mean squared error, in the fleet's deviations, of a model that always says the mean."""
    train = []
    for agent in fleet.agents:
        with fleet.windows(agent) as store:
            train.append(store.load("train", task="reconstruction").inputs)
    pooled = np.concatenate(train)
    mean, scale = pooled.mean((0, 2), keepdims=True), pooled.std((0, 2), keepdims=True)
    return float((((held_out(fleet) - mean) / scale) ** 2).mean())


def scores(fleet: Fleet, agent: str, version: str, run: str) -> list[float]:
    """What the agent's model said of the live windows of one run."""
    with fleet.windows(agent) as store:
        return [
            float(each.outputs[0])
            for each in store.predictions(10_000)
            if each.version == version and run in each.run and len(each.outputs) == 1
        ]


class TestFleet:
    def test_every_window_is_learned_from(self, finished: Fleet) -> None:
        """Eight of ten runs of 20 windows train, two test; no source says a word of labels."""
        for agent in finished.agents:
            with finished.windows(agent) as store:
                assert store.counts() == {"train": 160, "validation": 0, "test": 40}
                assert store.labelled("classification")["train"] == 0
        for record in finished.rounds():
            updates = finished.store.updates(finished.job.name, record.round)
            assert [update.examples for update in updates] == [160, 160]

    def test_nobody_complained(self, finished: Fleet) -> None:
        """Statistics, rounds, evaluation and installation are those of any job."""
        for name in ("coordinator", *finished.agents):
            assert {event["level"] for event in finished.events(name)} == {"info"}

    def test_better_than_the_mean(self, finished: Fleet) -> None:
        """The tables show the error of held-out windows; a constant predictor has about 1."""
        command = ("fedmill_coordinator", "rounds", finished.layout.coordinator, "--json")
        rows = [row for row in json.decode(finished.run(*command).stdout) if row["metric"]]
        assert {row["metric"] for row in rows} == {"mse"}
        constant = constant_error(finished)
        assert 0.6 < constant < 1.6
        assert rows[-1]["value"] < 0.25 * constant
        assert rows[-1]["value"] < rows[0]["value"] or rows[0]["value"] < 0.1
        table = finished.run(*command[:-1]).stdout
        assert "mse" in table
        assert "accuracy" not in table

    def test_a_broken_correlation_scores_higher(self, finished: Fleet) -> None:
        """Live: the flow no longer follows the load, though it stays within its range."""
        version = finished.stable()
        for agent in finished.agents:
            finished.wait(
                f"live windows of {agent}",
                lambda agent=agent: (
                    min(len(scores(finished, agent, version, run)) for run in ("healthy", "broken"))
                    >= 10
                ),
            )
            healthy = scores(finished, agent, version, "healthy")
            assert np.median(scores(finished, agent, version, "broken")) > 3 * np.median(healthy)

    def test_status_shows_a_number_without_a_unit(self, finished: Fleet) -> None:
        """As a regression in unit 1; nothing is said of labels, of which there are none."""
        config = finished.layout.agents[finished.agents[0]]
        told = json.decode(finished.run("fedmill_agent", "status", config, "--json").stdout)
        newest = told["predictions"]["pumps"]["last"][-1]
        assert newest["unit"] == "1"
        assert newest["value"] >= 0
        assert "labelled" not in finished.run("fedmill_agent", "status", config).stdout

    def test_the_exported_model_gives_the_error(self, finished: Fleet, tmp_path: Path) -> None:
        """One ONNX file for any tool: raw windows in, one number for each out."""
        path = tmp_path / "pumps.onnx"
        ended = finished.run(
            "fedmill_coordinator", "models", "export", finished.layout.coordinator, path
        )
        assert ended.returncode == 0, ended.stderr
        errors = OnnxSession.from_file(path).run(held_out(finished))
        assert errors.shape == (80, 1)
        metric = [
            row
            for row in json.decode(
                finished.run(
                    "fedmill_coordinator", "rounds", finished.layout.coordinator, "--json"
                ).stdout
            )
            if row["metric"]
        ][-1]
        assert float(errors.mean()) == pytest.approx(metric["value"], rel=1e-4)
        recording = write(tmp_path / "new.csv", {"a": pumps(5, 80), "b": broken(5, 80)})
        ended = finished.run(
            "fedmill_agent",
            "replay",
            recording,
            *("--model", path, "--set", "run_column=run", "--json"),
        )
        rows = [json.decode(line) for line in ended.stdout.splitlines()]
        assert len(rows) == 20, ended.stderr
        assert {row["unit"] for row in rows} == {"1"}
        by_run = {run: [row["value"] for row in rows if run in row["run"]] for run in ("a", "b")}
        assert np.median(by_run["b"]) > 3 * np.median(by_run["a"])
