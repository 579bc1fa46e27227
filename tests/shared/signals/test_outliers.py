# SPDX-License-Identifier: Apache-2.0
"""Outliers against their definitions, written out sample by sample."""

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.signals import outliers
from fedmill_shared.signals.outliers import hampel, winsorise

NAN = float("nan")
rows = st.lists(
    st.one_of(st.integers(-9, 9).map(float), st.just(NAN), st.just(float("inf"))), max_size=30
)


def naive(row: list[float], reach: int, sigmas: float) -> list[float]:
    """The definition."""
    result = list(row)
    for i, value in enumerate(row):
        near = [v for v in row[max(0, i - reach) : i + reach + 1] if np.isfinite(v)]
        if not np.isfinite(value):
            continue
        middle = statistics.median(near)
        spread = statistics.median(abs(v - middle) for v in near)
        if abs(value - middle) > sigmas * 1.4826 * spread:
            result[i] = middle
    return result


class TestHampel:
    def test_literal(self) -> None:
        """A spike becomes the median of its neighbours; nothing else moves."""
        values, found = hampel(np.array([[1, 2, 3, 90, 5, 6, 7]], np.float32), 3, 3.0)
        assert values.tolist() == [[1, 2, 3, 5, 5, 6, 7]]
        assert np.flatnonzero(found).tolist() == [3]

    def test_a_step_stays(self) -> None:
        """A setpoint that changes is no outlier."""
        row = np.array([[0.0] * 9 + [5.0] * 9], np.float32)
        values, found = hampel(row, 3, 3.0)
        assert not found.any()
        np.testing.assert_array_equal(values, row)

    def test_missing_values_stay_and_are_no_neighbours(self) -> None:
        """The median is that of what came."""
        values, found = hampel(np.array([[1, NAN, 1, 80, 1, NAN, 1]], np.float32), 2, 3.0)
        np.testing.assert_array_equal(values, [[1, NAN, 1, 1, 1, NAN, 1]])
        assert found.sum() == 1

    def test_the_largest_numbers(self) -> None:
        """Nothing overflows."""
        most = float(np.finfo(np.float32).max)
        values, found = hampel(np.array([[most, most, -most, most, most]], np.float32), 2, 3.0)
        assert values.tolist() == [[most] * 5]
        assert found.tolist() == [[False, False, True, False, False]]

    @given(rows, st.integers(1, 4), st.sampled_from([0.0, 1.0, 3.0]))
    def test_equals_the_definition(self, row: list[float], reach: int, sigmas: float) -> None:
        """Also at the edges and among gaps."""
        values, found = hampel(np.array([row], np.float32).reshape(1, -1), reach, sigmas)
        expected = naive(row, reach, sigmas)
        np.testing.assert_allclose(values[0], expected, 1e-6)
        changed = [a != b and not np.isnan(a) for a, b in zip(row, expected, strict=True)]
        assert found[0].tolist() == changed

    @pytest.mark.parametrize("columns", [1, 7, 64])
    def test_pieces_make_no_difference(self, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """Long windows are worked on in pieces."""
        values = np.random.default_rng(0).standard_t(2, (3, 200)).astype(np.float32)
        whole = hampel(values, 5, 3.0)
        monkeypatch.setattr(outliers, "_SORTED", 11 * columns)
        for a, b in zip(hampel(values, 5, 3.0), whole, strict=True):
            np.testing.assert_array_equal(a, b)
        assert whole[1].any()


class TestWinsorise:
    def test_literal(self) -> None:
        """A tenth of ten values is one at each end."""
        row = np.array([[5, 1, 9, 2, 8, 3, 7, 4, 6, 100]], np.float32)
        assert winsorise(row, 0.1).tolist() == [[5, 2, 9, 2, 8, 3, 7, 4, 6, 9]]

    def test_too_few_for_a_tail(self) -> None:
        """Nothing is drawn in where the share is less than one value."""
        row = np.array([[1, 2, 90]], np.float32)
        assert winsorise(row, 0.3).tolist() == row.tolist()

    def test_missing_values_do_not_count(self) -> None:
        """They stay, and are no tail."""
        row = np.array([[NAN, 1, 2, 3, 4, NAN]], np.float32)
        np.testing.assert_array_equal(winsorise(row, 0.25), [[NAN, 2, 2, 3, 3, NAN]])

    @given(rows, st.floats(0.01, 0.49))
    def test_order_and_middle_stay(self, row: list[float], tails: float) -> None:
        """Nothing passes anything else, and the median is the same."""
        values = np.array([row], np.float32).reshape(1, -1)
        good = np.isfinite(values)
        before, after = values[good], winsorise(values, tails)[good]
        np.testing.assert_array_equal(np.isfinite(winsorise(values, tails)), good)
        assert (np.diff(after[np.argsort(before, kind="stable")]) >= 0).all()
        if before.size:
            assert np.median(before) == np.median(after)
            assert before.min() <= after.min()
            assert after.max() <= before.max()
