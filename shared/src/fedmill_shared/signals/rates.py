# SPDX-License-Identifier: Apache-2.0
"""Signals of different rates on the one rate of a window.

A signal that is slower than the window holds its value until the next one comes. A source that is
faster than the window is decimated.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.signals.resample import Decimator
from fedmill_shared.signals.windows import times_of

Values = NDArray[np.float32]
Times = NDArray[np.int64]

MOST = 1000
"""Largest factor of decimation; its filter is 50,000 samples long."""
_BLOCK = 1024  # samples between which periods of whole ns do not add up to a sample
_TOLERANCE = 1e-3  # periods are whole ns


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Consecutive samples of a run of ``unit``: float32 (signals, n), times in ns UTC."""

    unit: str
    start_ns: int
    period_ns: int
    values: Values


@dataclass(slots=True)
class _Run:
    """An open run: what its slower signals hold, and what waits to be decimated."""

    unit: str
    period_ns: int
    held: Values  # (signals, 1)
    held_ns: Times  # (signals, 1)
    decimator: Decimator
    due_ns: int | None = None
    slack_ns: int = 0
    skip: int = 0  # samples to come before the next that is kept
    times: list[Times] = field(default_factory=list)  # of outputs that are not made yet
    picked: list[Values] = field(default_factory=list)


def factor_of(period_ns: int, window_hz: float) -> int:
    """How many samples of a source become one of a window; 1 unless it is a whole number."""
    ratio = 1e9 / (window_hz * period_ns)
    factor = round(ratio)
    return factor if 1 < factor <= MOST and abs(ratio - factor) <= _TOLERANCE * factor else 1


class Resampler:
    """Owns the open runs of a stream and brings all its signals to one rate.

    A value of a slower signal stands for ``ceil(rate of the samples / its own)`` samples more where
    nothing comes; what is missing beyond that is missing. Where samples come faster than the
    window's rate, by a whole factor, they are decimated: inputs through an anti-aliasing filter, so
    that a NaN spreads as ``Decimator`` says; of slower signals and of ``switched`` ones every n-th
    value is taken, as a filter would invent values between two states. Samples keep their times: a
    filtered one comes later than it was measured, and is not dated later.

    However the samples are divided into pushes, the result is the same. Behind a gap of more than
    half a sample, filtering starts afresh; samples that are older than what came before them are
    left out. Of more than ``runs`` open runs, the one that was pushed least recently is forgotten.
    """

    def __init__(self, rates: Sequence[float], switched: Sequence[bool], *, runs: int = 64) -> None:
        """``rates`` (signals,) are samples per second; the window's is the largest."""
        self._window_hz = max(rates)
        self._rates = list(rates)
        slow = np.array(rates) < self._window_hz
        self._slow = np.flatnonzero(slow)
        self._picks = slow | np.array(switched, np.bool_)
        self._limit = runs
        self._runs: dict[str, _Run] = {}  # the least recently pushed first

    def push(
        self, run: str, unit: str, start_ns: int, period_ns: int, values: Values
    ) -> list[Chunk]:
        """Add consecutive samples ``values`` (signals, n); the samples that come of them.

        Raises:
            DataError: their times are more than 230 years from 1970.
        """
        if not values.shape[1]:
            return []
        times = times_of(run, start_ns, period_ns, values.shape[1])
        state = self._runs.pop(run, None)
        done: list[Chunk] = []
        if state is None or state.period_ns != period_ns:
            done = [] if state is None else self._finish(state)
            state = self._open(unit, period_ns, len(values))
        self._runs[run], state.unit = state, unit
        if len(self._runs) > self._limit:
            del self._runs[next(iter(self._runs))]
        values = self._fill(state, times, values)
        if state.decimator.factor == 1:
            return [*done, Chunk(unit, start_ns, period_ns, values)]
        return done + self._decimate(state, times, values)

    def end(self, run: str) -> list[Chunk]:
        """Close ``run``: the samples that waited for more."""
        state = self._runs.pop(run, None)
        return [] if state is None else self._finish(state)

    def _open(self, unit: str, period_ns: int, signals: int) -> _Run:
        never = np.full((signals, 1), np.iinfo(np.int64).min // 2)
        decimator = Decimator(factor_of(period_ns, self._window_hz))
        nothing = np.full((signals, 1), np.nan, np.float32)
        return _Run(unit, period_ns, nothing, never, decimator)

    def _fill(self, state: _Run, times: Times, values: Values) -> Values:
        """``values`` with what slower signals hold."""
        values = values.copy() if self._slow.size else values
        for signal in self._slow:
            row, good = values[signal], np.isfinite(values[signal])
            own_ns = 1e9 / self._rates[signal]
            most_ns = ceil(own_ns / state.period_ns * (1 - 1e-9)) * state.period_ns
            newest = np.maximum.accumulate(np.where(good, np.arange(row.size), -1))
            known = newest >= 0
            value = np.where(known, row[newest], state.held[signal])
            age = times - np.where(known, times[newest], state.held_ns[signal])
            if good.any() and times[newest[-1]] > state.held_ns[signal, 0]:
                state.held[signal], state.held_ns[signal] = row[newest[-1]], times[newest[-1]]
            row[:] = np.where(~good & (age > 0) & (age <= most_ns), value, row)
        return values

    def _decimate(self, state: _Run, times: Times, values: Values) -> list[Chunk]:
        done: list[Chunk] = []
        if state.due_ns is not None:
            # As in Windower: a period of whole ns is wrong by up to half a ns a sample.
            tolerance = state.period_ns // 2 + state.slack_ns
            if times[0] > state.due_ns + tolerance:
                done = self._finish(state)
            else:
                fresh = int(np.searchsorted(times, state.due_ns - tolerance))
                times, values = times[fresh:], values[:, fresh:]
        if not times.size:
            return done
        factor, skip = state.decimator.factor, state.skip
        state.times.append(times[skip::factor])
        state.picked.append(values[self._picks, skip::factor])
        state.skip = (skip - times.size) % factor
        state.due_ns = int(times[-1]) + state.period_ns
        state.slack_ns = times.size // 2 + 1
        return done + self._emit(state, state.decimator.push(values[~self._picks]))

    def _finish(self, state: _Run) -> list[Chunk]:
        """What is left of a stretch; the next one begins afresh."""
        done = self._emit(state, state.decimator.finish()) if state.times else []
        state.due_ns, state.skip = None, 0
        return done

    def _emit(self, state: _Run, filtered: NDArray[np.float64]) -> list[Chunk]:
        """Outputs at the times of the inputs that they belong to."""
        times = np.concatenate(state.times)
        picked = np.concatenate(state.picked, axis=1)
        count = filtered.shape[1] if len(filtered) else times.size
        state.times, state.picked = [times[count:]], [picked[:, count:]]
        values = np.empty((self._picks.size, count), np.float32)
        with np.errstate(over="ignore"):  # the filter may overshoot what float32 holds: bad
            values[~self._picks] = filtered
        values[self._picks] = picked[:, :count]
        period = state.period_ns * state.decimator.factor
        return [
            Chunk(state.unit, int(times[first]), period, values[:, first : first + _BLOCK])
            for first in range(0, count, _BLOCK)
        ]
