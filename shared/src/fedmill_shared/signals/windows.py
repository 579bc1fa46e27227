# SPDX-License-Identifier: Apache-2.0
"""Cuts streams of samples into windows, the model's input, the same way on every machine."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.errors import DataError

Pad = Literal["none", "edge"]

FARTHEST_NS = 230 * 366 * 86_400 * 10**9
"""Times are within 230 years of 1970; int64 ns end at 292."""


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A slice of one run.

    Attributes:
        run: the recording, batch or life it comes from.
        unit: the machine or part.
        start_ns: source time of its first real sample, ns UTC.
        end_ns: source time of its last sample, ns UTC.
        values: float32 (signals, length), canonical units; NaN where a value is missing.
        good_share: share of the values that are finite, before any repair.
        index: its number in the run, from 0.
    """

    run: str
    unit: str
    start_ns: int
    end_ns: int
    values: NDArray[np.float32]
    good_share: float
    index: int


@dataclass(slots=True)
class _Run:
    """An open run: its newest samples, at most ``length``, and how far it has been cut."""

    unit: str
    period_ns: int
    values: NDArray[np.float32]  # (signals, kept)
    times: NDArray[np.int64]  # (kept,)
    slack_ns: int = 0
    seen: int = 0
    cut: int = 0
    index: int = 0

    def clear(self) -> None:
        """Forget the samples, as after a gap; windows are still numbered on."""
        self.values, self.times = self.values[:, :0], self.times[:0]
        self.slack_ns = self.seen = self.cut = 0


class Windower:
    """Owns the open runs of a stream and cuts each into windows every ``stride`` samples.

    With ``pad`` "edge", a run is cut as if its first sample had stood there for a whole window
    before: the first window ends on the first sample.

    However the samples are divided into pushes, the windows are the same. Windows never span runs,
    nor a gap in time of more than half a sample: behind a gap, cutting starts afresh. Samples that
    are older than what came before them are left out and counted in ``late``. Between pushes a run
    keeps at most ``length`` samples. Of more than ``runs`` open runs, the one that was pushed least
    recently is ended and counted in ``evicted``.
    """

    def __init__(self, length: int, stride: int, pad: Pad = "none", *, runs: int = 64) -> None:
        self._length = length
        self._stride = stride
        self._pad = pad
        self._limit = runs
        self._runs: dict[str, _Run] = {}  # the least recently pushed first
        self.late = 0
        self.evicted = 0

    def push(
        self, run: str, unit: str, start_ns: int, period_ns: int, values: NDArray[np.float32]
    ) -> list[Window]:
        """Add consecutive samples ``values`` (signals, n); windows that are now complete.

        Raises:
            DataError: the run changes its unit, its number of signals or its sample period, or
                its times are more than 230 years from 1970.
        """
        finished: list[Window] = []
        if values.shape[1] == 0:
            return finished
        state = self._runs.get(run)
        if state is None:
            if len(self._runs) >= self._limit:
                finished += self.end(next(iter(self._runs)))
                self.evicted += 1
            state = _Run(unit, period_ns, values[:, :0], np.empty(0, np.int64))
        _check(run, state, unit, period_ns, len(values))
        self._runs.pop(run, None)
        self._runs[run] = state
        if not -FARTHEST_NS <= start_ns <= start_ns + period_ns * values.shape[1] <= FARTHEST_NS:
            raise DataError(
                f"run {run!r} has samples from {start_ns} ns on, {period_ns} ns apart",
                remedy="times must lie within 230 years of 1970; check the source's clock and rate",
            )
        times = start_ns + period_ns * np.arange(values.shape[1], dtype=np.int64)
        first = 0
        if state.seen:
            # A period rounded to whole ns is wrong by up to half a ns for each sample of a push.
            tolerance = period_ns // 2 + state.slack_ns
            due = int(state.times[-1]) + period_ns
            if start_ns > due + tolerance:
                finished += self._tail(run, state)
                state.clear()
            first = int(np.searchsorted(times, due - tolerance))
            self.late += first
        if first < len(times):
            finished += self._cut(run, state, values[:, first:], times[first:])
        return finished

    def end(self, run: str) -> list[Window]:
        """Close ``run``: the window of its last samples, if they are in none yet."""
        state = self._runs.pop(run, None)
        if state is None:
            return []
        return self._tail(run, state)

    def _cut(
        self, run: str, state: _Run, values: NDArray[np.float32], times: NDArray[np.int64]
    ) -> list[Window]:
        length = self._length
        windows = []
        if self._pad == "edge" and not state.seen and not state.index:
            values = np.pad(values, ((0, 0), (length - 1, 0)), mode="edge")
            times = np.pad(times, (length - 1, 0), mode="edge")
        before = state.seen - len(state.times)
        state.values = np.concatenate((state.values, values), axis=1)
        state.times = np.concatenate((state.times, times))
        state.seen += len(times)
        state.slack_ns = len(times) // 2 + 1
        while (start := state.cut * self._stride) + length <= state.seen:
            part = slice(start - before, start - before + length)
            windows.append(_window(run, state, state.values[:, part], state.times[part]))
            state.cut += 1
        state.values = state.values[:, -length:].copy()
        state.times = state.times[-length:].copy()
        return windows

    def _tail(self, run: str, state: _Run) -> list[Window]:
        covered = (state.cut - 1) * self._stride + self._length if state.cut else 0
        if state.seen < self._length or state.seen == covered:
            return []
        return [_window(run, state, state.values, state.times)]


def _window(run: str, state: _Run, values: NDArray[np.float32], times: NDArray[np.int64]) -> Window:
    state.index += 1
    return Window(
        run=run,
        unit=state.unit,
        start_ns=int(times[0]),
        end_ns=int(times[-1]),
        values=np.array(values, np.float32, order="C"),
        good_share=float(np.isfinite(values).mean()),
        index=state.index - 1,
    )


def _check(run: str, state: _Run, unit: str, period_ns: int, signals: int) -> None:
    for what, before, now in (
        ("unit", state.unit, unit),
        ("sample period (ns)", state.period_ns, period_ns),
        ("number of signals", len(state.values), signals),
    ):
        if before != now:
            raise DataError(
                f"run {run!r} changes its {what} from {before!r} to {now!r}",
                remedy="end the run at the source before anything about it changes",
            )
