# SPDX-License-Identifier: Apache-2.0
"""Components, T2 and Q against closed forms and brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.errors import DataError
from fedmill_shared.monitoring import Components, Scatter, fit, merge_all, of_rows
from fedmill_shared.monitoring.components import enough


def correlated(seed: int, count: int = 300, width: int = 5) -> np.ndarray:
    """Rows (count, width) that follow two hidden ones, and noise."""
    generator = np.random.default_rng(seed)
    hidden = generator.standard_normal((count, 2)) @ generator.standard_normal((2, width))
    return 3.0 + hidden + 0.3 * generator.standard_normal((count, width))


class TestFit:
    def test_two_inputs_in_closed_form(self) -> None:
        """Correlation r: variances 1 + r and 1 - r, along the two diagonals."""
        covariance = np.array([[4.0, 4.8], [4.8, 9.0]])  # r = 0.8
        found = fit(Scatter(101, np.array([1.0, 2.0]), 100 * covariance), explained=0.9)
        assert found.eigenvalues == pytest.approx([1.8, 0.2])
        half = np.sqrt(0.5)
        assert found.loadings == pytest.approx(
            np.array([[half / 2, half / 3], [half / 2, -half / 3]])
        )
        assert found.kept == 1
        row = np.array([[3.0, 5.0]])  # one deviation up in both
        assert found.t2(row) == pytest.approx([2 / 1.8])
        assert found.q(row) == pytest.approx([0.0], abs=1e-15)

    def test_all_kept_is_mahalanobis(self) -> None:
        """T2 of all components is the distance by the inverse of the covariance."""
        rows = correlated(1)
        found = fit(of_rows(rows), explained=1.0)
        away = rows - rows.mean(0)
        expected = np.einsum("ni,ij,nj->n", away, np.linalg.inv(np.cov(rows.T)), away)
        assert found.t2(rows) == pytest.approx(expected, rel=1e-9)
        assert found.q(rows) == pytest.approx(np.zeros(len(rows)))

    def test_q_is_what_the_kept_ones_leave(self) -> None:
        """By projecting and coming back."""
        rows = correlated(2)
        found = fit(of_rows(rows), kept=2)
        scaled = (rows - rows.mean(0)) / rows.std(0, ddof=1)
        vectors = np.linalg.svd(scaled, full_matrices=False)[2][:2]
        left = scaled - scaled @ vectors.T @ vectors
        assert found.q(rows) == pytest.approx((left**2).sum(1), rel=1e-9)

    def test_sums_over_the_rows(self) -> None:
        """Mean T2 of the rows themselves is the number of components, mean Q what is left."""
        rows = correlated(3)
        found = fit(of_rows(rows), explained=0.8)
        share = (len(rows) - 1) / len(rows)
        assert found.t2(rows).mean() == pytest.approx(found.kept * share)
        assert found.q(rows).mean() == pytest.approx(found.eigenvalues[found.kept :].sum() * share)

    def test_a_constant_input_says_nothing(self) -> None:
        """Neither in the components nor, when it moves, in T2 and Q."""
        rows = correlated(4)
        rows[:, 2] = 7.0
        found = fit(of_rows(rows))
        moved = rows.copy()
        moved[:, 2] = 1000.0
        assert found.loadings[:, 2].tolist() == [0.0] * 5
        assert found.t2(moved).tolist() == found.t2(rows).tolist()
        assert found.q(moved).tolist() == found.q(rows).tolist()

    def test_copies_of_an_input_are_one(self) -> None:
        """No component of rounding noise is kept, however many are asked for."""
        base = np.random.default_rng(5).standard_normal((100, 1))
        found = fit(of_rows(base * [1.0, -2.0, 3.0]), kept=3)
        assert found.kept == 1
        assert found.eigenvalues == pytest.approx([3.0, 0.0, 0.0], abs=1e-12)

    def test_nothing_varies(self) -> None:
        """There is no normal to compare with."""
        with pytest.raises(DataError, match="no input varies"):
            fit(of_rows(np.ones((10, 3))))
        with pytest.raises(DataError, match="1 rows have no covariance"):
            fit(of_rows(np.ones((1, 3))))

    @given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 3), min_size=60, max_size=60))
    def test_plants_together_find_the_pooled_components(self, seed: int, owners: list[int]) -> None:
        """Projections, T2 and Q to 1e-6, for any split of the rows."""
        rows = correlated(seed, count=60)
        deal = np.array(owners)
        parts = [of_rows(rows[deal == owner]) for owner in range(4)]
        together, pooled = fit(merge_all(parts), kept=2), fit(of_rows(rows), kept=2)
        assert projection(together) == pytest.approx(projection(pooled), abs=1e-6)
        assert together.t2(rows) == pytest.approx(pooled.t2(rows), rel=1e-6)
        assert together.q(rows) == pytest.approx(pooled.q(rows), rel=1e-6)


def projection(found: Components) -> np.ndarray:
    """What of a row T2 sees."""
    kept = found.loadings[: found.kept]
    return np.asarray(kept.T @ kept)


class TestEnough:
    @pytest.mark.parametrize(
        ("explained", "kept"), [(0.4, 1), (0.5, 1), (0.51, 2), (0.8, 2), (0.9, 3), (1.0, 4)]
    )
    def test_by_hand(self, explained: float, kept: int) -> None:
        """Variances of 5, 3, 1 and 1."""
        assert enough(np.array([5.0, 3.0, 1.0, 1.0]), explained) == kept
