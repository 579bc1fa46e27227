# SPDX-License-Identifier: Apache-2.0
"""Contributions sum to their statistic."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.monitoring import Components, fit, of_rows
from fedmill_shared.monitoring.contributions import decomposed, index_matrix


def fitted(seed: int) -> tuple[Components, np.ndarray]:
    """Six inputs that follow two."""
    generator = np.random.default_rng(seed)
    hidden = generator.standard_normal((200, 2)) @ generator.standard_normal((2, 6))
    rows = hidden + 0.4 * generator.standard_normal((200, 6))
    return fit(of_rows(rows), kept=2), rows


class TestDecomposed:
    @given(st.integers(0, 2**32 - 1))
    def test_they_sum_to_the_statistic(self, seed: int) -> None:
        """Of T2 and of Q, row by row; none is negative."""
        found, rows = fitted(seed)
        away = rows - found.mean
        for weights, statistic in (
            (found.t2_weights, found.t2(rows)),
            (found.q_weights, found.q(rows)),
        ):
            parts = decomposed(index_matrix(found.loadings, weights), away)
            assert parts.min() >= 0
            assert parts.sum(1) == pytest.approx(statistic, rel=1e-9, abs=1e-12)

    def test_independent_inputs_in_closed_form(self) -> None:
        """A diagonal matrix: each input gives its own weighted square."""
        matrix = np.diag([1.0, 4.0])
        assert decomposed(matrix, np.array([[3.0, 2.0]])).tolist() == [[9.0, 16.0]]
