# SPDX-License-Identifier: Apache-2.0
"""Which windows are held out: decided once for each unit, run or block of time, and remembered.

Windows of one unit resemble each other, and overlapping windows share samples. A held-out score is
worth something only if neither happens across splits.
"""

from collections.abc import Callable, Mapping
from typing import Literal, Protocol

from fedmill_shared.errors import JobError
from fedmill_shared.job import Evaluation
from fedmill_shared.signals.windows import Window

StoredSplit = Literal["train", "validation", "test"]
SPLITS: tuple[StoredSplit, ...] = ("train", "validation", "test")
BLOCK_WINDOWS = 8
_CYCLE = 1000  # blocks after which the sequence of splits repeats

Choice = Callable[[Mapping[StoredSplit, int]], StoredSplit]


class SplitMemory(Protocol):
    """What remembers decisions over restarts; the window store does."""

    def decide(self, kind: str, name: str, choose: Choice) -> StoredSplit:
        """The split of ``name``; ``choose`` is asked once, with the decisions of this kind."""
        ...

    def origin(self, run: str, start_ns: int) -> int:
        """The ``start_ns`` that was given for ``run`` the first time."""
        ...


class SplitPolicy:
    """Decides the split of windows whose source leaves it to the job's ``[evaluation]``.

    ``unit`` and ``run``: each new one goes as a whole to the split that is furthest below its
    share of those seen so far. ``block``: a run is divided into blocks as long as
    ``block_windows`` windows, each followed by a guard as long as one window; windows that do not
    lie inside one block belong to no split.
    """

    def __init__(
        self,
        memory: SplitMemory,
        evaluation: Evaluation,
        *,
        window_ns: int,
        block_windows: int = BLOCK_WINDOWS,
    ) -> None:
        """``window_ns`` is the duration of one window: length times sample period, ns.

        Raises:
            JobError: the shares leave nothing to train on.
        """
        self._memory = memory
        self._by = evaluation.split
        self._shares = shares(evaluation)
        self._block_ns = block_windows * window_ns
        self._step_ns = self._block_ns + window_ns
        self._sequence = _sequence(self._shares) if self._by == "block" else []

    def split_of(self, window: Window) -> StoredSplit | None:
        """The split of ``window``, the same for ever; None where it would straddle two."""
        if self._by == "block":
            return self._block_of(window)
        name = window.unit if self._by == "unit" else window.run
        return self._memory.decide(
            self._by, name, lambda counts: furthest_below(counts, self._shares)
        )

    def _block_of(self, window: Window) -> StoredSplit | None:
        origin_ns = self._memory.origin(window.run, window.start_ns)
        block, inside_ns = divmod(window.start_ns - origin_ns, self._step_ns)
        if inside_ns + window.end_ns - window.start_ns >= self._block_ns:
            return None
        return self._sequence[block % _CYCLE]


def shares(evaluation: Evaluation) -> dict[StoredSplit, float]:
    """The share of each split; they sum to 1.

    Raises:
        JobError: the shares leave nothing to train on.
    """
    train = 1.0 - evaluation.validation - evaluation.test
    if train <= 1e-9:
        raise JobError(
            f"evaluation.validation {evaluation.validation:g} and evaluation.test "
            f"{evaluation.test:g} leave nothing to train on",
            remedy="lower one of them",
        )
    return {"train": train, "validation": evaluation.validation, "test": evaluation.test}


def furthest_below(
    counts: Mapping[StoredSplit, int], wanted: Mapping[StoredSplit, float]
) -> StoredSplit:
    """The split that lacks most to its share once one more is placed; the very first is train."""
    total = sum(counts.get(split, 0) for split in SPLITS)
    if total == 0:
        return "train"
    # Rounded, so that equal needs stay equal in floating point and the first split wins.
    return max(SPLITS, key=lambda s: round(wanted[s] * (total + 1) - counts.get(s, 0), 9))


def _sequence(wanted: Mapping[StoredSplit, float]) -> list[StoredSplit]:
    counts: dict[StoredSplit, int] = dict.fromkeys(SPLITS, 0)
    sequence = []
    for _ in range(_CYCLE):
        split = furthest_below(counts, wanted)
        counts[split] += 1
        sequence.append(split)
    return sequence
