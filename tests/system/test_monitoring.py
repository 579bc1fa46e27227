# SPDX-License-Identifier: Apache-2.0
"""Two plants without labels agree on principal components in one round, as if all rows were one's.

Everything on the way is real: statistics, updates, the coordinator's mean, templates, installation,
limits from the agents' own validation windows.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from msgspec import json
from tests.system.fleet import Fleet, federation
from tests.system.test_reconstruction import SIGNALS, a_line

from fedmill_coordinator.demo.recipes.plan import Plant
from fedmill_shared.job import Job
from fedmill_shared.job_check import decode_job
from fedmill_shared.models import build, manifest_of
from fedmill_shared.models.manifest import Manifest
from fedmill_shared.monitoring import Components, box_limit, fit, of_rows, t2_limit
from fedmill_shared.monitoring.inputs import contributions, rows_of
from fedmill_shared.monitoring.version import read
from fedmill_shared.onnx_session import OnnxSession

pytestmark = pytest.mark.system

RUNS = 10
SAMPLES = {1: 160, 2: 320}
TURN = 20
"""Live windows of a healthy pump, which come again and again."""
TEXT = """
[job]
name = "pumps"
task = "reconstruction"
[[signals]]
name = "pressure"
rate_hz = 10.0
[[signals]]
name = "flow"
rate_hz = 10.0
[[signals]]
name = "current"
rate_hz = 10.0
[window]
length = 8
[model]
architecture = "pca"
explained = 0.8
[federation]
deadline_seconds = 20.0
[evaluation]
validation = 0.2
test = 0.2
[monitoring]
false_alarms = 0.02
[[alarms]]
name = "abnormal"
above = 1.0
"""


def pumps(seed: int, samples: int) -> np.ndarray:
    """Signals (3, samples) of a pump whose load drifts, with noise of half its deviation."""
    generator = np.random.default_rng(seed)
    load = np.convolve(generator.standard_normal(samples + 20), np.ones(20) / 20**0.5, "valid")
    follow = np.array([[1.0], [0.7], [-0.4]]) * load[:samples]
    noise = 0.5 * generator.standard_normal((3, samples))
    return np.array([[10.0], [40.0], [3.0]]) + follow + noise


def blocked(seed: int, samples: int) -> np.ndarray:
    """The same with a flow that is far too low."""
    return pumps(seed, samples) - np.array([[0.0], [5.0], [0.0]])


def a_plant(number: int, folder: Path) -> Plant:
    """An agent with ten runs of a healthy pump, and a stream of one that clogs."""
    runs = {f"day{n}": pumps(100 * number + n, SAMPLES[number]) for n in range(RUNS)}
    live = {"healthy": pumps(number + 7, 160), "blocked": blocked(number + 7, 160)}
    return a_line(number, folder, runs, live)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two plants at the end of the job, still running."""
    folder = tmp_path_factory.mktemp("monitoring")
    plants = [a_plant(number, folder) for number in SAMPLES]
    with federation(folder / "fleet", the_job(), plants) as fleet:
        fleet.finish()
        yield fleet


def the_job() -> Job:
    """As its file says, with what such a model leaves out."""
    return decode_job(TEXT, "pumps.toml")


def windows(fleet: Fleet, split: str) -> np.ndarray:
    """Windows (n, 3, 8) of all agents."""
    found = []
    for agent in fleet.agents:
        with fleet.windows(agent) as store:
            found.append(store.load(split, task="reconstruction").inputs)
    return np.concatenate(found)


def served(fleet: Fleet) -> tuple[Manifest, np.ndarray]:
    """The version that agents have installed, from the shelf of one of them."""
    [path] = sorted(fleet.state("agent-1").glob(f"**/{fleet.stable()}*"))[:1]
    return manifest_of(build(fleet.job, 0)), np.fromfile(path, "<f4")


def pooled(fleet: Fleet) -> tuple[Components, np.ndarray]:
    """What numpy makes of all training windows in one place, and all held-out ones as rows."""
    train, test = (
        windows(fleet, split).astype(np.float64).reshape(-1, 24) for split in ("train", "test")
    )
    return fit(of_rows(train), explained=0.8), test


