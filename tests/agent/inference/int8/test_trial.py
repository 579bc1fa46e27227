# SPDX-License-Identifier: Apache-2.0
"""Int8 against float32 on windows of a real store, with a clock that says who is faster."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs
from tests.agent.inference.int8.stand import (
    LENGTH,
    MODEL,
    Shelf,
    a_convolving_job,
    form_of,
    session_of,
    values,
)
from tests.agent.kit import Versions

from fedmill_agent.inference.int8 import trial as module
from fedmill_agent.inference.int8.trial import PASS_SECONDS, Trial, compared
from fedmill_agent.inference.int8.windows import (
    FEWEST_WINDOWS,
    MOST_WINDOWS,
    OwnWindows,
)
from fedmill_agent.store.portions import WINDOWS
from fedmill_agent.store.ring import LEAST_BYTES
from fedmill_shared.errors import FrameError, ModelError
from fedmill_shared.models.quantised import REDUCED_LEVELS, Quantised, Scales
from fedmill_shared.onnx_session import OnnxSession


class Fake:
    """A session that takes its time, on a clock of its own."""

    def __init__(self, clock: list[float], seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self.batches: list[int] = []

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Outputs after some seconds."""
        self.batches.append(len(batch))
        self._clock[0] += self._seconds
        return np.zeros((len(batch), 2), np.float32)


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    """An empty store."""
    shelf = Shelf.open(tmp_path)
    yield shelf
    shelf.store.close()


@pytest.fixture
def versions() -> Versions:
    """A version whose classes depend on the windows."""
    versions = Versions(a_convolving_job())
    versions.advance(scale=0.6)
    return versions


def trial_of(
    versions: Versions, shelf: Shelf, *, form: Quantised | None = None, batch: int = 4
) -> Trial:
    """The trial of the newest version."""
    return Trial(
        versions.job,
        shelf.path,
        form or form_of(versions),
        versions.newest.vector,
        session_of(versions),
        batch,
    )


