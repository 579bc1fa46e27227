# SPDX-License-Identifier: Apache-2.0
"""From labelled windows to what is said of a new prediction."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from tests.agent.kit import a_job

from fedmill_agent.known import KEPT
from fedmill_agent.probabilities import probabilities
from fedmill_agent.uncertainty.calibration import (
    COVERAGE,
    NOTHING,
    Calibration,
    calibrate,
    describe,
)
from fedmill_agent.uncertainty.known import Known
from fedmill_agent.uncertainty.residual import Widths
from fedmill_agent.uncertainty.temperature import LEAST_WINDOWS
from fedmill_shared.errors import StoreError

CLASSES = a_job()
NUMBER = a_job(task="regression")
SURE = np.array([[4.0, 0.0], [0.0, 1.0]], np.float32)


def logits(count: int, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """What a model that is four times too sure says, and the truth."""
    generator = np.random.default_rng(seed)
    honest = generator.normal(0, 2, (count, 2))
    true = (honest + generator.gumbel(size=honest.shape)).argmax(axis=1)
    return (4 * honest).astype(np.float32), [CLASSES.labels.classes[each] for each in true]


def made(generation: int = 7) -> Calibration:
    """A calibration of many windows."""
    outputs, texts = logits(2000)
    found = calibrate(CLASSES, outputs, texts, np.full(2000, np.nan), generation)
    assert found is not None
    return found


class TestClasses:
    def test_without_a_calibration_it_is_the_plain_softmax(self) -> None:
        """And no class is ruled out or in."""
        first, second = describe(CLASSES, SURE, None)
        assert first.confidence == pytest.approx(1 / (1 + math.exp(-4)))
        assert second.confidence == pytest.approx(1 / (1 + math.exp(-1)))
        assert first.plausible is first.low is first.high is None

    def test_with_one_the_confidence_is_what_it_says(self) -> None:
        """Of windows with about 70 % about 70 % are right."""
        calibration = made()
        outputs, texts = logits(20_000, seed=1)
        said = np.array([each.confidence for each in describe(CLASSES, outputs, calibration)])
        right = np.array(CLASSES.labels.classes)[outputs.argmax(axis=1)] == np.array(texts)
        for low in (0.5, 0.6, 0.7, 0.8, 0.9):
            near = (said >= low) & (said < low + 0.1)
            assert right[near].mean() == pytest.approx(said[near].mean(), abs=0.05)
        plain = probabilities(outputs).max(axis=1)
        assert right.mean() < plain.mean() - 0.05, "the model was too sure"

    def test_sets_hold_the_truth(self) -> None:
        """Nine times in ten, and some of them are one class alone."""
        outputs, texts = logits(5000, seed=2)
        said = describe(CLASSES, outputs, made())
        hits = [text in (each.plausible or ()) for text, each in zip(texts, said, strict=True)]
        assert np.mean(hits) == pytest.approx(COVERAGE, abs=0.03)
        assert {len(each.plausible or ()) for each in said} == {1, 2}

    @pytest.mark.parametrize("calibration", [None, made()])
    def test_many_windows_and_each_by_itself(self, calibration: Calibration | None) -> None:
        """The same is said of them, also where a logit is no number: then nothing."""
        outputs, _ = logits(200, seed=3)
        outputs[7, 1], outputs[8] = np.nan, np.inf
        together = describe(CLASSES, outputs, calibration)
        alone = [describe(CLASSES, outputs[n : n + 1], calibration)[0] for n in range(200)]
        assert together[7] == together[8] == alone[7] == alone[8] == NOTHING
        for one, other in zip(together, alone, strict=True):
            assert one.plausible == other.plausible
            assert one.confidence == pytest.approx(other.confidence)

    def test_labels_that_are_no_class_are_left_out(self) -> None:
        """As they are by those who learn from them."""
        outputs, texts = logits(LEAST_WINDOWS)
        numbers = np.full(LEAST_WINDOWS, np.nan)
        assert calibrate(CLASSES, outputs, texts, numbers, 1) is not None
        assert calibrate(CLASSES, outputs, ["rusty", *texts[1:]], numbers, 1) is None


class TestNumbers:
    def test_without_a_calibration_nothing_is_claimed(self) -> None:
        """No interval, and no confidence in one."""
        assert describe(NUMBER, np.zeros((2, 1), np.float32), None) == [NOTHING, NOTHING]

    def test_intervals(self) -> None:
        """Around each number, in the label's unit."""
        true = np.arange(60.0)
        outputs = (true + np.tile([1.0, -2.0], 30)).astype(np.float32)[:, None]
        found = calibrate(NUMBER, outputs, [""] * 60, true, 3)
        assert found is not None
        assert (found.windows, found.generation, found.coverage) == (60, 3, COVERAGE)
        [one] = describe(NUMBER, np.array([[10.0]], np.float32), found)
        assert (one.confidence, one.low, one.high) == (COVERAGE, 8.0, 12.0)

    def test_a_number_above_the_cap_counts_as_the_cap(self) -> None:
        """As in training: nobody foretells a life of years."""
        capped = structs.replace(NUMBER, labels=structs.replace(NUMBER.labels, cap=50.0))
        true = np.tile([10.0, 900.0], 30)
        outputs = np.minimum(true, 50.0).astype(np.float32)[:, None]
        found = calibrate(capped, outputs, [""] * 60, true, 3)
        [one] = describe(capped, np.array([[50.0]], np.float32), found)
        assert (one.low, one.high) == (50.0, 50.0)

    def test_an_interval_without_an_end_is_none(self) -> None:
        """It would say nothing."""
        endless = Calibration(generation=0, windows=5, coverage=0.9, widths=Widths())
        assert describe(NUMBER, np.zeros((1, 1), np.float32), endless) == [NOTHING]

    def test_few_windows(self) -> None:
        """Nothing is claimed of them; windows without a number do not count."""
        outputs, true = np.zeros((40, 1), np.float32), np.zeros(40)
        true[LEAST_WINDOWS - 1 :] = np.nan
        assert calibrate(NUMBER, outputs, [""] * 40, true, 1) is None


class TestKnown:
    def test_what_is_kept_is_there_after_a_restart(self, tmp_path: Path) -> None:
        """All of it, infinite widths too."""
        path = tmp_path / "certainty.msgpack"
        endless = Calibration(generation=0, windows=5, coverage=0.9, widths=Widths())
        known = Known(path)
        known.put("a", made())
        known.put("b", endless)
        again = Known(path)
        assert (again.get("a"), again.get("b"), again.get("c")) == (made(), endless, None)

    def test_the_newest_versions_are_kept(self, tmp_path: Path) -> None:
        """One that is calibrated anew is new."""
        path = tmp_path / "certainty.msgpack"
        known = Known(path)
        for version in ("old", *map(str, range(KEPT - 1)), "old", "new"):
            known.put(version, made())
        assert Known(path).get("old") is not None
        assert Known(path).get("0") is None

    @given(st.binary(max_size=200))
    def test_any_bytes(self, tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
        """A damaged file counts as none: it is made again."""
        path = tmp_path_factory.getbasetemp() / "certainty.msgpack"
        path.write_bytes(data)
        assert Known(path).get("a") is None

    def test_a_disk_that_fails(self, tmp_path: Path) -> None:
        """It is told, and known all the same until the restart."""
        known = Known(tmp_path / "missing" / "certainty.msgpack")
        with pytest.raises(StoreError, match="cannot be written"):
            known.put("a", made())
        assert known.get("a") == made()
