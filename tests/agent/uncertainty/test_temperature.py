# SPDX-License-Identifier: Apache-2.0
"""One number that makes probabilities say what they mean."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedmill_agent.probabilities import probabilities
from fedmill_agent.uncertainty.temperature import (
    COLDEST,
    HOTTEST,
    LEAST_WINDOWS,
    fit_temperature,
)


def drawn(
    seed: int, count: int, classes: int, scale: float
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits whose softmax is ``scale`` times too sure of the labels that are drawn with it."""
    generator = np.random.default_rng(seed)
    honest = generator.normal(0.0, 2.0, (count, classes))
    noise = generator.gumbel(size=(count, classes))  # the largest is drawn by the softmax
    return (honest * scale).astype(np.float32), (honest + noise).argmax(axis=1)


def smoothed_loss(
    logits: NDArray[np.float32], labels: NDArray[np.int64], temperature: float
) -> float:
    """Negative log-likelihood with Laplace's targets, straight from its definition."""
    count, classes = logits.shape
    targets = np.full((count, classes), 1.0 / (count + classes))
    targets[np.arange(count), labels] = (count + 1.0) / (count + classes)
    scaled = logits.astype(np.float64) / temperature
    logs = scaled - np.log(np.exp(scaled - scaled.max(1, keepdims=True)).sum(1, keepdims=True))
    return -float((targets * (logs - scaled.max(1, keepdims=True))).sum())


class TestFit:
    @pytest.mark.parametrize("scale", [0.25, 1.0, 3.0])
    def test_what_was_made_too_sure_is_found(self, scale: float) -> None:
        """Of many windows drawn by the softmax itself, the factor comes back."""
        logits, labels = drawn(1, 20_000, 4, scale)
        assert fit_temperature(logits, labels) == pytest.approx(scale, rel=0.05)

    @pytest.mark.parametrize("seed", range(5))
    def test_no_other_temperature_is_better(self, seed: int) -> None:
        """Brute force over a fine grid of temperatures."""
        logits, labels = drawn(seed, 60, 3, 2.0)
        found = fit_temperature(logits, labels)
        best = min(smoothed_loss(logits, labels, each) for each in np.geomspace(0.05, 20, 2000))
        assert smoothed_loss(logits, labels, found) <= best + 1e-6

    def test_few_windows_change_nothing(self) -> None:
        """A temperature of so few would be chance."""
        logits, labels = drawn(2, LEAST_WINDOWS - 1, 3, 3.0)
        assert fit_temperature(logits, labels) == 1.0

    def test_a_model_that_is_always_right_is_not_made_sure_without_limit(self) -> None:
        """By Laplace's rule it is as sure as (n + 1) / (n + 2), of two classes."""
        logits = np.tile(np.array([[1.0, 0.0]], np.float32), (98, 1))
        found = probabilities(logits, fit_temperature(logits, np.zeros(98, np.int64)))
        assert found[0, 0] == pytest.approx(99 / 100, abs=1e-6)

    def test_one_that_is_always_wrong_is_made_unsure(self) -> None:
        """As far as the limit goes; the predicted class stays."""
        logits = np.tile(np.array([[5.0, 0.0]], np.float32), (100, 1))
        assert fit_temperature(logits, np.ones(100, np.int64)) == pytest.approx(HOTTEST)

    def test_logits_that_are_all_the_same_change_nothing(self) -> None:
        """No temperature makes a difference."""
        logits = np.zeros((100, 3), np.float32)
        assert fit_temperature(logits, np.zeros(100, np.int64)) == 1.0

    @given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e6))
    def test_it_stays_in_its_bounds(self, seed: int, scale: float) -> None:
        """Whatever the model says."""
        logits, labels = drawn(seed, 40, 3, scale)
        assert COLDEST * 0.999 <= fit_temperature(logits, labels) <= HOTTEST * 1.001