@pytest.fixture
def faster(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Int8 takes half the time here, whatever this machine says; batches it was measured at."""
    batches: list[int] = []

    def told(plain: object, int8: object, batch: np.ndarray, now: object) -> tuple[float, float]:
        batches.append(len(batch))
        return 1.0, 0.5

    monkeypatch.setattr(module, "compared", told)
    return batches


class TestWindows:
    def test_calibrate_and_judge_by_others(self, shelf: Shelf) -> None:
        """Of training windows without a truth every second one does either, evenly over time."""
        shelf.add(values(100))
        chosen = OwnWindows(a_convolving_job(), shelf.path)
        assert not chosen.labelled
        calibrating = np.concatenate(list(chosen.calibrating()))
        judging = np.concatenate([portion.inputs for portion in chosen.judging()])
        np.testing.assert_array_equal(calibrating, values(100)[0::2])
        np.testing.assert_array_equal(judging, values(100)[1::2])

    def test_judge_by_labelled_validation_windows(self, shelf: Shelf) -> None:
        """With their classes in the same order, once there are as many as the job wants."""
        job = a_convolving_job()
        shelf.add(values(50))
        shelf.add(values(job.serving.min_labels - 1, seed=1), "validation", "good")
        assert not OwnWindows(job, shelf.path).labelled
        shelf.add(values(3, seed=2), "validation", "worn")
        chosen = OwnWindows(job, shelf.path)
        assert chosen.labelled
        for portion in chosen.judging():
            assert len(portion.inputs) == len(portion.texts)
            for each, text in zip(portion.inputs, portion.texts, strict=True):
                good = any(np.array_equal(each, other) for other in values(19, seed=1))
                assert text == ("good" if good else "worn")

    def test_may_be_gone_before_they_are_read(self, shelf: Shelf) -> None:
        """The store has given them up meanwhile; that is told, and ends nothing."""
        shelf.add(values(100))
        chosen = OwnWindows(a_convolving_job(), shelf.path)
        shelf.store._database.execute("DELETE FROM windows")
        with pytest.raises(ModelError, match="windows to calibrate by are gone"):
            next(chosen.calibrating())

    def test_are_few_at_a_time(self, shelf: Shelf) -> None:
        """However many there are: memory is bounded, and so is the work."""
        shelf.add(values(3 * MOST_WINDOWS))
        found = list(OwnWindows(a_convolving_job(), shelf.path).calibrating())
        assert max(len(each) for each in found) <= WINDOWS
        assert sum(len(each) for each in found) == MOST_WINDOWS

    def test_some_go_meanwhile(self, tmp_path: Path) -> None:
        """The store is bounded: what has made room for newer ones is left out."""
        small = Shelf.open(tmp_path, max_bytes=LEAST_BYTES)
        small.add(values(80))
        chosen = OwnWindows(a_convolving_job(), small.path)
        portions = chosen.judging()
        assert len(next(portions).inputs) == WINDOWS
        small.add(values(LEAST_BYTES // (4 * LENGTH), seed=1))
        assert sum(len(portion.inputs) for portion in portions) == 0
        small.store.close()


class TestSpeed:
    def test_medians_of_both_in_turn(self) -> None:
        """Each pair in another order, by the same clock."""
        clock = [0.0]
        plain, int8 = Fake(clock, 0.002), Fake(clock, 0.001)
        found = compared(plain, int8, values(3), lambda: clock[0])  # type: ignore[arg-type]
        assert found == pytest.approx((2.0, 1.0))
        assert plain.batches == int8.batches
        assert set(plain.batches) == {3}

    def test_a_slow_model_is_not_run_for_ever(self) -> None:
        """Some pairs are enough."""
        clock = [0.0]
        plain, int8 = Fake(clock, 1.0), Fake(clock, 2.0)
        assert compared(plain, int8, values(1), lambda: clock[0]) == pytest.approx((1e3, 2e3))  # type: ignore[arg-type]
        assert len(plain.batches) < 10


class TestTrial:
    def test_a_slow_model_is_judged_by_fewer_windows(
        self, versions: Versions, shelf: Shelf, faster: list[int]
    ) -> None:
        """Evenly over all of them: installations wait for the same thread."""
        shelf.add(values(400))
        clock = [0.0]

        def now() -> float:
            clock[0] += 0.1
            return clock[0]

        outcome = replace(trial_of(versions, shelf), now=now).run()
        assert outcome.figures["windows"] == PASS_SECONDS / 0.1
        assert faster == [4]
        chosen = OwnWindows(versions.job, shelf.path)
        chosen.thin(50)
        judging = np.concatenate([portion.inputs for portion in chosen.judging()])
        np.testing.assert_array_equal(judging, values(400)[1::2][::4])

    def test_is_taken_where_it_is_faster_and_as_good(
        self, versions: Versions, shelf: Shelf, faster: list[int]
    ) -> None:
        """The session says nearly what float32 says; its limits hold what it was made from."""
        shelf.add(values(120))
        outcome = trial_of(versions, shelf).run()
        assert outcome.reason == ""
        assert outcome.session is not None
        plain = session_of(versions).run(values(120))
        difference = np.abs(outcome.session.run(values(120)) - plain)
        assert 0 < difference.max() < 0.1 * plain.std() + 0.02
        assert outcome.session.beyond == 0
        outcome.session.run(values(120, scale=3.0))
        assert outcome.session.beyond == 1
        assert outcome.figures["agreement"] >= 0.995
        assert outcome.figures["windows"] == 60
        assert faster == [4]

    def test_a_slow_one_is_not_even_judged(self, versions: Versions, shelf: Shelf) -> None:
        """On a machine without the instructions for it."""
        shelf.add(values(120))
        clock = [0.0]

        def now() -> float:
            clock[0] += 1.0
            return clock[0]

        trial = trial_of(versions, shelf)
        outcome = Trial(trial.job, trial.store, trial.form, trial.vector, trial.plain, 1, now).run()
        assert outcome.slow
        assert outcome.session is None
        assert "less than 10 % faster" in outcome.reason

    @pytest.mark.parametrize("count", [0, 2 * FEWEST_WINDOWS - 2])
    def test_too_few_windows(self, versions: Versions, shelf: Shelf, count: int) -> None:
        """They say nothing about what the machine does."""
        if count:
            shelf.add(values(count))
        outcome = trial_of(versions, shelf).run()
        assert outcome.early
        assert outcome.session is None

    @pytest.mark.usefixtures("faster")
    def test_errors_decide_where_the_truth_is_known(self, versions: Versions, shelf: Shelf) -> None:
        """Both errors are told."""
        shelf.add(values(100))
        said = session_of(versions).run(values(60, seed=5)).argmax(1)
        for place, name in enumerate(versions.job.labels.classes):
            chosen = values(60, seed=5)[said == place]
            if len(chosen):
                shelf.add(chosen, "validation", name)
        outcome = trial_of(versions, shelf).run()
        assert outcome.figures["plain_error"] == 0.0
        assert (outcome.session is not None) == (outcome.figures["int8_error"] <= 0.005)

    @pytest.mark.usefixtures("faster")
    def test_all_scales_are_tried(
        self, versions: Versions, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where 8-bit products saturate, weights of 7 bits are right."""
        shelf.add(values(120))
        tried: list[int] = []
        bind = module.bind

        def saturating(form: Quantised, vector: np.ndarray, scales: Scales) -> OnnxSession:
            tried.append(scales.levels)
            wrong = np.zeros_like(vector) if scales.levels > REDUCED_LEVELS else vector
            return bind(form, wrong, scales)

        monkeypatch.setattr(module, "bind", saturating)
        outcome = trial_of(versions, shelf).run()
        assert tried == [127, 127, REDUCED_LEVELS]
        assert outcome.session is not None
        assert outcome.figures["levels"] == REDUCED_LEVELS

    @pytest.mark.usefixtures("faster")
    def test_stale_weights_are_noticed(self, versions: Versions, shelf: Shelf) -> None:
        """An int8 session of another version's weights is never taken."""
        shelf.add(values(120))
        trial = trial_of(versions, shelf)
        old = trial.plain
        newer = Versions(versions.job)
        newer.advance(seed=1, scale=0.6)
        mixed = Trial(trial.job, trial.store, trial.form, newer.newest.vector, old, 4)
        outcome = mixed.run()
        assert outcome.session is None
        assert "differ" in outcome.reason
        fresh = Trial(
            trial.job, trial.store, trial.form, newer.newest.vector, session_of(newer), 4
        ).run()
        assert fresh.session is not None, "the same form with new weights gives their answers"

    def test_a_form_of_another_model_is_refused(self, versions: Versions, shelf: Shelf) -> None:
        """Its weights do not fit."""
        shelf.add(values(120))
        other = structs.replace(versions.job, model=structs.replace(MODEL, channels=[4]))
        with pytest.raises((ModelError, FrameError)):
            trial_of(versions, shelf, form=form_of(Versions(other))).run()
