# SPDX-License-Identifier: Apache-2.0
"""A whole agent whose source changes: what it notices, tells, keeps and does about it."""

import numpy as np
import pytest
from msgspec import structs
from tests.agent.kit import LENGTH
from tests.agent.whole import JOB, Agent, Plant, joined, write_csv

from fedmill_agent.cli.drift_lines import drift_lines
from fedmill_agent.sources.base import Samples
from fedmill_agent.sources.csv import CsvOptions
from fedmill_agent.sources.runner import SourceEvent
from fedmill_shared.job import Drift, Job

SECOND = 10**9
WATCHED = structs.replace(
    JOB,
    drift=Drift(
        watch=["input", "output", "representation"],
        reference_windows=100,
        block_windows=20,
        on_warning=[],
        on_alarm=["collect", "round", "recalibrate"],
        collect_windows=60,
    ),
)


def values(seed: int, windows: int, shift: float = 0.0) -> list[float]:
    """Noise; ``shift`` moves it by so many deviations."""
    made = np.random.default_rng(seed).normal(shift, 1.0, windows * LENGTH)
    return made.round(4).tolist()


def feed(agent: Agent, first: int, made: list[float]) -> None:
    """Samples of a source that only scores, from the number ``first`` on."""
    row = np.array([made])
    event = SourceEvent("now", Samples("now", "now", first * SECOND, SECOND, row))
    agent.seat()._work.intake.accept(event)


def begun(plant: Plant, job: Job) -> Agent:
    """An agent that has learned from its recordings, and watches."""
    recording = plant.recording(**{"good-1": values(1, 120), "worn-1": values(2, 30)})
    path = write_csv(plant.folder / "now.csv", {"before": values(3, 1)})
    live = CsvOptions(name="now", path=str(path), run_column="run", split="live")
    agent, _ = joined(plant, recording, live, job=job)
    feed(agent, 0, values(4, 1))
    agent.run(40)
    feed(agent, LENGTH, values(5, 199))
    agent.until(lambda: not agent.seat().drift().waiting, "every signal watches")
    return agent


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_from_a_shift_to_a_recalibrated_model(plant: Plant) -> None:
    """Wish, windows and model: each once; status says so, and a restart remembers it."""
    agent = begun(plant, WATCHED)
    told = agent.seat().drift()
    assert told is not None
    assert told.standing != "alarmed"
    stored = agent.seat()._work.store.counts()["train"]
    before = agent.seat()._work.scorer.version
    feed(agent, 200 * LENGTH, values(5, 120, shift=4.0))
    agent.run(40)
    (wish,) = plant.said("wish")
    assert (wish.kind, "input" in wish.reason) == ("round", True)
    assert agent.seat()._work.store.counts()["train"] == stored + 60
    agent.until(lambda: agent.seat()._work.scorer.version != before, "recalibrated")
    assert {"recalibrated"} <= {str(e.get("origin")) for e in agent.journal.of("install.state")}
    status = agent.status()
    lines = list(drift_lines(status.drift["press"]))
    assert any("recalibrate for input" in line for line in lines)
    plant.stop(agent)
    again = plant.agent(*agent.daemon._config.sources)
    assert [done.action for done in again.seat().drift().acted] == [
        "collect",
        "round",
        "recalibrate",
    ]


def test_a_job_that_watches_nothing_has_no_watch(plant: Plant) -> None:
    """And says nothing of drift."""
    agent, _ = joined(plant)
    assert agent.seat().drift() is None
    assert agent.status().drift == {}
