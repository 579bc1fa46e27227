# SPDX-License-Identifier: Apache-2.0
"""The bootstrap makes streams like the reference, and thresholds from the largest of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.agent.drift.kit import autoregressive

from fedmill_agent.drift.bootstrap import (
    LONGEST_MEMORY,
    Draws,
    block_length,
    recollection,
    threshold,
)


class TestWalk:
    @pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
    def test_streams_have_mean_spread_and_memory_of_the_reference(self, memory: float) -> None:
        """Each column its own, however long the stream."""
        rows = 3.0 + 2.0 * autoregressive(np.random.default_rng(1), 3000, 2, memory)
        made = np.stack(list(Draws(1).walk(rows, 40, 500)))
        assert made.shape == (500, 40, 2)
        assert made.mean((0, 1)) == pytest.approx(rows.mean(0), abs=0.3)
        assert made.std((0, 1)) == pytest.approx(rows.std(0), rel=0.15)
        centred = made - made.mean((0, 1))
        again = (centred[1:] * centred[:-1]).mean() / (centred**2).mean()
        assert again == pytest.approx(memory, abs=0.06)

    def test_columns_stay_together(self) -> None:
        """What happens in one signal happens in the others at the same time."""
        one = autoregressive(np.random.default_rng(2), 1000, 1, 0.6)
        made = np.stack(list(Draws(1).walk(np.hstack([one, -one]), 10, 100)))
        assert np.corrcoef(made[..., 0].ravel(), made[..., 1].ravel())[0, 1] < -0.99

    def test_classes_stay_classes(self) -> None:
        """Discrete columns are drawn, never mixed."""
        rows = np.repeat([0.0, 2.0, 1.0], 50)[:, None]
        made = np.stack(list(Draws(1, discrete=True).walk(rows, 5, 200)))
        assert set(made.round(9).ravel()) <= {0.0, 1.0, 2.0}

    def test_the_same_seed_draws_the_same(self) -> None:
        """Thresholds are the same after a restart."""
        rows = np.random.default_rng(0).normal(size=(50, 3))
        first, second = (np.stack(list(Draws(7).walk(rows, 3, 20))) for _ in range(2))
        assert np.array_equal(first, second)

    @given(st.integers(2, 60), st.integers(1, 4), st.floats(-1e6, 1e6), st.floats(0.0, 1e3))
    def test_any_reference_gives_numbers(
        self, count: int, columns: int, middle: float, spread: float
    ) -> None:
        """Constant columns and short references, too."""
        rows = np.random.default_rng(count).normal(middle, spread, (count, columns))
        made = np.stack(list(Draws(1).walk(rows, 2, 30)))
        assert np.isfinite(made).all()
        assert np.abs(made - rows.mean(0)).max() <= 1e3 * np.ptp(rows, 0).max() + 1e-3


class TestMemory:
    def test_chance_is_no_memory(self) -> None:
        """An autocorrelation within two standard errors counts as none."""
        rows = np.random.default_rng(0).normal(size=(400, 20))
        assert (recollection(rows) == 0.0).mean() >= 0.9

    def test_is_never_endless(self) -> None:
        """A line is not a random walk."""
        assert recollection(np.arange(100.0)[:, None]).max() <= LONGEST_MEMORY

    def test_blocks_grow_with_it(self) -> None:
        """And are at most a fifth of the reference."""
        generator = np.random.default_rng(1)
        lengths = [
            block_length(autoregressive(generator, 1000, 1, memory)) for memory in (0.0, 0.8, 0.95)
        ]
        assert lengths[0] < lengths[1] < lengths[2] <= 200
        assert block_length(np.zeros((8, 1))) == 1


def test_threshold_of_known_tails() -> None:
    """Of exponential statistics the right threshold is a logarithm."""
    generator = np.random.default_rng(0)
    maxima = generator.exponential(size=(4000, 100)).max(1)
    for length in (1e3, 1e5):
        assert threshold(maxima, 100, length) == pytest.approx(np.log(length), rel=0.05)
