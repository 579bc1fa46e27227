# SPDX-License-Identifier: Apache-2.0
"""Limits and the quantiles below them, against SciPy, tables, and simulated normal operation."""

from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fedmill_shared.errors import DataError
from fedmill_shared.monitoring import (
    box_limit,
    fit,
    jackson_mudholkar_limit,
    of_rows,
    rank_limit,
    t2_limit,
)
from fedmill_shared.monitoring.limits import empirical_limit
from fedmill_shared.monitoring.quantiles import chi_squared, fisher

PROBABILITIES = st.floats(0.5, 0.9999)
FREEDOM = st.floats(0.3, 1000.0)


class TestQuantiles:
    @given(PROBABILITIES, FREEDOM)
    def test_chi_squared(self, probability: float, freedom: float) -> None:
        """As SciPy's."""
        expected = float(stats.chi2.ppf(probability, freedom))
        assert chi_squared(probability, freedom) == pytest.approx(expected, rel=1e-6)

    @given(PROBABILITIES, FREEDOM, st.floats(1.0, 1e5))
    def test_fisher(self, probability: float, above: float, below: float) -> None:
        """As SciPy's."""
        expected = float(stats.f.ppf(probability, above, below))
        assert fisher(probability, above, below) == pytest.approx(expected, rel=1e-5)

    def test_as_in_the_tables(self) -> None:
        """Numbers that every textbook has."""
        assert chi_squared(0.95, 1) == pytest.approx(3.841, abs=5e-4)
        assert chi_squared(0.99, 10) == pytest.approx(23.209, abs=5e-4)
        assert fisher(0.95, 3, 10) == pytest.approx(3.708, abs=5e-4)
        assert fisher(0.99, 3, inf) == pytest.approx(chi_squared(0.99, 3) / 3)


class TestTheory:
    def test_t2_in_closed_form(self) -> None:
        """Two components from 30 rows; of many rows it is chi-squared."""
        expected = 2 * 31 * 29 / (30 * 28) * stats.f.ppf(0.99, 2, 28)
        assert t2_limit(2, 0.01, 30) == pytest.approx(float(expected))
        assert t2_limit(2, 0.01) == pytest.approx(float(stats.chi2.ppf(0.99, 2)))
        assert t2_limit(2, 0.01, 10**9) == pytest.approx(t2_limit(2, 0.01), rel=1e-6)
        with pytest.raises(DataError, match="3 rows say nothing of 3 components"):
            t2_limit(3, 0.01, 3)

    def test_q_of_equal_variances_is_chi_squared(self) -> None:
        """Both approximations are exact there, or nearly."""
        even = np.full(8, 0.25)
        exact = 0.25 * float(stats.chi2.ppf(0.99, 8))
        assert box_limit(even, 0.01) == pytest.approx(exact)
        assert jackson_mudholkar_limit(even, 0.01) == pytest.approx(exact, rel=5e-3)

    def test_nothing_left_over(self) -> None:
        """All components kept: Q is 0, and so is its limit."""
        assert box_limit(np.zeros(3), 0.01) == 0.0
        assert jackson_mudholkar_limit(np.zeros(0), 0.01) == 0.0

    def test_where_jackson_and_mudholkar_end(self) -> None:
        """One large variance among many small ones has no such limit; Box's is there."""
        uneven = np.array([1.0] + [0.02] * 100)
        with pytest.raises(DataError, match="not defined"):
            jackson_mudholkar_limit(uneven, 0.01)
        assert 0 < box_limit(uneven, 0.01) < 30

    @pytest.mark.parametrize("false_alarms", [0.05, 0.01])
    def test_normal_rows_raise_as_many_alarms_as_said(self, false_alarms: float) -> None:
        """40,000 unseen rows of a model of 4000: the rates are those asked for."""
        generator = np.random.default_rng(7)
        mixing = generator.standard_normal((2, 6))

        def rows(count: int) -> np.ndarray:
            noise = generator.standard_normal((count, 6))
            return np.asarray(generator.standard_normal((count, 2)) @ mixing + 0.5 * noise)

        found = fit(of_rows(rows(4000)), kept=2)
        unseen = rows(40_000)
        left = found.eigenvalues[2:]
        limits = (box_limit(left, false_alarms), jackson_mudholkar_limit(left, false_alarms))
        t2 = found.t2(unseen) > t2_limit(2, false_alarms, 4000)
        assert t2.mean() == pytest.approx(false_alarms, rel=0.3)
        for limit in limits:
            assert (found.q(unseen) > limit).mean() == pytest.approx(false_alarms, rel=0.5)


class TestRank:
    def test_by_hand(self) -> None:
        """Of 99 values the largest is the 1 % limit; of 199 the second largest."""
        assert rank_limit(np.arange(99.0), 0.01) == 98.0
        assert rank_limit(np.arange(199.0), 0.01) == 197.0
        assert rank_limit(np.arange(98.0), 0.01) == inf

    @given(st.integers(1, 300), st.sampled_from([0.5, 0.1, 0.05, 0.01]))
    def test_finite_from_enough_values_on(self, count: int, share: float) -> None:
        """One fewer than it takes for a single false alarm: 99 for one in a hundred."""
        limit = rank_limit(np.arange(float(count)), share)
        assert np.isfinite(limit) == (count >= round(1 / share) - 1)

    def test_one_more_value_exceeds_it_as_often_as_said(self) -> None:
        """4000 times 39 values and one more, of a heavy-tailed distribution."""
        drawn = np.random.default_rng(3).standard_cauchy((4000, 40))
        exceeded = [row[-1] > rank_limit(row[:-1], 0.05) for row in drawn]
        assert np.mean(exceeded) == pytest.approx(0.05, abs=0.015)

    def test_few_values_and_a_margin(self) -> None:
        """With fewer the largest counts, times the margin that the job asks for."""
        few = np.array([1.0, 4.0, 2.0])
        assert empirical_limit(few, 0.01, 1.5) == 6.0
        assert empirical_limit(np.arange(99.0), 0.01) == 98.0
        with pytest.raises(DataError, match="0 values give no limit"):
            empirical_limit(np.zeros(0), 0.01)
        with pytest.raises(DataError, match="not finite"):
            empirical_limit(np.array([1.0, np.nan]), 0.01)
