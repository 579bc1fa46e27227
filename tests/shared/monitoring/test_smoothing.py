# SPDX-License-Identifier: Apache-2.0
"""Causal means look at no row that is still to come."""

import numpy as np
import pytest

from fedmill_shared.errors import DataError
from fedmill_shared.monitoring import causal_mean


class TestCausalMean:
    def test_by_hand(self) -> None:
        """The first row stands for what was before it."""
        rows = np.array([[3.0], [6.0], [9.0], [0.0]])
        assert causal_mean(rows, 3).ravel().tolist() == [3.0, 4.0, 6.0, 5.0]
        assert causal_mean(rows, 1).tolist() == rows.tolist()
        assert causal_mean(rows[:0], 3).shape == (0, 1)

    def test_the_future_changes_nothing(self) -> None:
        """Rows after one of them are not in its mean."""
        rows = np.random.default_rng(1).standard_normal((50, 3))
        later = rows.copy()
        later[30:] += 100.0
        assert np.array_equal(causal_mean(rows, 7)[:30], causal_mean(later, 7)[:30])

    def test_brute_force(self) -> None:
        """Row by row."""
        rows = np.random.default_rng(2).standard_normal((20, 2))
        expected = [rows[max(0, i - 4) : i + 1].mean(0) for i in range(4, 20)]
        assert causal_mean(rows, 5)[4:] == pytest.approx(np.array(expected))

    @pytest.mark.parametrize(("rows", "length"), [(np.zeros(3), 2), (np.zeros((3, 1)), 0)])
    def test_what_cannot_be_smoothed(self, rows: np.ndarray, length: int) -> None:
        """It is told."""
        with pytest.raises(DataError, match="cannot be smoothed"):
            causal_mean(rows, length)
