# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmill_agent.feedback import least_squares
from fedmill_agent.feedback.least_squares import Sums


def examples(seed: int, count: int = 12, width: int = 4, outputs: int = 2) -> list[np.ndarray]:
    """Rows, targets, weights and an anchor."""
    random = np.random.default_rng(seed)
    return [
        random.normal(size=(count, width)),
        random.normal(size=(count, outputs)),
        random.uniform(0.1, 2.0, count),
        random.normal(size=(width, outputs)),
    ]


def stacked(
    rows: np.ndarray, targets: np.ndarray, weights: np.ndarray, anchor: np.ndarray, precision: float
) -> np.ndarray:
    """The same by ordinary least squares: a ridge is one more example for each weight."""
    root = np.sqrt(weights)[:, None]
    width = rows.shape[1]
    left = np.vstack([root * rows, np.sqrt(precision) * np.eye(width)])
    right = np.vstack([root * targets, np.sqrt(precision) * anchor])
    return np.linalg.lstsq(left, right, rcond=None)[0]


class TestSolve:
    @pytest.mark.parametrize("precision", [1e-3, 1.0, 50.0])
    def test_closed_form_is_the_batch_solution(self, precision: float) -> None:
        """Against numpy's least squares on stacked rows."""
        rows, targets, weights, anchor = examples(0)
        sums = least_squares.step(least_squares.init(4, 2), rows, targets, weights)
        found = least_squares.solve(sums, anchor, precision)
        np.testing.assert_allclose(found, stacked(*examples(0), precision), atol=1e-9)

    def test_nothing_known_gives_the_anchor(self) -> None:
        """Without examples the head stays what it was."""
        anchor = examples(1)[3]
        np.testing.assert_array_equal(
            least_squares.solve(least_squares.init(4, 2), anchor, 1.0), anchor
        )

    def test_more_precision_stays_nearer(self) -> None:
        """From least squares to the anchor."""
        rows, targets, weights, anchor = examples(2)
        sums = least_squares.step(least_squares.init(4, 2), rows, targets, weights)
        apart = [
            np.abs(least_squares.solve(sums, anchor, precision) - anchor).max()
            for precision in (1e-6, 1.0, 1e3, 1e9)
        ]
        assert apart == sorted(apart, reverse=True)
        assert apart[-1] < 1e-6


class TestStep:
    @given(seed=st.integers(0, 99), cuts=st.lists(st.integers(0, 12), max_size=4))
    @settings(max_examples=50)
    def test_any_portions_in_any_order_are_the_batch(self, seed: int, cuts: list[int]) -> None:
        """One at a time, some at a time, mixed up: the same sums, and the same solution."""
        rows, targets, weights, anchor = examples(seed)
        order = np.random.default_rng(seed + 1).permutation(len(rows))
        sums = least_squares.init(4, 2)
        for part in np.split(order, sorted(cuts)):
            sums = least_squares.step(sums, rows[part], targets[part], weights[part])
        found = least_squares.solve(sums, anchor, 0.3)
        np.testing.assert_allclose(found, stacked(*examples(seed), 0.3), atol=1e-8)

    @given(st.integers(0, 20), st.floats(0.5, 1.0))
    def test_forgetting_is_a_weight_by_age(self, count: int, forgetting: float) -> None:
        """Each example makes all before it count that much less; the newest counts in full."""
        wanted = [forgetting ** (count - 1 - place) for place in range(count)]
        found = least_squares.faded_weights(count, forgetting)
        np.testing.assert_allclose(found, wanted)

    def test_what_is_forgotten_goes_back_to_the_anchor(self) -> None:
        """Old examples do not blow the solution up, as without an anchor they would."""
        rows, targets, _, anchor = examples(3)
        faded = least_squares.faded_weights(len(rows) + 400, 0.9)[: len(rows)]
        sums = least_squares.step(least_squares.init(4, 2), rows, targets, faded)
        np.testing.assert_allclose(least_squares.solve(sums, anchor, 0.3), anchor, atol=1e-9)

    def test_does_not_change_what_it_is_given(self) -> None:
        """A state may be kept and gone back to."""
        rows, targets, weights, _ = examples(4)
        first = least_squares.step(least_squares.init(4, 2), rows, targets, weights)
        before = Sums(first.information.copy(), first.moment.copy())
        least_squares.step(first, rows, targets, weights)
        np.testing.assert_array_equal(first.information, before.information)
        np.testing.assert_array_equal(first.moment, before.moment)
