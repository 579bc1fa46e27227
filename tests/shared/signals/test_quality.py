# SPDX-License-Identifier: Apache-2.0
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedmill_shared.signals.quality import HOLD, assess, bridge, mend, usable
from fedmill_shared.signals.windows import Window

NAN = float("nan")


def window(*rows: list[float]) -> Window:
    """A window of these values."""
    values = np.array(rows, np.float32)
    return Window("run", "unit", 0, 10, values, float(np.isfinite(values).mean()), 0)


def naive(row: list[float], hold: int) -> list[float]:
    """Sample by sample: look for the neighbours of each bad one."""
    good = [i for i, value in enumerate(row) if np.isfinite(value)]
    result = list(row)
    for i, value in enumerate(row):
        left, right = [g for g in good if g < i], [g for g in good if g > i]
        if not np.isfinite(value) and left and right and right[0] - left[-1] - 1 <= hold:
            a, b = left[-1], right[0]
            result[i] = row[a] + (row[b] - row[a]) * (i - a) / (b - a)
    return result


class TestAssess:
    def test_only_finite_values_are_good(self) -> None:
        """NaN and both infinities are bad."""
        assert assess(np.array([[1.0, NAN], [np.inf, -np.inf]])).tolist() == [
            [True, False],
            [False, False],
        ]


class TestBridge:
    def test_a_literal_gap(self) -> None:
        """Two missing samples between 1 and 4 become 2 and 3."""
        assert bridge(np.array([[1, NAN, NAN, 4]], np.float32), 2).tolist() == [[1, 2, 3, 4]]

    def test_long_gaps_and_edges_stay(self) -> None:
        """Three missing samples with hold 2, and gaps without two ends, are not invented."""
        values = np.array([[NAN, 1, NAN, NAN, NAN, 5, NAN]], np.float32)
        np.testing.assert_array_equal(bridge(values, 2), values)

    def test_a_dead_signal_stays_dead(self) -> None:
        """A signal without a single value is left as it is, its neighbour is bridged."""
        values = np.array([[NAN, NAN, NAN], [2, NAN, 4]], np.float32)
        np.testing.assert_array_equal(bridge(values, 5), [[NAN, NAN, NAN], [2, 3, 4]])

    @given(
        st.lists(st.sampled_from([0.0, 1.0, -2.5, 8.0, NAN, np.inf]), max_size=20),
        st.integers(0, 4),
    )
    def test_equals_the_definition(self, row: list[float], hold: int) -> None:
        """Every gap is treated as the sample-by-sample definition says; the input is untouched."""
        values: NDArray[np.float32] = np.array([row], np.float32)
        before = values.copy()
        np.testing.assert_allclose(bridge(values, hold)[0], naive(row, hold), rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(values, before)


class TestUsable:
    def test_a_whole_window_is_usable(self) -> None:
        """Finite values only."""
        assert usable(window([1, 2, 3]))

    def test_one_bad_value_spoils_a_window(self) -> None:
        """Neither a NaN nor an infinity reaches a model."""
        assert not usable(window([1, 2, 3], [1, NAN, 3]))
        assert not usable(window([1, np.inf, 3]))

    def test_nothing_but_nan_is_not_usable_even_mended(self) -> None:
        """A window of NaN never trains and never scores."""
        assert not usable(mend(window([NAN] * 4)))

    def test_a_mended_window_is_usable_and_remembers(self) -> None:
        """A short gap is bridged; the share of what really came stays."""
        mended = mend(window([1, NAN, 3, 4]), HOLD)
        assert usable(mended)
        assert (mended.values.tolist(), mended.good_share) == ([[1, 2, 3, 4]], 0.75)
