# SPDX-License-Identifier: Apache-2.0
"""Short gaps are filled, long ones stay."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.signals.gaps import Missing, fill

NAN = float("nan")


def filled(row: list[float], how: Missing, most: int) -> list[float]:
    """One signal."""
    values = np.array([row], np.float32)
    before = values.copy()
    result = fill(values, how, most)
    np.testing.assert_array_equal(values, before)
    return result[0].tolist()


def naive(row: list[float], how: Missing, most: int) -> list[float]:
    """Sample by sample: look for the neighbours of each bad one."""
    good = [i for i, value in enumerate(row) if np.isfinite(value)]
    result = list(row)
    for i, value in enumerate(row):
        if np.isfinite(value):
            continue
        left = max((g for g in good if g < i), default=None)
        right = min((g for g in good if g > i), default=None)
        end = len(row) if right is None else right
        if left is None or end - left - 1 > most:
            continue
        if how == "hold":
            result[i] = row[left]
        elif how == "linear" and right is not None:
            result[i] = row[left] + (row[right] - row[left]) * (i - left) / (right - left)
    return result


class TestFill:
    def test_a_line(self) -> None:
        """Two missing samples between 1 and 4 become 2 and 3."""
        assert filled([1, NAN, NAN, 4], "linear", 2) == [1, 2, 3, 4]

    def test_the_value_before(self) -> None:
        """Held as long as is allowed, also up to the end."""
        assert filled([1, NAN, NAN, 4, NAN], "hold", 2) == [1, 1, 1, 4, 4]

    def test_nothing(self) -> None:
        """Who drops fills nothing."""
        np.testing.assert_array_equal(filled([1, NAN, 3], "drop", 9), [1, NAN, 3])

    @pytest.mark.parametrize("how", ["linear", "hold"])
    def test_long_gaps_and_beginnings_stay(self, how: Missing) -> None:
        """Three missing samples with 2 allowed, and gaps with nothing before, are not invented."""
        row = [NAN, 1, NAN, NAN, NAN, 5]
        np.testing.assert_array_equal(filled(row, how, 2), row)

    def test_an_infinity_is_a_gap(self) -> None:
        """Like what never came."""
        assert filled([1, float("inf"), 3], "linear", 1) == [1, 2, 3]

    def test_each_signal_by_itself(self) -> None:
        """A dead one stays dead, its neighbour is mended."""
        values = np.array([[NAN, NAN, NAN], [2, NAN, 4]], np.float32)
        np.testing.assert_array_equal(fill(values, "linear", 5), [[NAN] * 3, [2, 3, 4]])

    def test_a_whole_window_is_not_copied(self) -> None:
        """Nothing to do costs nothing."""
        values = np.ones((2, 3), np.float32)
        assert fill(values, "linear", 5) is values

    @given(
        st.lists(st.sampled_from([0.0, 1.0, -2.5, 8.0, NAN, float("inf")]), max_size=20),
        st.sampled_from(["linear", "hold", "drop"]),
        st.integers(1, 4),
    )
    def test_equals_the_definition(self, row: list[float], how: Missing, most: int) -> None:
        """Every gap is treated as the sample-by-sample definition says."""
        np.testing.assert_allclose(filled(row, how, most), naive(row, how, most), 1e-6, 1e-6)
