# SPDX-License-Identifier: Apache-2.0
"""Statistics of parts of the rows are, merged, those of all rows."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.errors import DataError
from fedmill_shared.monitoring import merge, merge_all, of_rows
from fedmill_shared.monitoring.scatter import of_moments


@st.composite
def split_rows(draw: st.DrawFn) -> list[Any]:
    """Correlated rows in any units, dealt to up to six plants in any way; some get none."""
    width, count = draw(st.integers(1, 6)), draw(st.integers(2, 60))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mixed = generator.standard_normal((count, width)) @ generator.standard_normal((width, width))
    offset = draw(st.floats(-1e4, 1e4))
    rows = mixed * 10.0 ** draw(st.integers(-2, 3)) + offset
    owners = np.array(draw(st.lists(st.integers(0, 5), min_size=count, max_size=count)))
    return [rows[owners == owner] for owner in range(6)]


class TestOfRows:
    def test_by_hand(self) -> None:
        """Three rows of two numbers."""
        found = of_rows(np.array([[1.0, 2.0], [3.0, 2.0], [5.0, 8.0]]))
        assert found.count == 3
        assert found.mean.tolist() == [3.0, 4.0]
        assert found.products.tolist() == [[8.0, 12.0], [12.0, 24.0]]
        assert found.covariance().tolist() == [[4.0, 6.0], [6.0, 12.0]]

    def test_no_rows_add_nothing(self) -> None:
        """A plant without rows changes no figure; alone it has no covariance."""
        none, some = of_rows(np.zeros((0, 2))), of_rows(np.array([[1.0, 2.0], [0.0, 1.0]]))
        assert merge(none, some) is some
        assert merge(some, none) is some
        with pytest.raises(DataError, match="0 rows have no covariance"):
            none.covariance()
        with pytest.raises(DataError, match="no rows have no moments"):
            none.moments()

    @pytest.mark.parametrize(
        "rows", [np.zeros(3), np.array([[1.0, np.nan]]), np.full((2, 2), np.inf)]
    )
    def test_what_is_no_matrix_of_numbers(self, rows: Any) -> None:
        """Nothing is summed of it."""
        with pytest.raises(DataError, match="no matrix of finite numbers"):
            of_rows(rows)


class TestMerge:
    @given(split_rows())
    def test_any_split_gives_the_pooled_covariance(self, parts: list[Any]) -> None:
        """To 1e-6 of the scale of the inputs, whoever holds which rows."""
        pooled = np.concatenate(parts)
        found = merge_all(map(of_rows, parts))
        expected = np.atleast_2d(np.cov(pooled.T))
        scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected))) + 1e-12
        assert found.count == len(pooled)
        assert found.mean == pytest.approx(pooled.mean(0), rel=1e-9, abs=1e-9)
        assert np.abs(found.covariance() - expected).max() <= 1e-6 * scale.max()

    @given(split_rows())
    def test_so_do_averaged_moments(self, parts: list[Any]) -> None:
        """What travels: means weighted by rows, of standardised inputs."""
        pooled = np.concatenate(parts)
        spread = np.where(pooled.std(0) > 0, pooled.std(0), 1.0)
        held = [(part - pooled.mean(0)) / spread for part in parts if len(part)]
        told = [of_rows(part).moments() for part in held]
        weights = [len(part) / len(pooled) for part in held]
        mean = sum(weight * each[0] for weight, each in zip(weights, told, strict=True))
        second = sum(weight * each[1] for weight, each in zip(weights, told, strict=True))
        found = of_moments(len(pooled), np.asarray(mean), np.asarray(second))
        expected = of_rows((pooled - pooled.mean(0)) / spread)
        assert found.covariance() == pytest.approx(expected.covariance(), abs=1e-6)

    def test_a_large_mean_takes_no_digits(self) -> None:
        """A pressure of 1e8 Pa that moves by 1 Pa."""
        rows = 1e8 + np.random.default_rng(1).standard_normal((200, 2))
        found = merge_all([of_rows(rows[:50]), of_rows(rows[50:])])
        assert found.covariance() == pytest.approx(np.cov(rows.T), rel=1e-6)

    def test_widths_that_differ(self) -> None:
        """Agents with other inputs are refused."""
        with pytest.raises(DataError, match="rows of 2 and of 3 numbers"):
            merge(of_rows(np.zeros((2, 2))), of_rows(np.zeros((2, 3))))
        with pytest.raises(DataError, match="no statistics to merge"):
            merge_all([])
        with pytest.raises(DataError, match="not the second moments of 2 numbers"):
            of_moments(3, np.zeros(2), np.zeros(4))
