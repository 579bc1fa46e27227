# SPDX-License-Identifier: Apache-2.0
"""Contributions sum to their statistic, and a fault of one input is found in it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.monitoring import Components, fit, of_rows
from fedmill_shared.monitoring.contributions import (
    decomposed,
    index_matrix,
    reconstruction_based,
)


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
        assert reconstruction_based(matrix, np.array([[3.0, 2.0]])).tolist() == [[9.0, 16.0]]


class TestReconstructionBased:
    def test_it_is_what_the_best_value_saves(self) -> None:
        """By trying many values of the input: the lowest that the statistic can be."""
        found, rows = fitted(3)
        matrix = index_matrix(found.loadings, found.q_weights)
        row = rows[:1] + np.array([0, 0, 5.0, 0, 0, 0])
        saved = reconstruction_based(matrix, row - found.mean)[0]
        for i in range(6):
            tried = np.repeat(row, 4001, axis=0)
            tried[:, i] += np.linspace(-10, 10, 4001)
            lowest = found.q(tried).min()
            assert found.q(row)[0] - lowest == pytest.approx(saved[i], rel=1e-3, abs=1e-3)

    def test_a_broken_input_is_named(self) -> None:
        """A large fault of any one input is largest there: Alcala and Qin's promise."""
        found, rows = fitted(4)
        matrix = index_matrix(found.loadings, found.q_weights)
        for broken in range(6):
            away = rows - found.mean
            away[:, broken] += 50.0
            assert (reconstruction_based(matrix, away).argmax(1) == broken).all()

    def test_inputs_that_are_not_looked_at(self) -> None:
        """They have no part, and nothing is divided by zero."""
        assert reconstruction_based(np.diag([1.0, 0.0]), np.array([[2.0, 9.0]])).tolist() == [
            [4.0, 0.0]
        ]
