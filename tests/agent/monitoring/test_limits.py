# SPDX-License-Identifier: Apache-2.0
"""Scores of a job without labels are told over the agent's own limit, found beside the work."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray
from tests.agent.kit import LENGTH, Journal, a_job
from tests.agent.sweeping import SweepBench

from fedmill_agent.inference.scorer import Scorer
from fedmill_agent.known import KEPT
from fedmill_agent.monitoring.known import FILE, KnownLimits, Limit
from fedmill_agent.monitoring.limits import MOST_RUNS, MOST_WINDOWS, Limits, Smoothing
from fedmill_agent.store.portions import WINDOWS
from fedmill_agent.sweep import AGAIN_SECONDS, BUDGET_SECONDS, LOOK_SECONDS
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import StoreError
from fedmill_shared.job import Autoencoder, Job, Labels, Monitoring, Task
from fedmill_shared.monitoring.limits import empirical_limit
from fedmill_shared.signals.windows import Window


def job_of(**monitoring: object) -> Job:
    """A reconstruction of the kit's signals."""
    return replace(
        a_job(),
        job=Task(name="watch", task="reconstruction"),
        labels=Labels(),
        model=Autoencoder(hidden=[], bottleneck=2),
        monitoring=Monitoring(**monitoring),
    )


def windows(count: int, run: str = "r", first: int = 0) -> list[Window]:
    """Windows of one run: the first sample of each is its number."""
    found = []
    for n in range(first, first + count):
        values = np.full((1, LENGTH), n, np.float32)
        found.append(Window(run, "m", 8 * n, 8 * n + 7, values, 1.0, n))
    return found


