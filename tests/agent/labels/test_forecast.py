# SPDX-License-Identifier: Apache-2.0
"""Jobs that foretell a signal label themselves, from the stream and nothing else."""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.agent.kit import Journal

from fedmill_agent.config import AgentConfig, AgentSection
from fedmill_agent.inference.scorer import Scorer
from fedmill_agent.intake import Intake
from fedmill_agent.labels.forecast import MOST_RUNS, Forecaster
from fedmill_agent.sources.base import Event, LabelInterval, RunEnded, Samples
from fedmill_agent.sources.csv import CsvOptions
from fedmill_agent.sources.runner import SourceEvent
from fedmill_agent.store.joining import joining_of
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.clock import ManualClock
from fedmill_shared.job import Job, Labels, Signal, Task, Window
from fedmill_shared.signals.windows import Windower

LENGTH, STRIDE, AHEAD = 4, 2, 3
SECOND = 10**9
NAN = float("nan")

Found = dict[tuple[str, int], float]


def a_job(*, unit: str = "degC", pad: str = "none", **signal: Any) -> Job:
    """Foretells the heat of the oven three samples ahead; 1 Hz."""
    return Job(
        job=Task(name="oven", task="regression"),
        signals=[Signal(name="force", unit="N"), Signal(name="heat", unit="degC", **signal)],
        window=Window(length=LENGTH, stride=STRIDE, pad=pad),
        labels=Labels(source="forecast", signal="heat", horizon_seconds=float(AHEAD), unit=unit),
    )


def samples(values: Iterable[float], *, start: int = 0, run: str = "oven") -> Samples:
    """``values`` are the heat, from second ``start`` on."""
    heat = np.array(list(values), np.float64)
    return Samples(run, "oven", start * SECOND, SECOND, np.stack([np.zeros_like(heat), heat]))


def told(job: Job, *events: Event, units: dict[str, str] | None = None) -> Found:
    """Run and end (s) of each window that the store has a target for."""
    with TemporaryDirectory() as folder:
        clock = ManualClock()
        source = CsvOptions(name="s", path="unread.csv", split="train", units=units or {})
        with WindowStore(
            Path(folder, "w"),
            clock=clock,
            max_bytes=1 << 24,
            max_age_seconds=1e9,
            joining=joining_of(job.labels),
        ) as store:
            config = AgentConfig(agent=AgentSection(id="a"), sources=[source])
            intake = Intake(job, config, store, Scorer(clock), Journal())
            for event in events:
                intake.accept(SourceEvent("s", event))
            data = store.load("train", task="regression")
            keys = zip(data.runs, (data.end_ns // SECOND).tolist(), strict=True)
            return dict(zip(keys, data.numbers.tolist(), strict=True))


def expected(stretches: list[tuple[str, int, list[float]]]) -> Found:
    """The definition: windows of each unbroken stretch, and the value after each."""
    found = {}
    for run, start, values in stretches:
        for first in range(0, len(values) - LENGTH + 1, STRIDE):
            last = first + LENGTH - 1
            if last + AHEAD < len(values):
                found[run, start + last] = values[last + AHEAD]
    return found


class TestClosedForm:
    def test_the_value_after_the_window(self) -> None:
        """A ramp: what comes three seconds later is three more."""
        found = told(a_job(), samples(range(12)), RunEnded("oven"))
        assert found == {("oven", end): end + 3.0 for end in (3, 5, 7)}

    def test_in_the_unit_of_the_label(self) -> None:
        """From the source's unit to the signal's to the label's."""
        values = [32.0 + 18.0 * n for n in range(7)]  # degF: 0, 10, 20 ... degC
        found = told(a_job(unit="K"), samples(values), units={"heat": "degF"})
        assert found == {("oven", 3): pytest.approx(333.15, abs=1e-4)}

    @settings(max_examples=60)
    @given(
        st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 14), st.booleans()), max_size=5),
        st.data(),
    )
    def test_pieces_make_no_difference(
        self, stretches: list[tuple[str, int, bool]], data: st.DataObject
    ) -> None:
        """Runs, gaps and any division of the samples, with some of them sent twice."""
        events: list[Event] = []
        whole: list[tuple[str, int, list[float]]] = []
        now = 0
        for run, count, repeat in stretches:
            now += 10  # a gap, also where the run goes on
            values = [float(now + n) for n in range(count)]
            whole.append((run, now, values))
            cuts = data.draw(st.lists(st.integers(0, count), max_size=4))
            edges = sorted({0, *cuts, count})
            for first, last in pairwise(edges):
                begin = max(0, first - 2) if repeat else first
                events.append(samples(values[begin:last], start=now + begin, run=run))
            now += count
        assert told(a_job(), *events) == expected(whole)


class TestOnlyGood:
    def test_never_across_a_gap_or_a_run(self) -> None:
        """The last windows before it have no value."""
        found = told(a_job(), samples(range(6)), samples(range(12), start=20))
        assert found == expected([("oven", 0, [0.0] * 6), ("oven", 20, [*map(float, range(12))])])
        two = told(
            a_job(), samples(range(6)), RunEnded("oven"), samples(range(6), run="b", start=6)
        )
        assert two == {}

    @pytest.mark.parametrize("bad", [NAN, 1e300, 900.0])
    def test_never_from_what_is_missing_or_implausible(self, bad: float) -> None:
        """Sample 8 spoils what window 5 should have said; its neighbours stay."""
        values = [*range(8), bad, *range(9, 12)]
        found = told(a_job(range=[-10.0, 500.0]), samples(values))
        assert ("oven", 5) not in found
        assert found[("oven", 3)] == 6.0

    def test_never_from_a_stuck_signal(self) -> None:
        """Equal for three samples and more; the first two of them could not be told."""
        values = [0, 1, 2, 3, 4, 5, 6, 6, 6, 6, 7, 8, 9]
        job = a_job(flat_seconds=2.0)
        whole = told(job, samples(values))
        pieces = [samples([value], start=n) for n, value in enumerate(values)]
        assert whole == told(job, *pieces) == {("oven", 3): 6.0, ("oven", 7): 7.0}
        assert told(a_job(), samples(values))[("oven", 5)] == 6.0

    def test_a_padded_beginning_counts_as_the_window_does(self) -> None:
        """The first window ends on the first sample."""
        found = told(a_job(pad="edge"), samples(range(7)))
        assert found == {("oven", end): end + 3.0 for end in (0, 2)}

    def test_labels_of_others_are_no_truth(self) -> None:
        """Whatever a source says."""
        label = LabelInterval("oven", 0, 99 * SECOND, start_value=7.0, end_value=7.0)
        assert told(a_job(), samples(range(5)), label) == {}


class TestBounds:
    def test_runs_are_forgotten_as_the_windower_forgets_them(self) -> None:
        """Parts that never end by themselves."""
        forecaster = Forecaster(a_job(), Windower(LENGTH, STRIDE))
        values = np.zeros((2, 5), np.float32)
        for n in range(3 * MOST_RUNS):
            forecaster.push(f"part {n}", "oven", 0, SECOND, values)
        assert len(forecaster._runs) == MOST_RUNS
        assert forecaster.taken() == []
