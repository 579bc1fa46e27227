# SPDX-License-Identifier: Apache-2.0
"""The agent's own windows, a few at a time: some to calibrate by, others to judge by."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.store.portions import spread
from fedmill_agent.store.reader import WindowReader
from fedmill_shared.errors import ModelError
from fedmill_shared.job import Job

MOST_WINDOWS = 512
"""That scales are taken from, and as many that decide."""
FEWEST_WINDOWS = 32
"""Fewer say nothing about what a machine does."""


@dataclass(frozen=True, slots=True, eq=False)
class Portion:
    """Some windows: values float32 (n, signals, length), and their truth where it is known.

    Texts and numbers are (n,), as in `Dataset`; both are empty where nobody knows any truth.
    """

    inputs: NDArray[np.float32]
    texts: list[str]
    numbers: NDArray[np.float64]


class OwnWindows:
    """Owns nothing; chooses windows of a store that another thread writes.

    Attributes:
        labelled: whether those that judge have a truth. They are then validation windows; else they
            are training windows, every second one, and the others calibrate.
    """

    def __init__(self, job: Job, path: Path) -> None:
        """Choose among the windows at ``path``.

        Raises:
            StoreError: the store cannot be read.
        """
        self._path = path
        with WindowReader(path) as reader:
            found = reader.some_windows("train", most=2 * MOST_WINDOWS)
            task = job.job.task
            truths = reader.labelled_windows("validation", task=task, most=MOST_WINDOWS)
        self.labelled = len(truths) >= max(1, job.serving.min_labels)
        self._calibrating = found[0::2]
        self._judging = truths.ids if self.labelled else found[1::2]
        self._places = {each: place for place, each in enumerate(self._judging)}
        self._texts, self._numbers = truths.texts, truths.numbers
        if not self.labelled:
            self._texts, self._numbers = [], np.empty(0)

    @property
    def enough(self) -> bool:
        """Whether there are windows enough for both."""
        few = 1 if self.labelled else FEWEST_WINDOWS
        return len(self._calibrating) >= FEWEST_WINDOWS and len(self._judging) >= few

    def thin(self, most: int) -> None:
        """Keep ``most`` of either kind, evenly over all of them."""
        self._calibrating = _evenly(self._calibrating, most)
        self._judging = _evenly(self._judging, most)

    def calibrating(self) -> Iterator[NDArray[np.float32]]:
        """Windows (n, signals, length) to take scales from.

        Raises:
            StoreError: the store cannot be read.
            ModelError: the store has given all of them up.
        """
        for _, values in self._portions(self._calibrating, "calibrate"):
            yield values

    def judging(self) -> Iterator[Portion]:
        """Windows that scales were not taken from.

        Raises:
            StoreError: the store cannot be read.
            ModelError: the store has given all of them up.
        """
        for ids, values in self._portions(self._judging, "compare"):
            places = [self._places[each] for each in ids] if self.labelled else []
            texts = [self._texts[place] for place in places]
            yield Portion(values, texts, self._numbers[places])

    def _portions(
        self, ids: Sequence[int], what: str
    ) -> Iterator[tuple[Sequence[int], NDArray[np.float32]]]:
        """Those of the windows ``ids`` that are still there; the store is not held meanwhile."""
        none = True
        with WindowReader(self._path) as reader:
            for portion in reader.portions(ids):
                none = False
                yield portion
        if none:
            raise ModelError(f"int8: the windows to {what} by are gone")


def _evenly(ids: list[int], most: int) -> list[int]:
    return [ids[place] for place in spread(len(ids), most)]