class Bench(SweepBench):
    """The score of a window is its first sample."""

    def outputs(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores (n, 1)."""
        return values[:, 0, :1].copy()

    def limits(self, **monitoring: object) -> Limits:
        """As after a restart."""
        return Limits(
            job_of(**monitoring),
            self.store,
            self.folder,
            lambda: self.version,
            self.run,
            clock=self.clock,
            log=self.journal,
        )

    def add(self, count: int, run: str = "r", first: int = 0) -> None:
        """Validation windows."""
        self.store.add(windows(count, run, first), "validation")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """An empty store."""
    with Bench.opened(tmp_path) as made:
        yield made


def said(limits: Limits, score: float, version: str = "v1") -> float:
    """What is told of one window."""
    [told] = limits.relative(version, windows(1), np.array([[score]], np.float32))
    return float(told[0])


class TestFinding:
    def test_without_validation_windows_the_score_is_the_models(self, bench: Bench) -> None:
        """No limit is made up, and no model is asked."""
        limits = bench.limits()
        limits.tick()
        assert said(limits, 3.5) == 3.5
        assert bench.batches == []

    def test_too_few_say_nothing(self, bench: Bench) -> None:
        """The job says how many it takes."""
        bench.add(29)
        limits = bench.limits()
        limits.tick()
        assert limits.limit("v1") is None
        bench.add(1, first=29)
        limits.tick()
        assert limits.limit("v1") is None  # it is not looked every second
        bench.clock.advance(LOOK_SECONDS)
        limits.tick()
        assert limits.limit("v1") == Limit(29.0, 30, bench.store.generation("validation"))

    def test_what_is_no_number_tells_no_limit(self, bench: Bench) -> None:
        """Of such windows nothing is learned; the others are enough or they are not."""
        bench.add(33)
        plain = bench.run

        def run(values: NDArray[np.float32]) -> NDArray[np.float32]:
            scores = plain(values)
            scores[scores >= 30.0] = np.nan
            return scores

        bench.run = run  # type: ignore[method-assign]
        limits = bench.limits(least_windows=31)
        limits.tick()
        assert limits.limit("v1") is None
        limits = bench.limits()
        limits.tick()
        assert limits.limit("v1") == Limit(29.0, 30, bench.store.generation("validation"))

    def test_one_is_the_limit(self, bench: Bench) -> None:
        """Of 200 scores 0 to 199 the limit of 1 % false alarms is 198; each is scored once."""
        bench.add(200)
        limits = bench.limits()
        limits.tick()
        assert said(limits, 198.0) == 1.0
        assert said(limits, 99.0) == pytest.approx(0.5)
        assert sum(bench.batches) == 200
        assert max(bench.batches) <= WINDOWS
        [found] = bench.journal.of("limit.found")
        assert (found["windows"], found["limit"]) == (200, 198.0)

    def test_share_and_margin_are_the_jobs(self, bench: Bench) -> None:
        """A tenth of the normal windows may lie above it, or the limit may be twice as far."""
        bench.add(199)
        limits = bench.limits(false_alarms=0.1, margin=2.0)
        limits.tick()
        found = limits.limit("v1")
        assert found is not None
        assert found.value == empirical_limit(np.arange(199.0), 0.1, 2.0) == 2 * 179

    def test_a_model_that_makes_no_error(self, bench: Bench) -> None:
        """Whatever is more than nothing is far above its limit, and nothing is divided by zero."""
        bench.store.add([w for n in range(40) for w in windows(1, f"r{n}")], "validation")
        limits = bench.limits()
        limits.tick()
        assert said(limits, 0.0) == 0.0
        assert said(limits, 0.1) > 1e9

    def test_the_newest_count(self, bench: Bench) -> None:
        """Of a full store the last ones, in bounded work."""
        bench.add(MOST_WINDOWS + 500)
        limits = bench.limits()
        limits.tick()
        found = limits.limit("v1")
        assert found is not None
        assert found.windows == sum(bench.batches) == MOST_WINDOWS

    def test_a_slow_model_is_asked_a_little_each_second(self, bench: Bench) -> None:
        """The daemon's loop is never held for longer than the budget and one portion."""
        bench.seconds = 0.7 * BUDGET_SECONDS
        bench.add(6 * WINDOWS)
        limits = bench.limits()
        limits.tick()
        assert len(bench.batches) == 2
        for _ in range(2):
            limits.tick()
        assert limits.limit("v1") is not None

    def test_another_version_ends_a_pass(self, bench: Bench) -> None:
        """What was scored with the old one is forgotten.

        Until there is a new limit, the old one is nearer than none.
        """
        bench.add(3 * WINDOWS)
        limits = bench.limits()
        limits.tick()
        bench.seconds, bench.version = BUDGET_SECONDS, "v2"
        limits.tick()
        assert limits.limit("v2") is None
        assert said(limits, 95.0, "v2") == 1.0
        bench.version = "v3"
        for _ in range(3):
            limits.tick()
        assert limits.limit("v2") is None
        assert limits.limit("v3") is not None

    def test_new_windows_move_the_limit_in_time(self, bench: Bench) -> None:
        """Not with each of them: every few minutes."""
        bench.add(50)
        limits = bench.limits()
        limits.tick()
        bench.add(50, first=50)
        limits.tick()
        assert said(limits, 49.0) == 1.0
        bench.clock.advance(AGAIN_SECONDS)
        limits.tick()
        assert said(limits, 99.0) == 1.0

    def test_a_model_that_fails_is_told_and_tried_later(self, bench: Bench) -> None:
        """Scoring goes on."""
        bench.add(50)
        bench.fails = True
        limits = bench.limits()
        limits.tick()
        limits.tick()
        assert len(bench.journal.of("limit.failed")) == 1
        assert said(limits, 2.0) == 2.0
        bench.fails = False
        bench.clock.advance(AGAIN_SECONDS)
        limits.tick()
        assert limits.limit("v1") is not None


class TestKept:
    def test_a_restart_scores_nothing_again(self, bench: Bench) -> None:
        """The limit of the version is on disk."""
        bench.add(50)
        bench.limits().tick()
        asked = len(bench.batches)
        again = bench.limits()
        again.tick()
        assert said(again, 49.0) == 1.0
        assert len(bench.batches) == asked

    def test_the_last_versions_are_kept(self, tmp_path: Path) -> None:
        """Those that may be gone back to."""
        known = KnownLimits(tmp_path / FILE)
        for n in range(KEPT + 2):
            known.put(f"v{n}", Limit(1.0 + n, 30, n))
        again = KnownLimits(tmp_path / FILE)
        assert again.get("v1") is None
        assert again.get("v2") == Limit(3.0, 30, 2)
        assert again.newest() == Limit(2.0 + KEPT, 30, KEPT + 1)

    @pytest.mark.parametrize("data", [b"", b"\xc1", b"\x81\xa8versions\x01", bytes(1 << 17)])
    def test_a_damaged_file_is_none(self, tmp_path: Path, data: bytes) -> None:
        """It is made again."""
        (tmp_path / FILE).write_bytes(data)
        assert KnownLimits(tmp_path / FILE).newest() is None

    def test_a_limit_that_is_none_is_not_believed(self, tmp_path: Path) -> None:
        """Nothing is divided by zero."""
        KnownLimits(tmp_path / FILE).put("v1", Limit(0.0, 30, 1))
        assert KnownLimits(tmp_path / FILE).get("v1") is None

    def test_a_full_disk_is_told(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        """The limit counts until the restart."""

        def full(_path: Path, _data: bytes) -> None:
            raise StoreError("no space left")

        monkeypatch.setattr("fedmill_agent.sealed.write_atomic", full)
        bench.add(50)
        limits = bench.limits()
        limits.tick()
        assert said(limits, 49.0) == 1.0
        assert len(bench.journal.of("limit.not_kept")) == 1


class TestSmoothing:
    def test_means_of_each_run_by_itself(self) -> None:
        """The last three of one run; another run between them changes nothing."""
        smoothing = Smoothing(3)
        mixed = [windows(1, run)[0] for run in ("a", "b", "a", "a", "a")]
        found = smoothing.means(mixed, np.array([3.0, 100.0, 6.0, 9.0, 0.0]))
        assert found.tolist() == [3.0, 100.0, 4.5, 6.0, 5.0]
        assert smoothing.means(windows(1, "a"), np.array([3.0])).tolist() == [4.0]

    def test_runs_without_end(self) -> None:
        """Only so many are remembered."""
        smoothing = Smoothing(2)
        smoothing.means([windows(1, f"r{n}")[0] for n in range(200)], np.zeros(200))
        assert len(smoothing.runs) == MOST_RUNS

    def test_what_is_no_number_is_in_no_mean(self) -> None:
        """It is told as it is; the windows behind it are judged as if it had not been."""
        smoothing = Smoothing(3)
        found = smoothing.means(windows(4), np.array([3.0, np.nan, np.inf, 5.0]))
        assert found[[0, 2, 3]].tolist() == [3.0, np.inf, 4.0]
        assert np.isnan(found[1])

    def test_the_limit_is_that_of_smoothed_scores(self, bench: Bench) -> None:
        """Runs in order of time, whatever the order they were stored in."""
        bench.add(50, "later", 50)
        bench.add(50, "earlier")
        limits = bench.limits(smooth=5)
        limits.tick()
        found = limits.limit("v1")
        assert found is not None
        assert found.value == np.mean([95, 96, 97, 98, 99])

    def test_another_version_begins_anew(self, bench: Bench) -> None:
        """Its scores are on another scale."""
        limits = bench.limits(smooth=2)
        assert [said(limits, 4.0), said(limits, 2.0)] == [4.0, 3.0]
        assert said(limits, 8.0, "v2") == 8.0


class TestScorer:
    def test_people_and_alarms_hear_what_is_relative(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Predictions and ``told`` are over the limit; whoever compares models sees the output."""
        scorer = Scorer(ManualClock(), Journal())
        seen = []
        scorer.observe(seen.append)
        scorer.relate(lambda _version, _windows, outputs: outputs / 4)
        monkeypatch.setattr(scorer, "_runtime", _Runtime())
        [prediction] = scorer.score(windows(1, first=8))
        assert prediction.outputs.tolist() == [2.0]
        assert seen[0].told.tolist() == [[2.0]]
        assert seen[0].outputs.tolist() == [[8.0]]


class _Runtime:
    """Gives the first sample of each window."""

    def infer(
        self, values: list[NDArray[np.float32]], *, features: bool
    ) -> tuple[NDArray[np.float32], None]:
        """Scores, and no features."""
        assert features
        return np.stack(values)[:, 0, :1], None
