# SPDX-License-Identifier: Apache-2.0
"""Which labels a job can use, and what the windows of a job that counts down make of events."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.agent.kit import Journal

from fedmill_agent.config import AgentConfig, AgentSection
from fedmill_agent.inference.scorer import Scorer
from fedmill_agent.intake import MOST_TEXTS, Intake
from fedmill_agent.labels.decode import Decoded
from fedmill_agent.labels.desk import LabelDesk
from fedmill_agent.labels.record import Label, LabelRecord, settled
from fedmill_agent.labels.suited import refusal
from fedmill_agent.store.joining import joining_of
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.clock import ManualClock
from fedmill_shared.job import Job, Labels, Signal, Task, Window
from fedmill_shared.signals.windows import Window as StoredWindow

HOUR = 3600 * 10**9


def a_job(*, task: str = "regression", **labels: Any) -> Job:
    """A job with these labels."""
    return Job(
        job=Task(name="pump", task=task),
        signals=[Signal(name="heat")],
        window=Window(length=2),
        labels=Labels(**labels),
    )


CLASSES = a_job(task="classification", classes=["good", "worn"])
NUMBERS = a_job()
FORECAST = a_job(source="forecast", signal="heat", horizon_seconds=1.0)
ITSELF = a_job(task="reconstruction")
EVENTS = a_job(source="event", unit="h")
FAILURES = a_job(source="event", unit="h", events=["failed", "replaced"])


def label(**fields: Any) -> LabelRecord:
    """A label of the pump at hour 10."""
    usual: dict[str, Any] = {"unit": "pump", "start": 36_000, "made": 36_000}
    return settled(Label(**(usual | fields)), "a test")


class TestRefusal:
    @pytest.mark.parametrize(
        ("job", "fields", "told"),
        [
            (CLASSES, {"class_": "good"}, ""),
            (CLASSES, {"class_": "torn"}, "'torn' is none of the job's classes: good, worn"),
            (CLASSES, {"value": 3.0}, "3 is a number, and the job learns classes"),
            (NUMBERS, {"value": 3.0}, ""),
            (NUMBERS, {"class_": "good"}, "'good' is a class, and the job learns a number"),
            (FORECAST, {"value": 3.0}, "the job foretells a signal and takes no labels"),
            (ITSELF, {"class_": "x"}, "the job reconstructs its input and takes no labels"),
            (EVENTS, {"class_": "anything"}, ""),
            (EVENTS, {"value": 3.0}, ""),
            (EVENTS, {"class_": "x", "part": "p", "start": None}, "an event needs a time"),
            (FAILURES, {"class_": "failed"}, ""),
            (FAILURES, {"class_": "x"}, "'x' is none of the job's events: failed, replaced"),
            (FAILURES, {"value": 3.0}, "'3' is none of the job's events: failed, replaced"),
        ],
    )  # fmt: skip
    def test_in_words(self, job: Job, fields: dict[str, Any], told: str) -> None:
        """What is said, and what the job wants."""
        assert refusal(job, label(**fields)) == told

    @pytest.mark.parametrize("job", [CLASSES, NUMBERS, FORECAST, ITSELF, EVENTS, FAILURES])
    def test_a_withdrawal_suits_everybody(self, job: Job) -> None:
        """It says nothing that could be wrong."""
        assert refusal(job, label(deleted=True)) == ""


class Pump:
    """A job with a store and a desk; a window ends at every full hour from 1 to 12."""

    def __init__(self, folder: Path, job: Job) -> None:
        clock, config = ManualClock(), AgentConfig(agent=AgentSection(id="a", state=str(folder)))
        self.desk = LabelDesk(config, clock, Journal())
        self.store = WindowStore(
            folder / "w",
            clock=clock,
            max_bytes=1 << 24,
            max_age_seconds=1e9,
            joining=joining_of(job.labels),
        )
        self.journal = Journal()
        self.intake = Intake(job, config, self.store, Scorer(clock), self.journal)
        values = np.zeros((1, 2), np.float32)
        self.store.add(
            [
                StoredWindow("pump", "pump", (n - 1) * HOUR, n * HOUR, values, 1.0, n)
                for n in range(1, 13)
            ],
            "train",
        )

    def say(self, *records: LabelRecord) -> None:
        """Labels come, and the job takes them over."""
        self.desk.take(Decoded(list(records)), "a test")
        self.intake.follow(self.desk)

    def lives(self) -> dict[int, float]:
        """Hour -> hours to go."""
        data = self.store.load("train", task="regression")
        return dict(zip((data.end_ns // HOUR).tolist(), data.numbers.tolist(), strict=True))


@pytest.fixture
def pump(tmp_path: Path) -> Any:
    """Makes them, and closes them."""
    made: list[Pump] = []

    def make(job: Job) -> Pump:
        made.append(Pump(tmp_path / str(len(made)), job))
        return made[-1]

    yield make
    for each in made:
        each.store.close()
        each.desk.close()


class TestEvents:
    def test_windows_count_down(self, pump: Callable[[Job], Pump]) -> None:
        """To the failure at hour 10; what came after it still runs."""
        one = pump(FAILURES)
        one.say(label(class_="failed"), label(class_="oiled", start=18_000))
        assert one.lives() == {hour: 10.0 - hour for hour in range(1, 11)}
        assert one.store.label_report().refused == 1

    def test_an_event_that_is_corrected_or_withdrawn(self, pump: Callable[[Job], Pump]) -> None:
        """All lives that it had ended change."""
        one = pump(FAILURES)
        one.say(label(id="f", class_="failed"))
        one.say(label(id="f", class_="failed", start=7_200, revision=1))
        assert one.lives() == {1: 1.0, 2: 0.0}
        one.say(label(id="f", deleted=True, revision=1))
        assert one.lives() == {}

    def test_an_event_is_about_all_before_it(self, pump: Callable[[Job], Pump]) -> None:
        """It is never without a window."""
        one = pump(EVENTS)
        one.say(label(class_="failed"))
        report = one.store.label_report()
        assert (report.labelled, report.without_window, report.highest) == (10, 0, 9.0)


class TestFollow:
    def test_refused_labels_are_told_once_and_bounded(self, pump: Callable[[Job], Pump]) -> None:
        """However many different ones there are."""
        one = pump(CLASSES)
        one.say(*(label(class_=f"wrong {n}", start=n) for n in range(MOST_TEXTS + 50)))
        assert len(one.journal.of("label.refused")) <= MOST_TEXTS + 1
        assert len(one.intake.refused_labels) <= MOST_TEXTS + 1
        assert one.intake.refused_labels.total() == MOST_TEXTS + 50

    def test_what_comes_twice_is_taken_once(self, pump: Callable[[Job], Pump]) -> None:
        """Nothing new costs nothing."""
        one = pump(CLASSES)
        one.say(label(class_="good"))
        before = one.store.generation()
        one.say(label(class_="good"))
        assert one.store.generation() == before
