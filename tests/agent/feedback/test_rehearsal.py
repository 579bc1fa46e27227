# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fedmill_agent.feedback import rehearsal


class TestRehearsed:
    def test_classes_without_labels_weigh_as_much_as_one_with(self) -> None:
        """Twelve labels of class 0, and forty windows that the head calls 1 or 2."""
        seen = np.array([1] * 30 + [2] * 10)
        weights = rehearsal.rehearsed(seen, np.array([12.0, 0.0, 0.0]))
        assert weights[seen == 1].sum() == pytest.approx(12.3)
        assert weights[seen == 2].sum() == pytest.approx(10.0)  # no window counts more than one

    def test_balanced_labels_leave_little(self) -> None:
        """What people have said counts more than what the head said before."""
        weights = rehearsal.rehearsed(np.array([0, 0, 0, 1, 1, 1]), np.array([20.0, 20.0]))
        assert weights.sum() == pytest.approx(0.6)

    def test_no_labels_and_no_windows(self) -> None:
        """Both are possible."""
        assert rehearsal.rehearsed(np.array([0, 1]), np.zeros(2)).sum() == pytest.approx(0.6)
        assert len(rehearsal.rehearsed(np.zeros(0, np.intp), np.array([3.0, 0.0]))) == 0

    @given(arrays.arrays(np.intp, st.integers(0, 50), elements=st.integers(0, 4)))
    def test_none_counts_more_than_an_example(self, seen: np.ndarray) -> None:
        """Nor less than nothing."""
        weights = rehearsal.rehearsed(seen, np.array([30.0, 2.0, 0.0, 0.0, 1.0]))
        assert ((weights >= 0.0) & (weights <= 1.0)).all()


class TestEvened:
    def test_few_count_in_full(self) -> None:
        """As labels usually come."""
        classes = np.array([0] * 20 + [1] * 5)
        np.testing.assert_array_equal(rehearsal.evened(classes, np.ones(25), 3), np.ones(25))

    def test_a_crowd_is_bounded(self) -> None:
        """A thousand labels of one class count twenty and twice the mean of all classes."""
        classes = np.array([0] * 1000 + [1] * 8)
        weights = rehearsal.evened(classes, np.ones(1008), 10)
        assert weights[classes == 0].sum() == pytest.approx(20 + 2 * 100.8)
        assert (weights[classes == 1] == 1.0).all()

    def test_totals(self) -> None:
        """By class, also of those that never come."""
        found = rehearsal.totals(np.array([2, 0, 2]), np.array([0.5, 1.0, 1.0]), 4)
        np.testing.assert_array_equal(found, [1.0, 0.0, 1.5, 0.0])
