# SPDX-License-Identifier: Apache-2.0
"""Windows with their ground truth: labels of recordings, joined by run and time."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Task = Literal["classification", "regression", "reconstruction"]


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Labelled windows in the order of (run, end_ns).

    Attributes:
        inputs: float32 (n, signals, length), canonical units.
        texts: class of each window, empty where its label is a number.
        numbers: float64 (n,), value at the window's end; NaN where its label is a class.
        runs: run of each window.
        units: machine or part of each window.
        end_ns: int64 (n,), source time of the last sample, ns UTC.
    """

    inputs: NDArray[np.float32]
    texts: list[str]
    numbers: NDArray[np.float64]
    runs: list[str]
    units: list[str]
    end_ns: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.texts)


class WindowRow(NamedTuple):
    """A stored window without its values; ``target`` is what a forecast should have said."""

    id: int
    run: str
    unit: str
    start_ns: int
    end_ns: int
    target: float | None = None


class LabelRow(NamedTuple):
    """A stored label of a recording."""

    run: str
    start_ns: int
    end_ns: int
    text: str
    start_value: float
    end_value: float


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Ground truth of n windows.

    Attributes:
        texts: (n,), empty where there is no class.
        numbers: (n,), NaN where there is no number.
        conflicting: (n,), whether labels that fit equally well say different things.
    """

    texts: NDArray[np.object_]
    numbers: NDArray[np.float64]
    conflicting: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        """Nothing conflicts yet."""
        object.__setattr__(self, "conflicting", np.zeros(len(self.texts), np.bool_))

    def known(self, task: Task | None) -> NDArray[np.bool_]:
        """Which windows (n,) have a label for ``task``, or any label if it is None.

        A reconstruction wants none, so that it can learn from all.
        """
        if task == "reconstruction":
            return np.ones(len(self.texts), np.bool_)
        classified: NDArray[np.bool_] = self.texts != ""
        measured = ~np.isnan(self.numbers)
        if task is None:
            return classified | measured
        return classified if task == "classification" else measured


def join(windows: list[WindowRow], labels: Iterable[LabelRow]) -> Truth:
    """Ground truth of ``windows``, sorted by (run, end_ns), from ``labels`` in order of arrival.

    A class must cover the whole window. A number is interpolated at the window's end. Where labels
    disagree, the one that arrived last holds.
    """
    starts = np.array([window.start_ns for window in windows], np.int64)
    ends = np.array([window.end_ns for window in windows], np.int64)
    texts = np.full(len(windows), "", np.object_)
    numbers = np.full(len(windows), np.nan)
    places = _places(windows)
    for label in labels:
        if label.run not in places:
            continue
        first, last = places[label.run]
        low = first + int(np.searchsorted(ends[first:last], label.start_ns, "left"))
        high = first + int(np.searchsorted(ends[first:last], label.end_ns, "right"))
        if label.text:
            texts[low:high][starts[low:high] >= label.start_ns] = label.text
        else:
            numbers[low:high] = at_ends(ends[low:high], label)
    return Truth(texts, numbers)


def _places(windows: list[WindowRow]) -> dict[str, tuple[int, int]]:
    """First and one past the last position of each run."""
    places: dict[str, tuple[int, int]] = {}
    for position, window in enumerate(windows):
        first, _ = places.get(window.run, (position, position))
        places[window.run] = first, position + 1
    return places


def at_ends(times: NDArray[np.int64], label: LabelRow) -> NDArray[np.float64]:
    """The number that ``label`` gives to each of ``times`` (n,), ns."""
    span = label.end_ns - label.start_ns
    share = (times - label.start_ns) / span if span else np.ones(len(times))
    return label.start_value * (1.0 - share) + label.end_value * share