def apart(found: np.ndarray, expected: np.ndarray) -> float:
    """Length of the difference over that of what is expected."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


class TestFederation:
    def test_one_round_over_every_window(self, finished: Fleet) -> None:
        """Six of ten runs train; a plant with twice the windows counts twice."""
        [record] = finished.rounds()
        updates = finished.store.updates(finished.job.name, record.round)
        assert sorted(update.examples for update in updates) == [120, 240]

    def test_nobody_complained(self, finished: Fleet) -> None:
        """Statistics, the round, evaluation and installation are those of any job."""
        for name in ("coordinator", *finished.agents):
            told = [each for each in finished.events(name) if each["event"] != "alarm.raised"]
            assert {event["level"] for event in told} == {"info"}

    def test_t2_and_q_are_those_of_all_windows_in_one_place(self, finished: Fleet) -> None:
        """Of windows nobody trained on, to 1e-6; so are the limits."""
        manifest, vector = served(finished)
        monitor, (expected, rows) = read(manifest, vector), pooled(finished)
        assert monitor.kept == expected.kept
        left = expected.eigenvalues[expected.kept :]
        limits = (t2_limit(expected.kept, 0.01, 360), box_limit(left, 0.01))
        assert monitor.limits == pytest.approx(limits, rel=1e-6)
        mine = rows_of(finished.job, manifest, vector, windows(finished, "test"))
        t2, q = (monitor.distances(mine) * np.array(monitor.limits)).T
        assert apart(t2, expected.t2(rows)) < 1e-6
        assert apart(q, expected.q(rows)) < 1e-6

    def test_the_exported_model_gives_the_larger_over_its_limit(
        self, finished: Fleet, tmp_path: Path
    ) -> None:
        """One ONNX file for any tool: raw windows in, 1.0 at the limit."""
        path = tmp_path / "pumps.onnx"
        command = ("fedmill_coordinator", "models", "export", finished.layout.coordinator, path)
        ended = finished.run(*command)
        assert ended.returncode == 0, ended.stderr
        found = OnnxSession.from_file(path).run(windows(finished, "test"))[:, 0]
        expected, rows = pooled(finished)
        left = expected.eigenvalues[expected.kept :]
        t2 = expected.t2(rows) / t2_limit(expected.kept, 0.01, 360)
        assert apart(found, np.maximum(t2, expected.q(rows) / box_limit(left, 0.01))) < 1e-5


class TestAgents:
    def test_each_agent_has_a_limit_of_its_own(self, finished: Fleet) -> None:
        """From its validation windows: two runs of 20, or of 40."""
        version = finished.stable()[:12]
        for agent, count in zip(finished.agents, (40, 80), strict=True):
            finished.wait(
                f"limit of {agent}",
                lambda agent=agent: bool(finished.events(agent, "limit.found", version=version)),
            )
            [found] = finished.events(agent, "limit.found", version=version)
            assert int(found["windows"]) == count

    def test_a_blocked_pump_is_above_one(self, finished: Fleet) -> None:
        """Live windows are told over that limit; a healthy pump stays below it."""
        for agent in finished.agents:
            finished.wait(
                f"live windows of {agent}",
                lambda agent=agent: (
                    min(len(scores(finished, agent, run)) for run in ("healthy", "blocked")) >= 10
                ),
            )
            assert np.median(scores(finished, agent, "healthy")) < 0.8
            assert np.median(scores(finished, agent, "blocked")) > 1.5

    def test_scores_are_over_that_limit(self, finished: Fleet) -> None:
        """What is told of a window is what the model says of it over the agent's own limit."""
        manifest, vector = served(finished)
        version = finished.stable()[:12]
        for number, agent in enumerate(finished.agents, start=1):
            live = pumps(number + 7, 160).reshape(3, -1, 8).swapaxes(0, 1).astype(np.float32)
            rows = rows_of(finished.job, manifest, vector, live)
            said = read(manifest, vector).distances(rows).max(1)
            [found] = finished.events(agent, "limit.found", version=version)
            expected = pytest.approx(np.sort(said / float(found["limit"])), rel=1e-3)
            finished.wait(
                f"scores of {agent}",
                lambda agent=agent, expected=expected: (
                    sorted(scores(finished, agent, "healthy")[-TURN:]) == expected
                ),
            )

    def test_people_hear_of_it(self, finished: Fleet) -> None:
        """Each agent raises the job's alarm for its live pump, and names the signal."""
        for agent in finished.agents:
            finished.wait(
                f"alarm of {agent}",
                lambda agent=agent: bool(finished.events(agent, "alarm.raised")),
            )
            raised = finished.events(agent, "alarm.raised")
            assert {each["alarm"] for each in raised} == {"abnormal"}
            assert any("flow carries" in each["cause"] for each in raised)

    def test_the_signal_is_named(self, finished: Fleet) -> None:
        """Without asking the model again."""
        manifest, vector = served(finished)
        clogged = np.array([blocked(9, 8)], np.float32)
        [told] = contributions(finished.job, manifest, vector, clogged)
        assert told[0][0] == SIGNALS[1]
        assert told[0][1] > 0.5

    def test_status_and_tables_show_the_score(self, finished: Fleet) -> None:
        """A number in unit 1, and its mean over held-out windows."""
        config = finished.layout.agents[finished.agents[0]]
        told = json.decode(finished.run("fedmill_agent", "status", config, "--json").stdout)
        assert told["predictions"]["pumps"]["last"][-1]["unit"] == "1"
        command = ("fedmill_coordinator", "rounds", finished.layout.coordinator, "--json")
        rows = json.decode(finished.run(*command).stdout)
        assert 0.1 < rows[-1]["value"] < 1.0


def scores(fleet: Fleet, agent: str, run: str) -> list[float]:
    """What was told of the live windows of one run."""
    version = fleet.stable()
    with fleet.windows(agent) as store:
        return [
            float(each.outputs[0])
            for each in store.predictions(10_000)
            if each.version == version and run in each.run
        ]
