# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from tests.agent.kit import Journal

from fedmill_agent.config import AgentConfig, AgentSection
from fedmill_agent.inference.options import InferenceSection
from fedmill_agent.inference.scorer import Scorer
from fedmill_agent.intake import MOST_TEXTS, Intake
from fedmill_agent.sources.base import Event, LabelInterval, RunEnded, Samples
from fedmill_agent.sources.csv import CsvOptions
from fedmill_agent.sources.runner import SourceEnded, SourceEvent
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import DataError, SchemaError, StoreError
from fedmill_shared.job import Evaluation, Job, Labels, Signal, Task, Window

LENGTH = 4
NAN = float("nan")
JOB = Job(
    job=Task(name="oven"),
    signals=[Signal(name="heat", unit="degC", tag="PLC.heat"), Signal(name="force", unit="N")],
    window=Window(length=LENGTH),
    labels=Labels(classes=["good", "burnt"]),
)
REGRESSION = Job(job=Task(name="oven", task="regression"), signals=JOB.signals, window=JOB.window)


def source(name: str = "s", **fields: Any) -> CsvOptions:
    """A source; nothing is read from its file."""
    return CsvOptions(name=name, path="unread.csv", **fields)


def samples(values: Any, *, run: str = "run", start: int = 0, unit: str = "oven-1") -> Samples:
    """Both signals with the same values, one sample a nanosecond."""
    row = np.array(values, np.float64)
    return Samples(run, unit, start, 1, np.stack([row, row]) if row.ndim == 1 else row)


PLAIN = InferenceSection()


class Session:
    """Stands in for a model: its output is its number and the window's first value."""

    outputs = 2
    features = None

    def __init__(self, number: float) -> None:
        self.number = number

    def bound(
        self, windows: np.ndarray, outputs: np.ndarray, features: None = None
    ) -> Callable[[], None]:
        """A call that writes the outputs where they are wanted."""

        def call() -> None:
            outputs[:] = self.run(windows)

        return call

    def run(self, windows: np.ndarray) -> np.ndarray:
        """Outputs (B, 2)."""
        return np.array([[self.number, window[0, 0]] for window in windows], np.float32)


class Line:
    """An intake with its store, scorer and log."""

    def __init__(
        self, folder: Path, job: Job, *sources: CsvOptions, inference: InferenceSection = PLAIN
    ) -> None:
        self.clock = clock = ManualClock()
        self.journal = Journal()
        self.scorer = Scorer(clock)
        self.store = WindowStore(
            folder / "w.sqlite", clock=clock, max_bytes=10**7, max_age_seconds=1e9
        )
        section = AgentSection(id="a")
        config = AgentConfig(agent=section, sources=list(sources), inference=inference)
        self.intake = Intake(job, config, self.store, self.scorer, self.journal)

    def feed(self, *events: Event, name: str = "s") -> None:
        """Let a source deliver."""
        for event in events:
            self.intake.accept(SourceEvent(name, event))


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Callable[..., Line]]:
    """Makes lines and closes their stores."""
    made: list[Line] = []

    def make(*sources: CsvOptions, job: Job = JOB, **inference: Any) -> Line:
        chosen = sources or [source(split="train")]
        settings = InferenceSection(**inference)
        made.append(Line(tmp_path / str(len(made)), job, *chosen, inference=settings))
        return made[-1]

    yield make
    for one in made:
        one.store.close()


class TestMapping:
    def test_units_are_converted(self, line: Callable[..., Line]) -> None:
        """212 degF is 100 degC, 1 kN is 1000 N; what is stored has the job's units."""
        made = line(source(split="train", units={"heat": "degF", "force": "kN"}))
        values = np.array([[212.0, 32.0, -40.0, 68.0], [1.0, 0.5, 0.0, -2.0]])
        made.feed(samples(values), LabelInterval("run", 0, 3, "good"))
        [stored] = made.store.load("train").inputs
        np.testing.assert_allclose(stored[0], [100.0, 0.0, -40.0, 20.0], atol=1e-5)
        np.testing.assert_allclose(stored[1], [1000.0, 500.0, 0.0, -2000.0])

    @pytest.mark.parametrize(
        ("fields", "told"),
        [
            ({"tags": {"heta": "T1"}}, "'s' maps signal 'heta'.*job 'oven'.*heat, force"),
            ({"units": {"speed": "rpm"}}, "'s' maps signal 'speed'"),
            ({"units": {"heat": "bar"}}, "source 's': .*bar.*degC"),
            ({"units": {"force": "furlong"}}, "source 's': .*furlong"),
        ],
    )
    def test_what_does_not_fit_is_refused(
        self, line: Callable[..., Line], fields: dict[str, Any], told: str
    ) -> None:
        """Before anything is read, naming source and signal or unit."""
        with pytest.raises(SchemaError, match=told):
            line(source(**fields))


