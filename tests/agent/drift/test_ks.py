# SPDX-License-Identifier: Apache-2.0
"""Two-sample test: distances and exact tails against brute force."""

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_agent.drift.ks import Smirnov, critical, distances, scaled, tail_probability

VALUES = st.lists(st.integers(-5, 5), min_size=1, max_size=12)


def by_definition(reference: list[int], block: list[int]) -> float:
    """The largest difference of the two distribution functions over every value there is."""
    points = [*reference, *block]
    return max(
        abs(
            sum(each <= point for each in reference) / len(reference)
            - sum(each <= point for each in block) / len(block)
        )
        for point in points
    )


@given(VALUES, VALUES)
def test_distance_is_that_of_the_definition(reference: list[int], block: list[int]) -> None:
    """With ties, which sensors with few digits have."""
    found = distances(np.sort(np.array(reference, float))[:, None], np.array(block, float)[:, None])
    assert found[0] == pytest.approx(by_definition(reference, block))


@pytest.mark.parametrize(("count", "block"), [(3, 2), (5, 4), (6, 6), (8, 3)])
def test_tail_is_that_of_all_orders(count: int, block: int) -> None:
    """Every order of two samples is equally likely."""
    distant = []
    for chosen in combinations(range(count + block), block):
        mine = np.array(chosen, float)
        other = np.setdiff1d(np.arange(count + block), mine).astype(float)
        distant.append(distances(other[:, None], mine[:, None])[0])
    assert len(distant) == comb(count + block, block)
    for limit in sorted({round(each, 9) for each in distant}):
        share = np.mean([each >= limit - 1e-9 for each in distant])
        assert tail_probability(count, block, limit) == pytest.approx(share)


@pytest.mark.parametrize("tail", [0.2, 0.05, 0.01])
def test_critical_distance_holds_its_tail(tail: float) -> None:
    """And the next smaller one does not."""
    limit = critical(50, 20, tail)
    assert tail_probability(50, 20, limit) <= tail
    assert tail_probability(50, 20, limit - 0.02) > tail


def test_large_samples_follow_the_known_limit() -> None:
    """Kolmogorov's law: 1.358 / sqrt(nm / (n + m)) at 5 per cent."""
    limit = critical(1000, 800, 0.05)
    assert scaled(limit, 1000, 800) ** 0.5 == pytest.approx(1.358, rel=0.02)


def test_a_block_gives_one_reading() -> None:
    """And the next one begins empty."""
    test = Smirnov.fit(np.arange(100.0)[:, None], 20)
    state, readings = test.init(), []
    for value in range(40):
        state, reading = test.step(state, np.array([float(value)]))
        readings += [] if reading is None else [reading]
    assert len(readings) == 2
    assert len(state) == 0
    assert readings[0].statistic == pytest.approx(scaled(0.8, 100, 20))


def test_floor_falls_with_shorter_run_lengths() -> None:
    """More false alarms are bought with smaller changes."""
    test = Smirnov.fit(np.random.default_rng(0).normal(size=(200, 3)), 50)
    assert test.floor(1000.0) < test.floor(10_000.0)
