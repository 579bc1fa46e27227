# SPDX-License-Identifier: Apache-2.0
"""Versions are calibrated beside the work, a little at a time."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.agent.kit import LENGTH, a_job
from tests.agent.sweeping import SweepBench

from fedmill_agent.sources.base import LabelInterval
from fedmill_agent.store.portions import WINDOWS
from fedmill_agent.sweep import AGAIN_SECONDS, BUDGET_SECONDS, LOOK_SECONDS
from fedmill_agent.uncertainty.certainty import MOST_WINDOWS, Certainty
from fedmill_agent.uncertainty.temperature import LEAST_WINDOWS
from fedmill_shared.signals.windows import Window

OUTPUT = np.array([[3.0, 0.0]], np.float32)


class Bench(SweepBench):
    """The model says the mean of each window against zero."""

    job = a_job()

    def outputs(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits (n, 2)."""
        means = values.mean(axis=(1, 2))
        return np.stack([means, np.zeros_like(means)], axis=1)

    def certainty(self) -> Certainty:
        """As after a restart."""
        return Certainty(
            self.job,
            self.store,
            self.folder,
            lambda: self.version,
            self.run,
            clock=self.clock,
            log=self.journal,
        )

    def add(self, count: int, run: str = "r", label: str = "good") -> None:
        """Validation windows of one run with their label."""
        generator = np.random.default_rng(len(run))
        values = generator.normal(1.0, 2.0, (count, 1, LENGTH)).astype(np.float32)
        self.store.add(
            [Window(run, "m", 8 * n, 8 * n + 7, each, 1.0, n) for n, each in enumerate(values)],
            "validation",
        )
        self.store.add_labels([LabelInterval(run, 0, 8 * count, label)])

    @property
    def calibrated(self) -> int:
        """How often a version was calibrated."""
        return len(self.journal.of("certainty.calibrated"))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """An empty store."""
    with Bench.opened(tmp_path) as made:
        yield made


class TestCalibrating:
    def test_without_validation_windows_nothing_is_claimed(self, bench: Bench) -> None:
        """The confidence is the plain softmax; no class is ruled out, and no model is asked."""
        certainty = bench.certainty()
        for _ in range(20):
            certainty.tick()
            bench.clock.advance(1.0)
        [said] = certainty.describe("v1", OUTPUT)
        assert said.confidence == pytest.approx(1 / (1 + np.exp(-3.0)))
        assert said.plausible is None
        assert bench.batches == []

    def test_before_the_first_version_nothing_is_done(self, bench: Bench) -> None:
        """There is nothing to calibrate."""
        bench.add(60)
        bench.version = ""
        bench.certainty().tick()
        assert bench.batches == []

    def test_the_labelled_windows_calibrate_the_version_that_serves(self, bench: Bench) -> None:
        """Each is scored once; then a prediction says which classes are plausible."""
        bench.add(60)
        bench.add(40, "other", "worn")
        certainty = bench.certainty()
        certainty.tick()
        assert sum(bench.batches) == 100
        assert max(bench.batches) <= WINDOWS
        [said] = certainty.describe("v1", OUTPUT)
        assert said.plausible is not None
        assert certainty.describe("v2", OUTPUT)[0].plausible is None

    def test_labels_that_come_later_count(self, bench: Bench) -> None:
        """It is looked again while there are too few."""
        bench.add(LEAST_WINDOWS - 1)
        certainty = bench.certainty()
        certainty.tick()
        assert bench.calibrated == 0
        bench.add(1, "late", "worn")
        certainty.tick()
        assert bench.calibrated == 0, "it was looked just now"
        bench.clock.advance(LOOK_SECONDS)
        certainty.tick()
        assert bench.calibrated == 1

    def test_a_pass_holds_the_loop_no_longer_than_its_budget(self, bench: Bench) -> None:
        """And one portion; between two of them other work is done."""
        bench.add(1000)
        bench.seconds = 0.7 * BUDGET_SECONDS
        certainty, ticks = bench.certainty(), 0
        while not bench.calibrated:
            before = bench.clock.monotonic()
            certainty.tick()
            ticks += 1
            assert bench.clock.monotonic() - before <= BUDGET_SECONDS + bench.seconds + 1e-6
        assert sum(bench.batches) == 1000
        assert ticks == 1000 // (2 * WINDOWS) + 1

    def test_of_many_windows_some_are_taken_evenly(self, bench: Bench) -> None:
        """Of each run about as many as it has a share of."""
        bench.add(MOST_WINDOWS, "a")
        bench.add(MOST_WINDOWS, "b" * 3, "worn")
        bench.certainty().tick()
        assert sum(bench.batches) == MOST_WINDOWS
        chosen = bench.store.labelled_windows("validation", most=1000)
        assert chosen.texts.count("good") == chosen.texts.count("worn") == 500

    def test_a_model_that_fails_is_told_and_left_alone(self, bench: Bench) -> None:
        """Nothing is claimed of it; it is tried again much later."""
        bench.add(60)
        bench.fails = True
        certainty = bench.certainty()
        for _ in range(5):
            certainty.tick()
            bench.clock.advance(1.0)
        assert len(bench.journal.of("certainty.failed")) == 1
        bench.fails = False
        bench.clock.advance(AGAIN_SECONDS)
        certainty.tick()
        assert bench.calibrated == 1