class TestBacklog:
    """Where more waits, windows of several events are scored and stored together."""

    def take(self, made: Line, first: int, *, more: bool, handed: float | None = None) -> None:
        """One window comes."""
        values = np.full(LENGTH, float(first))
        event = SourceEvent("s", samples(values, start=first * LENGTH))
        made.intake.accept(event, handed=handed, more=more)

    def test_they_wait_for_each_other(self, line: Callable[..., Line]) -> None:
        """Until nothing more waits; then all are there, in their order."""
        made = line(source(split="train"))
        made.scorer.swap("v", Session(1.0))
        for n in range(3):
            self.take(made, n, more=True)
        assert made.store.prediction_count() == made.store.counts()["train"] == 0
        made.intake.settle()
        assert [p.outputs[1] for p in made.store.predictions()] == [0.0, 1.0, 2.0]
        assert made.store.counts()["train"] == 3
        made.intake.settle()
        assert made.scorer.scored == 3

    def test_a_full_batch_waits_no_longer(self, line: Callable[..., Line]) -> None:
        """However much is behind it."""
        made = line(batch=2)
        made.scorer.swap("v", Session(1.0))
        counts = []
        for n in range(5):
            self.take(made, n, more=True)
            counts.append(made.store.prediction_count())
        assert counts == [0, 2, 2, 4, 4]

    def test_what_cannot_be_kept_is_shown_all_the_same(
        self, line: Callable[..., Line], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who shows the newest prediction needs no disk for it."""
        made = line()
        made.scorer.swap("v", Session(1.0))

        def full(_: object) -> None:
            raise StoreError("the disk is full")

        monkeypatch.setattr(made.store, "add_predictions", full)
        for n in range(2):
            with pytest.raises(StoreError, match="full"):
                self.take(made, n, more=False)
            assert made.intake.newest is not None
            assert made.intake.newest.outputs[1] == n

    def test_the_end_of_a_source_settles(self, line: Callable[..., Line]) -> None:
        """Who looks then whether there is enough to learn from finds all windows."""
        made = line()
        self.take(made, 0, more=True)
        made.intake.accept(SourceEnded("s"), more=True)
        assert made.store.counts()["train"] == 1

    def test_what_is_too_late_is_learned_from_all_the_same(self, line: Callable[..., Line]) -> None:
        """It is not scored, and counted; learning has time."""
        made = line(source(split="train", speed=1.0), deadline_seconds=5.0)
        made.scorer.swap("v", Session(1.0))
        handed = made.clock.monotonic()
        made.clock.advance(6.0)
        self.take(made, 0, more=False, handed=handed)
        self.take(made, 1, more=False, handed=made.clock.monotonic())
        assert [p.outputs[1] for p in made.store.predictions()] == [1.0]
        assert made.store.counts()["train"] == 2
        assert made.intake.skipped_windows == 1
        assert len(made.journal.of("windows.skipped")) == 1

    def test_a_recording_that_is_replayed_at_once_is_never_late(
        self, line: Callable[..., Line]
    ) -> None:
        """Nobody waits for its present."""
        made = line(source(split="train"), deadline_seconds=5.0)
        made.scorer.swap("v", Session(1.0))
        made.clock.advance(6.0)
        self.take(made, 0, more=False, handed=0.0)
        assert made.scorer.scored == 1


class TestQuality:
    def test_nothing_good_is_only_counted(self, line: Callable[..., Line]) -> None:
        """Windows without a value are neither scored nor stored."""
        made = line()
        made.scorer.swap("v", Session(1.0))
        made.feed(samples([NAN] * 12), RunEnded("run"))
        assert made.intake.bad_windows == 3
        assert made.scorer.scored == 0
        assert sum(made.store.counts().values()) == 0
        assert made.store.predictions() == []

    def test_short_gaps_are_bridged(self, line: Callable[..., Line]) -> None:
        """Linearly, and in the signal that has one; a gap at the edge makes the window bad."""
        made = line()
        values = np.array([[0.0, NAN, NAN, 3.0, 4.0, 5.0, 6.0, NAN], [1.0] * 8])
        made.feed(samples(values), LabelInterval("run", 0, 7, "good"))
        [stored] = made.store.load("train").inputs
        assert stored.tolist() == [[0.0, 1.0, 2.0, 3.0], [1.0] * 4]
        assert made.intake.bad_windows == 1

    def test_a_value_beyond_float32_is_bad(self, line: Callable[..., Line]) -> None:
        """It is infinite to the model; that is no reason for a warning on every chunk."""
        made = line()
        made.feed(samples([1e300, 1.0, 2.0, 3.0]), samples([1.0, 2.0, 3.0, 4.0], start=4))
        assert made.intake.bad_windows == 1
        assert made.store.counts()["train"] == 1

    def test_data_that_makes_no_window_is_told_once(self, line: Callable[..., Line]) -> None:
        """A source that breaks its own rules does not end the daemon, nor the other source."""
        made = line(source("s", split="train"), source("t", split="train"))
        made.feed(samples([1.0] * 4))
        made.feed(*[samples([1.0] * 4, start=4 * n, unit="oven-2") for n in (1, 2, 3)])
        made.feed(samples([1.0] * 4, run="other"), name="t")
        assert made.store.counts()["train"] == 2
        [told] = made.journal.of("source.failed")
        assert told["source"] == "s"
        assert "oven-2" in told["error"]


class TestLabels:
    def test_foreign_classes_are_refused(self, line: Callable[..., Line]) -> None:
        """Counted by name, logged once each, and the others still count."""
        made = line()
        texts = ["burned", "burned", "good", "cold", "burned"]
        made.feed(samples(np.arange(20.0)))
        made.feed(*[LabelInterval("run", 4 * n, 4 * n + 3, text) for n, text in enumerate(texts)])
        assert made.intake.refused_labels == {"burned": 3, "cold": 1}
        assert [told["label"] for told in made.journal.of("label.refused")] == ["burned", "cold"]
        assert made.journal.of("label.refused")[0]["allowed"] == "good,burnt"
        assert made.store.load("train").texts == ["good"]

    def test_foreign_classes_without_end(self, line: Callable[..., Line]) -> None:
        """A source may tell a new one with every row: all are counted, some are told."""
        made = line()
        made.feed(*[LabelInterval("run", n, n, f"{n} " + "x" * 5000) for n in range(1100)])
        assert made.intake.refused_labels.total() == 1100
        assert len(made.intake.refused_labels) == MOST_TEXTS + 1
        assert max(map(len, made.intake.refused_labels)) == 200
        assert len(made.journal.of("label.refused")) == MOST_TEXTS + 1
        assert max(len(told["label"]) for told in made.journal.of("label.refused")) == 200

    def test_a_number_needs_no_class(self, line: Callable[..., Line]) -> None:
        """A regression takes numbers; a classification refuses them."""
        label = LabelInterval("run", 0, 3, start_value=9.0, end_value=6.0)
        made = line(job=REGRESSION)
        made.feed(samples(np.arange(4.0)), label)
        assert made.store.load("train", task="regression").numbers.tolist() == [6.0]
        other = line()
        other.feed(label)
        assert other.intake.refused_labels == {"": 1}

    def test_a_job_without_labels_leaves_them_alone(self, line: Callable[..., Line]) -> None:
        """They are no fault, and not stored; every window is learned from."""
        made = line(job=replace(JOB, job=Task(name="oven", task="reconstruction"), labels=Labels()))
        made.feed(samples(np.arange(8.0)), LabelInterval("run", 0, 3, "burned"))
        assert not made.intake.refused_labels
        assert not made.intake.complained
        assert made.store.label_report().recorded == 0
        assert len(made.store.load("train", task="reconstruction")) == 2

    def test_a_label_that_is_not_usable_is_told(self, line: Callable[..., Line]) -> None:
        """The store refuses it; the daemon lives on."""
        made = line()
        made.feed(LabelInterval("run", 5, 3, "good"))
        assert "not usable" in made.journal.of("source.failed")[0]["error"]


class TestSplits:
    def test_the_source_decides(self, line: Callable[..., Line]) -> None:
        """Live windows and labels are never stored, and scored like the others."""
        splits = ("train", "validation", "test", "live")
        made = line(*[source(split, split=split) for split in splits])
        made.scorer.swap("v", Session(1.0))
        for n, split in enumerate(splits):
            made.feed(samples([n] * 4, run=split), LabelInterval(split, 0, 3, "good"), name=split)
        assert made.store.counts() == {"train": 1, "validation": 1, "test": 1}
        assert [made.store.load(split).runs for split in splits[:3]] == [[s] for s in splits[:3]]
        assert made.scorer.scored == len(made.store.predictions()) == 4

    def test_the_job_decides_where_the_source_does_not(self, line: Callable[..., Line]) -> None:
        """By run: a whole run is on one side, with the shares of the job."""
        evaluation = Evaluation(split="run", validation=0.0, test=0.25)
        job = Job(
            job=JOB.job,
            signals=JOB.signals,
            window=JOB.window,
            labels=JOB.labels,
            evaluation=evaluation,
        )
        made = line(source(), job=job)
        for n in range(8):
            made.feed(samples(np.arange(8.0), run=f"run{n}"), RunEnded(f"run{n}"))
        assert made.store.counts() == {"train": 12, "validation": 0, "test": 4}

    def test_the_tail_of_a_run_counts(self, line: Callable[..., Line]) -> None:
        """Seven samples are a window, and the last four are another."""
        made = line()
        made.feed(samples(np.arange(7.0)), RunEnded("run"), RunEnded("never begun"))
        assert made.store.counts()["train"] == 2


class TestScoring:
    def test_no_window_is_dropped_across_a_swap(self, line: Callable[..., Line]) -> None:
        """Each window is scored once, by the session that was active; order is kept."""
        made = line(source(split="live"))
        made.feed(samples(np.arange(8.0)))  # before the first version nothing can be scored
        expected = []
        for version in range(1, 6):
            made.scorer.swap(f"v{version}", Session(float(version)))
            start = 8 * version
            made.feed(samples(np.arange(start, start + 8.0), start=start))
            expected += [(f"v{version}", [float(version), float(start + at)]) for at in (0, 4)]
        found = [(p.version, p.outputs.tolist()) for p in made.store.predictions()]
        assert found == expected
        assert made.scorer.scored == 10


class TestEnds:
    def test_replaying_until_recordings_have_ended(self, line: Callable[..., Line]) -> None:
        """Only those that are read as fast as possible, and once, are waited for."""
        made = line(source("a"), source("b", speed=1.0), source("c", repeat=True))
        assert made.intake.replaying
        made.intake.accept(SourceEnded("a"))
        assert not made.intake.replaying

    def test_exhausted_when_nothing_can_come(self, line: Callable[..., Line]) -> None:
        """Live and held-out sources bring no training window; a running one still may."""
        made = line(source("a"), source("b", split="live"), source("c", split="test"))
        assert not made.intake.exhausted
        made.intake.accept(SourceEnded("a"))
        assert made.intake.exhausted

    def test_failure_when_no_source_works(self, line: Callable[..., Line]) -> None:
        """One that works is enough; otherwise the first one's reason is told."""
        made = line(source("a"), source("b"))
        made.intake.accept(SourceEnded("a", DataError("a.csv: no such file")))
        assert made.intake.failure() is None
        made.intake.accept(SourceEnded("b", DataError("b.csv: no such file")))
        assert str(made.intake.failure()) == "a.csv: no such file"
        assert [told["source"] for told in made.journal.of("source.failed")] == ["a", "b"]

    def test_failure_without_sources(self, tmp_path: Path) -> None:
        """A configuration that reads nothing is told so."""
        made = Line(tmp_path, JOB)
        assert "no [[sources]]" in str(made.intake.failure())
        assert made.intake.exhausted
        made.store.close()
