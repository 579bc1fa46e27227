# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from tests.agent.kit import LENGTH, Journal, Versions

from fedmill_agent.inference.scored import Describe, Scored
from fedmill_agent.inference.scorer import TOLD_SECONDS, Scorer
from fedmill_agent.uncertainty.calibration import Sureness
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import ModelError, StoreError
from fedmill_shared.onnx_session import OnnxSession
from fedmill_shared.signals.windows import Window


def windows(count: int, length: int = LENGTH) -> list[Window]:
    """Windows with random values."""
    values = np.random.default_rng(0).normal(size=(count, 1, length)).astype(np.float32)
    return [Window("run", "unit", n, n + 7, value, 1.0, n) for n, value in enumerate(values)]


class TestScore:
    def test_nothing_before_the_first_version(self) -> None:
        """Windows pass unscored."""
        scorer = Scorer(ManualClock())
        assert scorer.score(windows(3)) == []
        assert (scorer.scored, scorer.version) == (0, "")

    def test_outputs_are_those_of_the_model(self) -> None:
        """One prediction for each window, with run, end, version and time; torch agrees."""
        versions, clock = Versions(), ManualClock()
        scorer = Scorer(clock)
        session = OnnxSession.from_template(versions.architecture.template, versions.newest.vector)
        scorer.swap("v0", session)
        given = windows(5)
        found = scorer.score(given)
        versions.architecture.model.load(versions.newest.vector)
        expected = versions.architecture.model.predict(np.stack([w.values for w in given]))
        np.testing.assert_allclose([p.outputs for p in found], expected, atol=1e-5)
        assert [(p.run, p.end_ns, p.version) for p in found] == [
            ("run", n + 7, "v0") for n in range(5)
        ]
        assert {p.scored_ns for p in found} == {clock.now_ns()}
        assert scorer.scored == 5
        assert scorer.score([]) == []

    def test_windows_of_another_length_are_refused(self) -> None:
        """They are not counted as scored."""
        versions = Versions()
        scorer = Scorer(ManualClock())
        session = OnnxSession.from_template(versions.architecture.template, versions.newest.vector)
        scorer.swap("v0", session)
        with pytest.raises(ModelError, match="windows are float32"):
            scorer.score(windows(1, length=9))
        assert scorer.scored == 0


class TestObserve:
    """Those who watch the scoring."""

    def scorer(self, journal: Journal, clock: ManualClock) -> Scorer:
        """A scorer with a model."""
        versions = Versions()
        scorer = Scorer(clock, journal)
        session = OnnxSession.from_template(versions.architecture.template, versions.newest.vector)
        scorer.swap("v0", session)
        return scorer

    def test_each_batch_is_seen_by_all_in_their_order(self) -> None:
        """With the windows, what the model said of them, and by which version."""
        clock = ManualClock()
        scorer = self.scorer(Journal(), clock)
        seen: list[tuple[str, Scored]] = []
        scorer.observe(lambda scored: seen.append(("first", scored)))
        scorer.observe(lambda scored: seen.append(("second", scored)))
        given = windows(3)
        predictions = scorer.score(given)
        assert [name for name, _ in seen] == ["first", "second"]
        scored = seen[0][1]
        assert list(scored.windows) == given
        np.testing.assert_array_equal(scored.outputs, [p.outputs for p in predictions])
        assert (scored.version, scored.scored_ns) == ("v0", clock.now_ns())
        assert scored.features is not None
        assert scored.features.shape[0] == 3

    def test_one_that_fails_ends_no_scoring(self) -> None:
        """The others are called; it is told at most once a minute."""
        journal, clock = Journal(), ManualClock()
        scorer = self.scorer(journal, clock)
        seen: list[Scored] = []

        def fails(_: Scored) -> None:
            raise StoreError("the disk is full", remedy="free some space")

        scorer.observe(fails)
        scorer.observe(seen.append)
        for _ in range(3):
            assert len(scorer.score(windows(2))) == 2
        assert len(seen) == 3
        assert len(journal.of("observer.failed")) == 1
        clock.advance(TOLD_SECONDS)
        scorer.score(windows(2))
        assert len(journal.of("observer.failed")) == 2

    def test_nothing_is_seen_that_the_model_refuses(self) -> None:
        """The error is the caller's."""
        scorer = self.scorer(Journal(), ManualClock())
        seen: list[Scored] = []
        scorer.observe(seen.append)
        with pytest.raises(ModelError):
            scorer.score(windows(1, length=9))
        assert seen == []


class TestDescribe:
    """How sure each prediction is."""

    def scorer(self, describe: Describe | None, journal: Journal | None = None) -> Scorer:
        """A scorer with version 7 that asks ``describe``."""
        versions = Versions()
        scorer = Scorer(ManualClock(), journal or Journal())
        session = OnnxSession.from_template(versions.architecture.template, versions.newest.vector)
        scorer.swap("v7", session, number=7)
        scorer.describe(describe)
        return scorer

    def test_it_goes_with_the_prediction(self) -> None:
        """In the order of the windows, with what is known of the window itself."""
        seen: list[str] = []

        def describe(version: str, outputs: np.ndarray) -> list[Sureness]:
            seen.append(version)
            return [Sureness(0.1 * n, -n, n, (f"c{n}",)) for n in range(len(outputs))]

        found = self.scorer(describe).score(windows(3))
        assert seen == ["v7"]
        assert [(p.confidence, p.low, p.high, p.plausible) for p in found] == [
            (0.1 * n, -n, n, (f"c{n}",)) for n in range(3)
        ]
        assert [(p.unit, p.start_ns, p.good_share, p.number) for p in found] == [
            ("unit", n, 1.0, 7) for n in range(3)
        ]

    @pytest.mark.parametrize("asked", [True, False])
    def test_nothing_is_claimed_where_nothing_is_known(self, *, asked: bool) -> None:
        """Nobody was asked, or who was failed, which is told."""
        journal = Journal()

        def fails(version: str, outputs: np.ndarray) -> list[Sureness]:
            raise StoreError("the calibration is damaged")

        found = self.scorer(fails if asked else None, journal).score(windows(2))
        assert {(p.confidence, p.low, p.high, p.plausible) for p in found} == {(None,) * 4}
        assert len(journal.of("observer.failed")) == asked
