# SPDX-License-Identifier: Apache-2.0
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.errors import DataError
from fedmill_shared.metrics import RegressionStatistic, merge, of_numbers, summary

NUMBERS = st.floats(-200, 200, width=32)
PAIRS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=40)


def _of(predictions: list[float], targets: list[float]) -> RegressionStatistic:
    return of_numbers(np.array(predictions, np.float64), np.array(targets, np.float64))


class TestOfNumbers:
    def test_literal_numbers(self) -> None:
        """Errors 1 and -2 of targets 4 and 8."""
        statistic = _of([5, 6], [4, 8])
        score = math.expm1(1 / 10) + math.expm1(2 / 13)
        expected = {"count": 2, "squared_error": 5, "absolute_error": 3, "mean": 6, "m2": 8}
        assert msgspec.structs.asdict(statistic) == pytest.approx(expected | {"score": score})

    @pytest.mark.parametrize(
        ("error", "score"), [(0, 0), (10, math.e - 1), (-13, math.e - 1), (26, math.exp(2.6) - 1)]
    )
    def test_late_predictions_cost_more(self, error: float, score: float) -> None:
        """Saxena's score by hand: 10 cycles late cost as much as 13 early."""
        assert _of([100 + error], [100]).score == pytest.approx(score)

    def test_absurd_predictions_keep_the_score_finite(self) -> None:
        """Exponents end at 50: a million cycles late cost exp(50) - 1."""
        assert _of([1e6], [0]).score == pytest.approx(math.expm1(50))
        assert _of([-1e6], [0]).score == pytest.approx(math.expm1(50))

    def test_float32_is_summed_in_float64(self) -> None:
        """A small error beside a large one is not lost."""
        values = np.array([3e4, 1e-3], np.float32)
        statistic = of_numbers(values, np.zeros(2, np.float32))
        assert statistic.squared_error == 9e8 + float(values[1]) ** 2

    @pytest.mark.parametrize(
        ("predictions", "targets"),
        [
            ([1.0], [1.0, 2.0]),
            ([[1.0]], [[1.0]]),
            ([math.nan], [1.0]),
            ([1.0], [math.inf]),
            ([1e200], [0.0]),
            ([1e308, 0.0], [-1e308, -1e308]),
        ],
    )
    def test_what_does_not_fit_is_refused(
        self, predictions: list[float], targets: list[float]
    ) -> None:
        """Wrong shapes and numbers, and sums that overflow, are a DataError."""
        with pytest.raises(DataError, match="metrics:"):
            _of(predictions, targets)


class TestSummary:
    def test_literal_numbers(self) -> None:
        """Errors 1 and -2 of targets 4 and 8: the mean would have been off by 2 and 2."""
        metrics = summary(_of([5, 6], [4, 8]))
        assert metrics.pop("score") > 0
        assert metrics == pytest.approx({"rmse": math.sqrt(2.5), "mae": 1.5, "r2": 1 - 5 / 8})

    def test_r2_needs_targets_that_differ(self) -> None:
        """Where all targets are equal, r2 is undefined and left out."""
        assert set(summary(_of([1, 2], [3, 3]))) == {"rmse", "mae", "score"}

    def test_nothing_is_defined_without_examples(self) -> None:
        """No examples, no metrics."""
        assert summary(_of([], [])) == {}

    @given(PAIRS)
    def test_definitions(self, pairs: list[tuple[float, float]]) -> None:
        """Rmse, mae and r2 equal their definitions, computed with numpy in one place."""
        predictions, targets = np.array(pairs).T
        metrics = summary(of_numbers(predictions, targets))
        errors = predictions - targets
        assert metrics["rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)))
        assert metrics["mae"] == pytest.approx(np.mean(np.abs(errors)))
        if np.var(targets) > 1e-6:
            expected = 1 - np.mean(errors**2) / np.var(targets)
            assert metrics["r2"] == pytest.approx(expected, rel=1e-6, abs=1e-6)


class TestMerge:
    def test_distant_means_do_not_cancel(self) -> None:
        """Targets around 1e9 keep their spread, where sums of squares would lose it."""
        left, right = _of([0, 0], [1e9, 1e9 + 1]), _of([0, 0], [1e9 + 2, 1e9 + 3])
        merged = merge(left, right)
        assert isinstance(merged, RegressionStatistic)
        assert (merged.mean, merged.m2) == (1e9 + 1.5, 5)

    def test_no_examples_are_the_neutral_element(self) -> None:
        """Merging nothing changes nothing, on either side."""
        some, none = _of([5, 6], [4, 8]), _of([], [])
        assert merge(some, none) == some == merge(none, some)
        assert merge(none, none) == none


class TestStruct:
    def test_infinite_messages_are_refused(self) -> None:
        """No message can carry infinity into the fleet's sums."""
        message = msgspec.to_builtins(_of([5, 6], [4, 8])) | {"m2": math.inf}
        with pytest.raises(DataError, match="infinite"):
            msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=RegressionStatistic)

    def test_negative_sums_are_refused(self) -> None:
        """The decoder itself refuses what can be no sum of squares."""
        message = msgspec.to_builtins(_of([5, 6], [4, 8])) | {"squared_error": -1.0}
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(message, RegressionStatistic)
