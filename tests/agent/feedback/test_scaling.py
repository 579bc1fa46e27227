# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from fedmill_agent.feedback import temperature
from fedmill_agent.feedback.scaling import Scaling


class TestScaling:
    def test_rows_are_of_unit_size_around_zero(self) -> None:
        """Whatever the features' own place and size."""
        features = 1000.0 + 40.0 * np.random.default_rng(0).normal(size=(50, 6))
        rows = Scaling.of(features).rows(features)
        assert rows[:, :-1].mean(0) == pytest.approx(0.0, abs=1e-12)
        assert np.square(rows[:, :-1]).sum(1).mean() == pytest.approx(1.0)
        assert (rows[:, -1] == 1.0).all()

    def test_a_layer_says_the_same_in_both_forms(self) -> None:
        """And comes back as it was."""
        random = np.random.default_rng(1)
        features, layer = 5.0 + random.normal(size=(20, 6)), random.normal(size=(7, 3))
        scaling = Scaling.of(features)
        inward = scaling.inward(layer)
        np.testing.assert_allclose(
            scaling.rows(features) @ inward, features @ layer[:-1] + layer[-1], atol=1e-12
        )
        np.testing.assert_allclose(scaling.outward(inward), layer, atol=1e-12)

    def test_features_that_never_change(self) -> None:
        """A dead backbone divides by nothing."""
        rows = Scaling.of(np.ones((3, 2))).rows(np.ones((3, 2)))
        np.testing.assert_array_equal(rows, [[0, 0, 1]] * 3)


class TestFactor:
    def test_one_where_the_model_is_right(self) -> None:
        """Being sure and right is no fault, and it never becomes surer."""
        logits = np.eye(3) * 8.0
        assert temperature.factor(logits, np.arange(3), np.ones(3)) == 1.0
        assert temperature.factor(0.1 * logits, np.arange(3), np.ones(3)) == 1.0

    def test_falls_where_it_is_sure_and_wrong(self) -> None:
        """The more labels say so the further, down to a bound."""
        logits, wrong = np.array([[40.0, 0.0]]), np.array([1])
        found = [
            temperature.factor(np.repeat(logits, n, 0), np.repeat(wrong, n), np.ones(n))
            for n in (1, 10, 1000)
        ]
        assert 1.0 > found[0] > found[1] > found[2] >= 0.03 - 1e-12

    def test_no_labels_change_nothing(self) -> None:
        """The prior alone."""
        empty = np.zeros((0, 3)), np.zeros(0, np.intp), np.zeros(0)
        assert temperature.factor(*empty) == 1.0
