# SPDX-License-Identifier: Apache-2.0
"""EWMA chart: its arithmetic, and its run length against Brook and Evans' Markov chain."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.agent.drift.kit import alarms, autoregressive, statistics

from fedmill_agent.drift.bootstrap import PATHS, Draws, threshold
from fedmill_agent.drift.ewma import WEIGHT, Ewma, moments, variance

STEPS = 801


def phi(values: np.ndarray) -> np.ndarray:
    """The normal distribution function."""
    from math import erf  # numpy has none

    return np.array([0.5 * (1.0 + erf(value / 2**0.5)) for value in values])


def run_length(limit: float, weight: float, shift: float = 0.0) -> float:
    """Average run length of a two-sided EWMA from 0, by a Markov chain (Brook and Evans 1972).

    ``limit`` is the largest absolute average.
    """
    width = 2.0 * limit / STEPS
    middles = -limit + width * (np.arange(STEPS) + 0.5)
    upper = (middles[None] + width / 2 - (1 - weight) * middles[:, None]) / weight - shift
    lower = (middles[None] - width / 2 - (1 - weight) * middles[:, None]) / weight - shift
    moves = (phi(upper.ravel()) - phi(lower.ravel())).reshape(STEPS, STEPS)
    lengths = np.linalg.solve(np.eye(STEPS) - moves, np.ones(STEPS))
    return float(lengths[STEPS // 2])


class TestArithmetic:
    def test_step_by_hand(self) -> None:
        """The average moves by its weight; the statistic is in variances of the average."""
        chart = Ewma(np.array([10.0, 0.0]), np.array([2.0, 1.0]), 0.5)
        state, reading = chart.step(chart.init(), np.array([14.0, -1.0]))
        assert state.tolist() == [1.0, -0.5]
        assert reading is not None
        assert (reading.statistic, reading.column) == (pytest.approx(1.0 / (0.5 / 1.5)), 0)

    def test_an_outlier_is_no_drift(self) -> None:
        """A single value counts as six deviations at most."""
        chart = Ewma(np.zeros(1), np.ones(1))
        state, _ = chart.step(chart.init(), np.array([1e9]))
        assert state.tolist() == [6.0 * WEIGHT]

    def test_constant_columns_are_not_divided_by_rounding(self) -> None:
        """They count as they are."""
        mean, scale = moments(np.full((10, 1), 1e8 + 0.1))
        assert scale.tolist() == [1.0]
        assert mean == pytest.approx(1e8 + 0.1)

    @given(
        st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30),
        st.floats(-1e3, 1e3),
        st.floats(0.1, 100.0),
    )
    def test_units_do_not_matter(self, values: list[float], offset: float, factor: float) -> None:
        """The same stream in another unit gives the same readings."""
        rows = np.array(values)[:, None]
        plain = Ewma(np.zeros(1), np.ones(1))
        other = Ewma(np.full(1, offset), np.full(1, factor))
        assert statistics(other, rows * factor + offset) == pytest.approx(
            statistics(plain, rows), rel=1e-6, abs=1e-6
        )


class TestRunLength:
    @pytest.mark.parametrize(("weight", "length"), [(0.1, 500.0), (0.05, 500.0)])
    def test_the_oracle_agrees_with_the_literature(self, weight: float, length: float) -> None:
        """Lucas and Saccucci 1990, table: L = 2.814 and 2.615 give 500."""
        wide = {0.1: 2.814, 0.05: 2.615}[weight]
        found = run_length(wide * variance(weight) ** 0.5, weight)
        assert found == pytest.approx(length, rel=0.01)

    def test_the_bootstrap_agrees_with_the_oracle(self) -> None:
        """From a long reference of independent rows, the wanted run length comes out."""
        rows = np.random.default_rng(3).normal(size=(4000, 1))
        chart, draws = Ewma.fit(rows), Draws(1)
        maxima = np.concatenate([chart.maxima(rows, draws, 100) for _ in range(4)])
        for wanted in (1000.0, 10_000.0):
            limit = threshold(maxima, chart.span, wanted)
            real = run_length((limit * variance(WEIGHT)) ** 0.5, WEIGHT)
            assert 0.6 * wanted < real < 2.5 * wanted

    def test_dependence_is_known(self) -> None:
        """Rows that resemble each other raise no more false alarms than others."""
        counts = []
        for seed in range(6):
            rows = autoregressive(np.random.default_rng(seed), 5500, 2, 0.7)
            chart, reference = Ewma.fit(rows[:500]), rows[:500]
            maxima = chart.maxima(reference, Draws(seed), PATHS)
            warn, alarm = (threshold(maxima, chart.span, each) for each in (200.0, 2000.0))
            counts.append(alarms(statistics(chart, rows[500:]), warn, alarm))
        independent = Ewma(np.zeros(2), np.ones(2))
        naive = alarms(statistics(independent, rows[500:]), 8.0, 12.0)
        assert np.mean(counts) < 6.0, "2.5 are expected"
        assert naive > 20, "limits for independent rows would cry wolf"
