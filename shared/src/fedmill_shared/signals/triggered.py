# SPDX-License-Identifier: Apache-2.0
"""Windows that begin with an event in the stream, such as a press stroke, and not at a stride."""

from dataclasses import dataclass, field
from math import inf

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.signals.windows import Piece, Pieces, Windower


@dataclass(frozen=True, slots=True)
class Trigger:
    """When a window begins.

    Attributes:
        signal: its position.
        level: the signal crosses it.
        falling: from above, and not from below.
        hysteresis: how far on the other side of the level it must have been since.
        before: samples of the window that lie before the one that crossed.
        low: smallest plausible value.
        high: largest one.
    """

    signal: int
    level: float
    falling: bool = False
    hysteresis: float = 0.0
    before: int = 0
    low: float = -inf
    high: float = inf


class TriggeredWindower(Windower):
    """Owns the open runs of a stream and cuts a window where a trigger signal crosses a level.

    As an oscilloscope does: a window begins ``before`` samples ahead of the first sample at or
    beyond the level, once the signal has been further than the hysteresis on the other side.
    Crossings inside a window begin none; so does one that comes before the run has ``before``
    samples. Values that are not finite, or not plausible, neither cross nor come back. What is
    shorter than a window at the end of a run, or before a gap, is left out.

    All else is as in ``Windower``: the same windows however the samples are divided.
    """

    def __init__(self, length: int, trigger: Trigger, *, runs: int = 64) -> None:
        """``trigger.before`` is less than ``length``."""
        super().__init__(length, length, runs=runs)
        self._trigger = trigger

    def _begin(self) -> Pieces:
        return _Events(self._length, self._trigger)


@dataclass(slots=True)
class _Events:
    """Pieces of one run; keeps a window, or what may come to lie before the next crossing."""

    length: int
    trigger: Trigger
    _values: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    _times: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    _seen: int = 0  # samples so far
    _side: int = 0  # 1 beyond the level, -1 back on the other side, 0 not known
    _end: int = 0  # of the newest window, which may not be whole yet
    _start: int | None = None  # of the window that is not whole

    def add(self, values: NDArray[np.float32], times: NDArray[np.int64]) -> list[Piece]:
        """The windows that are now whole."""
        crossed = self._crossings(values[self.trigger.signal])
        first = self._seen - len(self._times)
        if len(self._times):
            values = np.concatenate((self._values, values), axis=1)
            times = np.concatenate((self._times, times))
        self._seen = first + len(times)
        found = []
        for start in [*([] if self._start is None else [self._start]), *self._starts(crossed)]:
            self._start = start
            if start + self.length <= self._seen:
                part = slice(start - first, start - first + self.length)
                found.append(Piece(values[:, part], times[part]))
                self._start = None
        kept = self._seen - self.trigger.before if self._start is None else self._start
        kept = max(0, kept - first)
        self._values, self._times = values[:, kept:].copy(), times[kept:].copy()
        return found

    def rest(self) -> list[Piece]:
        """Nothing: a part of an event is none."""
        return []

    def clear(self) -> None:
        """Begin anew."""
        self._values, self._times = self._values[:, :0], self._times[:0]
        self._seen = self._side = self._end = 0
        self._start = None

    def _crossings(self, values: NDArray[np.float32]) -> list[int]:
        """Which samples cross, counted from the beginning."""
        sign = -1.0 if self.trigger.falling else 1.0
        exact, level = sign * values.astype(np.float64), sign * self.trigger.level
        marks = np.where(exact >= level, 1, 0)
        marks[exact < level - self.trigger.hysteresis] = -1
        with np.errstate(over="ignore"):  # a bound beyond float32 is none
            low, high = np.float32(self.trigger.low), np.float32(self.trigger.high)
        marks[(values < low) | (values > high)] = 0
        sides = np.concatenate(([self._side], marks))
        newest = np.maximum.accumulate(np.where(sides != 0, np.arange(sides.size), 0))
        sides = sides[newest]
        self._side = int(sides[-1])
        return (np.flatnonzero((sides[1:] == 1) & (sides[:-1] == -1)) + self._seen).tolist()

    def _starts(self, crossed: list[int]) -> list[int]:
        """Where windows begin because of samples that ``crossed``."""
        found = []
        for sample in crossed:
            start = sample - self.trigger.before
            if sample >= self._end and start >= 0:
                found.append(start)
                self._end = start + self.length
        return found
