# SPDX-License-Identifier: Apache-2.0
"""Multivariate chart: shrinkage against the paper's formula, whitening, and what it notices."""

import numpy as np
import pytest
from tests.agent.drift.kit import statistics

from fedmill_agent.drift.bootstrap import Draws, threshold
from fedmill_agent.drift.hotelling import DIRECTIONS, Hotelling, shrunk, whitening


def by_the_paper(centred: np.ndarray) -> np.ndarray:
    """Ledoit and Wolf 2004, section 3.2, sum by sum."""
    count, width = centred.shape
    sample = sum(np.outer(row, row) for row in centred) / count
    middle = np.trace(sample) / width
    apart = np.square(sample - middle * np.eye(width)).sum() / width
    error = sum(np.square(np.outer(row, row) - sample).sum() / width for row in centred) / count**2
    error = min(error, apart)
    return error / apart * middle * np.eye(width) + (apart - error) / apart * sample


@pytest.mark.parametrize(("count", "width"), [(10, 3), (20, 40), (200, 5)])
def test_shrinkage_is_that_of_the_paper(count: int, width: int) -> None:
    """With fewer rows than columns, too."""
    generator = np.random.default_rng(count)
    rows = generator.normal(size=(count, width)) * generator.uniform(0.5, 3.0, width)
    centred = rows - rows.mean(0)
    assert shrunk(centred) == pytest.approx(by_the_paper(centred), rel=1e-9, abs=1e-12)


def test_whitening_makes_white() -> None:
    """Columns that go together become independent, with variance 1."""
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(5000, 4)) @ generator.normal(size=(4, 4))
    centred = rows - rows.mean(0)
    white = centred @ whitening(centred)
    assert np.cov(white.T) == pytest.approx(np.eye(4), abs=0.06)


def test_a_wide_model_costs_no_more() -> None:
    """Only its largest directions are looked at; constant features have none."""
    rows = np.zeros((300, 200))
    rows[:, :50] = np.random.default_rng(0).normal(size=(300, 50))
    chart = Hotelling.fit(rows)
    assert chart.whitening.shape == (200, DIRECTIONS)
    assert chart.init().shape == (DIRECTIONS,)
    assert np.isfinite(chart.step(chart.init(), rows[0])[0]).all()


def test_constant_features_are_quiet() -> None:
    """A model whose features do not move says nothing."""
    chart = Hotelling.fit(np.ones((100, 3)))
    assert statistics(chart, np.ones((50, 3))) == [0.0] * 50


def test_a_change_across_the_correlation_is_seen_first() -> None:
    """What each column by itself would call usual."""
    generator = np.random.default_rng(1)
    common = generator.normal(size=(1500, 1))
    rows = np.hstack([common, common]) + 0.1 * generator.normal(size=(1500, 2))
    chart, reference = Hotelling.fit(rows[:500]), rows[:500]
    limit = threshold(chart.maxima(reference, Draws(1), 100), chart.span, 10_000.0)
    assert max(statistics(chart, rows[500:1000])) < limit
    across = rows[1000:] + np.array([0.3, -0.3])
    assert max(statistics(chart, across)[:60]) > limit
