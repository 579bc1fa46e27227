# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from fedmill_agent.feedback.selection import VALUES, Bounds, Truth, sample, select
from fedmill_agent.store.portions import Labelled

CLASSES = ["good", "worn"]
RECENT, SAMPLE, OTHERS = Bounds()


def windows(texts: list[str], numbers: list[float] | None = None) -> Labelled:
    """Windows from 1 on, one for each text."""
    numbers = numbers or [np.nan] * len(texts)
    ids = list(range(1, len(texts) + 1))
    return Labelled(ids, texts, np.array(numbers))


class TestSelect:
    def test_few_are_taken_all_oldest_first(self) -> None:
        """Whatever the order in which the store tells them."""
        told = windows(["good", "", "worn", "good"])
        mixed = Labelled(told.ids[::-1], told.texts[::-1], told.numbers[::-1])
        found = select(mixed, CLASSES)
        assert list(found.labelled) == [1, 3, 4]
        assert found.labelled[3].text == "worn"
        assert (found.others, found.known, found.unlabelled) == ([2], 3, frozenset({2}))

    def test_classes_that_the_job_does_not_know_are_no_labels(self) -> None:
        """Nor are numbers, where it wants classes."""
        found = select(windows(["good", "melted", ""], [np.nan, np.nan, 3.0]), CLASSES)
        assert list(found.labelled) == [1]
        assert found.others == [2, 3]

    def test_numbers(self) -> None:
        """For a job without classes."""
        found = select(windows(["", "", "good"], [1.5, np.nan, np.nan]), [])
        assert found.labelled == {1: Truth("", 1.5)}
        assert found.others == [2, 3]

    def test_many_are_bounded_with_the_newest_in_full(self) -> None:
        """Of all before them a sample, which is evenly spread."""
        found = select(windows(["good"] * 4000 + [""] * 1000), CLASSES)
        chosen = list(found.labelled)
        assert len(chosen) == RECENT + SAMPLE
        assert chosen[-RECENT:] == list(range(3501, 4001))
        assert chosen == sorted(chosen)
        old = np.array(chosen[:SAMPLE])
        assert 0.4 < (old <= 1750).mean() < 0.6
        assert len(found.others) == OTHERS
        assert found.known == 4000

    @pytest.mark.parametrize("width", [1, 64, 512, 4096])
    def test_wide_features_take_no_more_memory(self, width: int) -> None:
        """Fewer windows then, but always some of each kind."""
        bounds = Bounds.of(width)
        assert min(bounds) >= 10
        assert sum(bounds) * width <= max(VALUES, 30 * width)
        found = select(windows(["good"] * 4000 + [""] * 1000), CLASSES, bounds)
        assert len(found.labelled) == bounds.recent + bounds.sample
        assert len(found.others) == bounds.others

    def test_a_growing_store_changes_little(self) -> None:
        """Features of what stays chosen need not be computed again."""
        before, after = (
            set(select(windows([""] * count), CLASSES).others) for count in (2000, 2100)
        )
        assert len(before & after) > 0.85 * OTHERS


class TestSample:
    def test_same_again_and_bounded(self) -> None:
        """It is decided by the numbers alone, in whatever order they come."""
        ids = list(range(1000))
        assert sample(ids, 50) == sample(ids[::-1], 50)
        assert sorted(sample(ids[:20], 50)) == ids[:20]

    def test_without_one_all_others_stay(self) -> None:
        """A window that goes makes room for one more, and moves no other."""
        ids = list(range(1000))
        chosen = sample(ids, 50)
        without = sample([each for each in ids if each != chosen[10]], 50)
        assert set(chosen) - {chosen[10]} <= set(without)
