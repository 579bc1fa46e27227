# SPDX-License-Identifier: Apache-2.0
"""Sets and intervals that hold the truth as often as they say."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_agent.probabilities import probabilities
from fedmill_agent.uncertainty import lac
from fedmill_agent.uncertainty.conformal import quantile
from fedmill_agent.uncertainty.lac import threshold
from fedmill_agent.uncertainty.residual import LEAST_OF_RANGE, Widths, interval, widths

COVERAGES = st.floats(0.05, 0.99)


def plausible(logits: np.ndarray, least: float) -> np.ndarray:
    """The set of each of n windows, bool (n, classes)."""
    sets = np.zeros(logits.shape, np.bool_)
    for place, shares in enumerate(probabilities(logits).tolist()):
        sets[place, lac.plausible(shares, least)] = True
    return sets


def intervals(predicted: np.ndarray, given: Widths) -> np.ndarray:
    """Lower and upper ends (2, n)."""
    return np.array([interval(value, given) for value in predicted.tolist()]).T


def bound(trials: int, share: float) -> float:
    """Five standard deviations of a share that is counted in so many trials."""
    return 5.0 * math.sqrt(share * (1.0 - share) / trials)


class TestQuantile:
    @given(st.lists(st.integers(0, 8), min_size=2, max_size=30), COVERAGES)
    def test_of_any_n_plus_1_scores_enough_conform_to_the_others(
        self, scores: list[int], coverage: float
    ) -> None:
        """That is all of the theorem: which of them is the new one is a matter of chance."""
        values = np.array(scores, np.float64)
        conform = [
            value <= quantile(np.delete(values, place), coverage)
            for place, value in enumerate(values)
        ]
        assert np.mean(conform) >= coverage - 1e-9

    @given(st.integers(1, 40), COVERAGES)
    def test_of_different_scores_no_more_than_needed(self, count: int, coverage: float) -> None:
        """Coverage exceeds what was asked for by less than one in n + 1."""
        values = np.random.default_rng(count).permutation(count + 1).astype(np.float64)
        conform = [
            value <= quantile(np.delete(values, place), coverage)
            for place, value in enumerate(values)
        ]
        assert np.mean(conform) <= coverage + 1.0 / (count + 1) + 1e-9

    @pytest.mark.parametrize(("count", "place"), [(9, 8), (19, 17), (99, 89)])
    def test_closed_form(self, count: int, place: int) -> None:
        """The ceil(0.9 (n + 1))-th smallest."""
        values = np.random.default_rng(0).permutation(count).astype(np.float64)
        assert quantile(values, 0.9) == place

    @pytest.mark.parametrize("count", [0, 1, 8])
    def test_too_few_promise_nothing(self, count: int) -> None:
        """Nine windows are the least for nine in ten."""
        assert quantile(np.zeros(count), 0.9) == math.inf
        assert quantile(np.zeros(9), 0.9) == 0.0


class TestSets:
    def draw(self, generator: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Logits of a model that is far too sure, and the true classes."""
        honest = generator.normal(0.0, 1.5, (count, 5))
        labels = (honest + generator.gumbel(size=honest.shape)).argmax(axis=1)
        return (honest * 4.0).astype(np.float32), labels

    @pytest.mark.parametrize("coverage", [0.8, 0.9])
    def test_they_hold_the_truth_as_often_as_asked_for(self, coverage: float) -> None:
        """Over calibrations and windows drawn anew, within the bounds of chance."""
        generator = np.random.default_rng(3)
        hits, trials = 0, 2000
        for _ in range(trials):
            logits, labels = self.draw(generator, 51)
            least = threshold(logits[:50], labels[:50], coverage)
            hits += bool(plausible(logits[50:], least)[0, labels[50]])
        assert hits / trials >= coverage - bound(trials, coverage)
        assert hits / trials <= coverage + 1 / 51 + bound(trials, coverage)

    def test_the_predicted_class_is_in_each(self) -> None:
        """Even where the threshold excludes all of them."""
        logits, _ = self.draw(np.random.default_rng(4), 200)
        sets = plausible(logits, 2.0)
        assert (sets.sum(axis=1) == 1).all()
        assert sets[np.arange(200), logits.argmax(axis=1)].all()

    def test_many_windows_at_a_time(self) -> None:
        """The same sets, whatever the threshold."""
        logits, labels = self.draw(np.random.default_rng(7), 200)
        for least in (-math.inf, 0.0, threshold(logits, labels, 0.9), 0.7, 2.0):
            together = lac.reaching(probabilities(logits), least)
            np.testing.assert_array_equal(together, plausible(logits, least))

    def test_brute_force(self) -> None:
        """A class is plausible where no smaller share of true classes was less probable."""
        logits, labels = self.draw(np.random.default_rng(5), 99)
        true = sorted(probabilities(logits)[np.arange(99), labels])
        assert threshold(logits, labels, 0.9) == true[9]  # 90 of 99 are as large or larger

    def test_too_few_windows_leave_every_class_plausible(self) -> None:
        """Nothing can be excluded."""
        logits, labels = self.draw(np.random.default_rng(6), 8)
        assert plausible(logits, threshold(logits, labels, 0.9)).all()


class TestIntervals:
    def test_they_hold_the_truth_as_often_as_asked_for(self) -> None:
        """Whatever the distribution of errors: here with a heavy tail, and to one side."""
        generator = np.random.default_rng(7)
        hits, trials = 0, 2000
        for _ in range(trials):
            predicted = generator.uniform(0, 100, 41)
            true = predicted + generator.standard_cauchy(41) ** 2
            low, high = intervals(predicted[40:], widths(predicted[:40], true[:40], 0.9))
            hits += bool(low[0] <= true[40] <= high[0])
        assert 0.9 - bound(trials, 0.9) <= hits / trials <= 0.9 + 1 / 41 + bound(trials, 0.9)

    def test_each_range_has_its_own_width(self) -> None:
        """Near its end a life is known better, and so it says; coverage holds in each range."""
        generator = np.random.default_rng(8)
        true = generator.uniform(0, 100, 8 * LEAST_OF_RANGE)
        predicted = true + generator.normal(0, 1 + true / 5)
        found = widths(predicted, true, 0.9)
        assert len(found.halves) == 8
        assert found.halves[0] < 0.3 * found.halves[-1]
        fresh = generator.uniform(0, 100, 20_000)
        said = fresh + generator.normal(0, 1 + fresh / 5)
        low, high = intervals(said, found)
        held = (low <= fresh) & (fresh <= high)
        for place in range(8):
            inside = np.searchsorted(found.edges, said, side="right") == place
            assert held[inside].mean() > 0.75  # 50 windows: by the beta distribution, 3 deviations

    def test_few_windows_have_one_width(self) -> None:
        """The quantile of all absolute residuals."""
        true, predicted = np.arange(19.0), np.zeros(19)
        found = widths(predicted, true, 0.9)
        assert (found.edges, found.halves) == ((), (17.0,))
        low, high = intervals(np.array([5.0], np.float32), found)
        assert (low[0], high[0]) == (-12.0, 22.0)

    def test_a_model_that_always_says_the_same(self) -> None:
        """Its ranges are one, whatever their number: no edge stands twice."""
        found = widths(np.full(400, 3.0), np.arange(400.0), 0.9)
        low, high = intervals(np.full(2, 3.0), found)
        assert np.isfinite([low, high]).all()
        assert len(found.edges) <= 1
