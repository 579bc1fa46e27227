# SPDX-License-Identifier: Apache-2.0
"""Population stability index: known values, and the bins that it is of."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_agent.drift.psi import BINS, Stability, deciles, index, shares


def test_known_value() -> None:
    """(0.5, 0.5) against (0.6, 0.4): 0.1 ln 1.2 - 0.1 ln 0.8, the "some" of credit scoring."""
    found = index(np.array([0.5, 0.5]), np.array([0.6, 0.4]))
    assert found == pytest.approx(0.1 * np.log(1.2) - 0.1 * np.log(0.8))
    assert found == pytest.approx(0.04055, abs=1e-5)


@given(st.lists(st.floats(0.01, 1.0), min_size=2, max_size=8), st.integers(0, 10**6))
def test_it_is_a_distance(values: list[float], seed: int) -> None:
    """Nothing of a histogram and itself, the same both ways, never negative."""
    first = np.array(values) / sum(values)
    second = np.random.default_rng(seed).dirichlet(np.ones(len(values))) * 0.99
    second += 0.01 / len(values)
    assert index(first, first) == pytest.approx(0.0, abs=1e-12)
    assert index(first, second) == pytest.approx(float(index(second, first)))
    assert index(first, second) >= 0


def test_bins_hold_a_tenth_each() -> None:
    """Of the reference, half a row added to each."""
    rows = np.random.default_rng(0).normal(size=(1000, 2))
    found = shares(rows, deciles(rows))
    assert found.shape == (2, BINS)
    assert found == pytest.approx(np.full((2, BINS), 0.1), abs=1e-3)
    assert found.sum(1) == pytest.approx(1.0)


def test_empty_bins_are_no_infinity() -> None:
    """A value that the reference never had is far away, not endlessly."""
    test = Stability.fit(np.zeros((100, 1)), 20)
    state = test.init()
    reading = None
    for _ in range(20):
        state, reading = test.step(state, np.ones(1))
    assert reading is not None
    assert 1.0 < reading.statistic < 50.0


def test_classes_have_bins_of_their_own() -> None:
    """Edges between their positions."""
    rows = np.repeat([0.0, 1.0, 2.0], [60, 30, 10])[:, None]
    test = Stability.within(rows, np.array([[0.5, 1.5]]), 20)
    assert test.shares[0] == pytest.approx(np.array([60.5, 30.5, 10.5]) / 101.5)
    with_two, state = None, test.init()
    for _ in range(20):
        state, with_two = test.step(state, np.array([2.0]))
    assert with_two is not None
    assert with_two.statistic > 1.0