class TestChanges:
    def test_a_new_version_is_calibrated_at_once(self, bench: Bench) -> None:
        """And a pass for the one before is given up."""
        bench.add(1000)
        bench.seconds = BUDGET_SECONDS
        certainty = bench.certainty()
        certainty.tick()
        bench.version, bench.seconds = "v2", 0.0
        certainty.tick()
        assert [each["version"] for each in bench.journal.of("certainty.calibrated")] == ["v2"]
        assert certainty.calibration("v1") is None

    def test_going_back_to_a_version_needs_no_pass(self, bench: Bench) -> None:
        """What is known of it is still there."""
        bench.add(60)
        certainty = bench.certainty()
        for version in ("v1", "v2", "v1"):
            bench.version = version
            certainty.tick()
            bench.clock.advance(1.0)
        assert bench.calibrated == 2

    def test_new_validation_windows_count_in_their_time(self, bench: Bench) -> None:
        """They come all day; meanwhile what was known is said."""
        bench.add(60)
        certainty = bench.certainty()
        certainty.tick()
        first = certainty.calibration("v1")
        bench.add(60, "more", "worn")
        for _ in range(10):
            bench.clock.advance(AGAIN_SECONDS / 20)
            certainty.tick()
            assert certainty.calibration("v1") == first
        bench.clock.advance(AGAIN_SECONDS)
        certainty.tick()
        again = certainty.calibration("v1")
        assert again is not None
        assert (bench.calibrated, again.windows) == (2, 120)

    def test_a_restart_computes_nothing_again(self, bench: Bench) -> None:
        """What is said after it is what was said before."""
        bench.add(60)
        certainty = bench.certainty()
        certainty.tick()
        before, bench.batches = certainty.describe("v1", OUTPUT), []
        again = bench.certainty()
        assert again.describe("v1", OUTPUT) == before
        for _ in range(100):
            again.tick()
            bench.clock.advance(10.0)
        assert bench.batches == []

    def test_what_has_changed_before_a_restart_waits(self, bench: Bench) -> None:
        """A start has other things to do; some minutes later it is looked at."""
        bench.add(60)
        bench.certainty().tick()
        bench.add(60, "more", "worn")
        again = bench.certainty()
        again.tick()
        assert bench.calibrated == 1
        bench.clock.advance(AGAIN_SECONDS)
        again.tick()
        assert bench.calibrated == 2


class TestPortions:
    def test_values_are_those_of_load(self, bench: Bench) -> None:
        """Bit for bit, with the same truth in the same order."""
        bench.add(10)
        bench.add(5, "other", "worn")
        whole = bench.store.load("validation", task="classification")
        chosen = bench.store.labelled_windows("validation", task="classification", most=100)
        there, values = bench.store.values(chosen.ids)
        assert there == chosen.ids
        np.testing.assert_array_equal(values, whole.inputs)
        assert chosen.texts == whole.texts

    def test_windows_that_are_gone_are_left_out(self, bench: Bench) -> None:
        """The store gives windows up at any time."""
        bench.add(3)
        chosen = bench.store.labelled_windows("validation", most=100)
        there, values = bench.store.values([chosen.ids[2], 999, chosen.ids[0]])
        assert there == [chosen.ids[2], chosen.ids[0]]
        assert len(values) == 2

    def test_an_empty_store(self, bench: Bench) -> None:
        """It has none to choose from."""
        assert len(bench.store.labelled_windows("validation", most=100)) == 0
        assert bench.store.values([])[0] == []
