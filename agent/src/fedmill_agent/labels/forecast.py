# SPDX-License-Identifier: Apache-2.0
"""What a window should have foretold: the value of a signal some time after the window's end.

It comes from the stream itself, sample by sample, so that recordings and live sources give the same
and pieces make no difference.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf, isfinite, nan
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.job import Job
from fedmill_shared.job.labelling import horizon_samples
from fedmill_shared.job.quality import flat_samples
from fedmill_shared.signals.units import affine
from fedmill_shared.signals.windows import Window, Windower

if TYPE_CHECKING:
    from fedmill_agent.store.windows import Target

MOST_RUNS = 64
MOST_CHUNKS = 256
"""Runs, and chunks of samples of each, that are remembered."""


@dataclass(slots=True)
class _Run:
    """One unbroken stretch of a run; its samples are numbered from 0.

    Attributes:
        waiting: windows, each with the number of the sample that has its value, by that.
        chunks: number and time (ns) of the first sample of each of the newest chunks.
        upto: samples below this number have come.
        due_ns: when the next one is expected.
        slack_ns: by how much the rounding of periods may have put that off.
        last: the newest value.
        same_from: number of the first of the newest equal values.
    """

    waiting: deque[tuple[int, Window]] = field(default_factory=deque)
    chunks: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=MOST_CHUNKS))
    upto: int = 0
    due_ns: int = 0
    slack_ns: int = 0
    last: float = nan
    same_from: int = 0


class Forecaster:
    """Wraps the windower of one source, and sees what becomes of its windows.

    A window has a value only where the run goes on for the whole horizon without a gap, and where
    the value is there, plausible, and not that of a signal that is stuck.
    """

    def __init__(self, job: Job, windower: Windower) -> None:
        """Foretell what ``job`` wants of what ``windower`` cuts."""
        self._windower = windower
        names = [signal.name for signal in job.signals]
        self._row = names.index(job.labels.signal)
        signal = job.signals[self._row]
        self._horizon = horizon_samples(job)
        self._factor, self._offset = affine(signal.unit, job.labels.unit)
        self._low, self._high = signal.range or (-inf, inf)
        self._stuck = flat_samples(signal, job.rate_hz)
        self._runs: dict[str, _Run] = {}
        self._found: list[Target] = []

    def push(
        self, run: str, unit: str, start_ns: int, period_ns: int, values: NDArray[np.float32]
    ) -> list[Window]:
        """See ``Windower``."""
        windows = self._windower.push(run, unit, start_ns, period_ns, values)
        count = values.shape[1]
        if count:
            state, late = self._stretch(run, start_ns, period_ns, count)
            if late < count:
                begin_ns = start_ns + late * period_ns
                self._follow(state, begin_ns, period_ns, values[self._row, late:])
            self._expect(state, [each for each in windows if each.run == run], period_ns)
            self._take(state, values[self._row, late:])
        return windows

    def end(self, run: str) -> list[Window]:
        """See ``Windower``."""
        self._runs.pop(run, None)
        return self._windower.end(run)

    def taken(self) -> "list[Target]":
        """What has become of windows since the last call."""
        found, self._found = self._found, []
        return found

    def _stretch(self, run: str, start_ns: int, period_ns: int, count: int) -> tuple[_Run, int]:
        """The stretch that samples belong to, and how many of them are late, as in ``Windower``."""
        state = self._runs.pop(run, None)
        tolerance = period_ns // 2 + (state.slack_ns if state is not None else 0)
        if state is None or start_ns > state.due_ns + tolerance:
            state, late = _Run(), 0
        else:
            late = max(0, -((start_ns - state.due_ns + tolerance) // period_ns))
        self._runs[run] = state
        while len(self._runs) > MOST_RUNS:
            del self._runs[next(iter(self._runs))]
        return state, min(late, count)

    def _follow(
        self, state: _Run, start_ns: int, period_ns: int, values: NDArray[np.float32]
    ) -> None:
        """The next samples of a stretch have come."""
        state.chunks.append((state.upto, start_ns))
        state.upto += len(values)
        state.due_ns = start_ns + len(values) * period_ns
        state.slack_ns = len(values) // 2 + 1

    def _expect(self, state: _Run, windows: Sequence[Window], period_ns: int) -> None:
        """Have new windows wait for the sample that lies a horizon behind their last one."""
        for window in windows:
            for number, start_ns in reversed(state.chunks):
                if window.end_ns >= start_ns:
                    last = number + round((window.end_ns - start_ns) / period_ns)
                    state.waiting.append((last + self._horizon, window))
                    break

    def _take(self, state: _Run, values: NDArray[np.float32]) -> None:
        """Find in the newest samples what windows wait for."""
        first = state.upto - len(values)
        stuck = self._mark(state, first, values)
        while state.waiting and state.waiting[0][0] < state.upto:
            due, window = state.waiting.popleft()
            if due < first:  # the window came later than what became of it
                continue
            value = float(values[due - first])
            if self._low <= value <= self._high and not stuck[due - first]:
                told = value * self._factor + self._offset
                self._found.append((window.run, window.start_ns, window.end_ns, told))

    def _mark(self, state: _Run, first: int, values: NDArray[np.float32]) -> list[bool]:
        """Which of ``values`` are those of a stuck signal."""
        marks = [False] * len(values)
        if not self._stuck:
            return marks
        for place, value in enumerate(values.tolist()):
            if not isfinite(value):
                continue
            if value != state.last:
                state.last, state.same_from = value, first + place
            marks[place] = first + place - state.same_from + 1 >= self._stuck
        return marks
