# SPDX-License-Identifier: Apache-2.0
"""Windows of a source that only scores are kept when asked for; people are told where drift is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from tests.agent.test_intake import LENGTH, Line, samples, source

from fedmill_agent.cli.drift_lines import drift_lines
from fedmill_agent.drift.told import Acted, ChartTold, DriftTold
from fedmill_agent.sources.base import LabelInterval
from fedmill_shared.job import Drift, Job, Labels, Signal, Task, Window

JOB = Job(
    job=Task(name="oven"),
    signals=[Signal(name="heat", unit="degC"), Signal(name="force", unit="N")],
    window=Window(length=LENGTH),
    labels=Labels(classes=["good", "burnt"]),
    drift=Drift(watch=["input"], on_alarm=["collect"]),
)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Any]:
    """An intake of one source that only scores."""
    made = Line(tmp_path, JOB, source(split="live"))
    yield made
    made.store.close()


def windows(count: int, first: int = 0) -> Any:
    """Samples of so many windows."""
    return samples(np.arange(count * LENGTH) % 7, start=first * LENGTH)


def test_so_many_and_no_more(line: Any) -> None:
    """As many as were asked for, with the labels that come for them."""
    line.feed(windows(3))
    assert line.store.counts()["train"] == 0
    line.intake.collect(2)
    assert line.intake.collecting == 2
    line.feed(windows(4, first=3), LabelInterval("run", 0, 100, "good"))
    assert line.intake.collecting == 0
    assert line.store.counts()["train"] == 2
    assert line.store.labelled("classification")["train"] == 2


def test_their_labels_come_after_a_restart(line: Any, tmp_path: Path) -> None:
    """Nothing is collected any more, and what was is worth something only with its labels."""
    line.intake.collect(2)
    line.feed(windows(4))
    line.store.close()
    again = Line(tmp_path, JOB, source(split="live"))
    again.feed(LabelInterval("run", 0, 100, "good"))
    assert again.store.labelled("classification")["train"] == 2
    again.store.close()


@pytest.mark.parametrize(
    "drift", [Drift(), Drift(watch=["input"], on_warning=[], on_alarm=["round"])]
)
def test_a_job_that_collects_nothing_keeps_no_labels(tmp_path: Path, drift: Drift) -> None:
    """Of windows that only score nothing is learned: their labels would lie there for ever."""
    made = Line(tmp_path, structs.replace(JOB, drift=drift), source(split="live"))
    made.feed(windows(3), LabelInterval("run", 0, 100, "good"))
    with made.store:
        assert made.store._read(lambda base: base.execute("SELECT * FROM labels").fetchall()) == []


def test_asking_twice_asks_for_the_larger_number(line: Any) -> None:
    """A warning and its alarm are one cause."""
    line.intake.collect(5)
    line.intake.collect(3)
    assert line.intake.collecting == 5


def test_people_are_told() -> None:
    """What is not quiet, what does not watch, and what was done."""
    told = DriftTold(
        standing="alarmed",
        waiting={"representation": "the model's graph tells no features"},
        charts=[
            ChartTold(chart="input-ewma", standing="quiet", statistic=1, warn=3, alarm=4),
            ChartTold(
                chart="input-ks",
                standing="alarmed",
                statistic=9,
                warn=3,
                alarm=4,
                column="heat mean",
                windows=700,
            ),
        ],
        acted=[Acted(action="round", at_ns=0, chart="input-ks", statistic=9, limit=4, windows=700)],
    )
    assert list(drift_lines(told)) == [
        "drift alarmed; 2 charts watch",
        "drift of representation: the model's graph tells no features",
        "alarmed: input-ks of heat mean 9, warning above 3, alarm above 4, 700 windows",
        "drift 1970-01-01T00:00:00.000Z: round for input-ks 9",
    ]
