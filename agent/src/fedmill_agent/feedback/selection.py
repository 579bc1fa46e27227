# SPDX-License-Identifier: Apache-2.0
"""Which of the stored windows a head is fitted to: the newest, and a sample of all before.

The sample is drawn by a hash of each window's number (bottom-k: Cohen & Kaplan, "Summarizing Data
using Bottom-k Sketches", PODC 2007). So it is uniform, changes little while the store grows, and is
the same after a restart without a word on disk.
"""

from collections.abc import Sequence
from heapq import nsmallest
from typing import NamedTuple, Self

import numpy as np

from fedmill_agent.store.portions import Labelled

VALUES = 1 << 18
"""Features that are in memory, in all."""
_MULTIPLIER, _BITS = 0x9E3779B97F4A7C15, 64


class Bounds(NamedTuple):
    """How many windows: the newest labelled ones, of all other labelled ones, and without label."""

    recent: int = 500
    sample: int = 500
    others: int = 250

    @classmethod
    def of(cls, width: int) -> Self:
        """For so many features of each."""
        most = cls()
        share = min(1.0, VALUES / (sum(most) * width))
        return cls(*(max(10, int(share * each)) for each in most))


class Truth(NamedTuple):
    """What is known of a window: its class, or its number; 0 where there is none."""

    text: str
    number: float


class Selection(NamedTuple):
    """Numbers of windows in the store.

    Attributes:
        labelled: with their truth, oldest first.
        others: some without one.
        known: how many have a truth, those that were not chosen as well.
        unlabelled: all without one.
    """

    labelled: dict[int, Truth]
    others: list[int]
    known: int
    unlabelled: frozenset[int] = frozenset()


def select(windows: Labelled, classes: Sequence[str], bounds: Bounds = Bounds()) -> Selection:  # noqa: B008  it cannot change
    """Of all training windows those that count; ``classes`` are the job's, empty for a number."""
    measured = np.isfinite(windows.numbers)
    numbers = np.where(measured, windows.numbers, 0.0).tolist()  # two NaN would always differ
    truths = {
        each: Truth(text, number)
        for each, text, number in zip(windows.ids, windows.texts, numbers, strict=True)
    }
    if classes:
        known = sorted(each for each, truth in truths.items() if truth.text in classes)
    else:
        known = sorted(np.array(windows.ids, np.int64)[measured].tolist())
    before, newest = known[: -bounds.recent], known[-bounds.recent :]
    chosen = sorted([*sample(before, bounds.sample), *newest])
    unknown = frozenset(truths.keys() - set(known))
    labelled = {each: truths[each] for each in chosen}
    return Selection(labelled, sorted(sample(list(unknown), bounds.others)), len(known), unknown)


def sample(ids: Sequence[int], most: int) -> list[int]:
    """At most so many of ``ids``, each as likely as any other, and always the same ones."""
    return nsmallest(most, ids, key=_drawn)


def _drawn(number: int) -> int:
    """A number of 64 bits that looks random: multiplicative hashing (Knuth), mixed twice."""
    mixed = number * _MULTIPLIER % (1 << _BITS)
    mixed = (mixed ^ mixed >> 32) * _MULTIPLIER % (1 << _BITS)
    return mixed ^ mixed >> 29
