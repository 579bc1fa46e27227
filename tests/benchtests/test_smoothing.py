# SPDX-License-Identifier: Apache-2.0
"""Causal means look at no row that is still to come."""

import numpy as np
import pytest
from tests.bench.skab import windows_of
from tests.bench.smoothing import causal_mean


def test_by_hand() -> None:
    """The first row stands for what was before it."""
    rows = np.array([[3.0], [6.0], [9.0], [0.0]])
    assert causal_mean(rows, 3).ravel().tolist() == [3.0, 4.0, 6.0, 5.0]
    assert causal_mean(rows, 1).tolist() == rows.tolist()


def test_the_future_changes_nothing() -> None:
    """Rows after one of them are not in its mean."""
    rows = np.random.default_rng(1).standard_normal((50, 3))
    later = rows.copy()
    later[30:] += 100.0
    assert np.array_equal(causal_mean(rows, 7)[:30], causal_mean(later, 7)[:30])


def test_windows_have_the_same_means() -> None:
    """What a federation is fed with is what the bench judges row by row."""
    rows = np.random.default_rng(2).standard_normal((20, 2))
    assert windows_of(rows, 5).mean(2) == pytest.approx(causal_mean(rows, 5), abs=1e-6)
