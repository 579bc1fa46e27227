# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_agent.probabilities import probabilities, shares


class TestProbabilities:
    @given(st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=2, max_size=5))
    def test_they_are_shares_of_one(self, row: list[float]) -> None:
        """However large a logit is; the largest one has the largest share."""
        found = probabilities(np.array([row], np.float32))
        assert found.sum() == pytest.approx(1.0)
        assert found[0, int(np.argmax(row))] == found.max()

    @given(st.lists(st.floats(-50, 50), min_size=2, max_size=9), st.floats(0.05, 20.0))
    def test_of_one_window_they_are_the_same(self, row: list[float], temperature: float) -> None:
        """Computed without an array."""
        together = probabilities(np.array([row]), temperature)[0]
        np.testing.assert_allclose(shares(row, temperature), together, rtol=1e-12)

    def test_two_classes_are_a_logistic_function(self) -> None:
        """Of the difference over the temperature."""
        found = probabilities(np.array([[1.0, 3.0]]), 4.0)
        assert found[0, 1] == pytest.approx(1.0 / (1.0 + np.exp(-0.5)))

    def test_of_one_row_without_others(self) -> None:
        """Outputs of a single window."""
        row = np.array([1e4, 0.0, -1e4])
        np.testing.assert_array_equal(probabilities(row), probabilities(row[None])[0])
        np.testing.assert_allclose(probabilities(row), [1, 0, 0])
