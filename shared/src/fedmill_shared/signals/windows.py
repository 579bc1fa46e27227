# SPDX-License-Identifier: Apache-2.0
"""Cuts streams of samples into windows, the model's input, the same way on every machine."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

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


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """What a window is cut from: ``values`` (signals, length) and their ``times`` (length,), ns."""

    values: NDArray[np.float32]
    times: NDArray[np.int64]


class Pieces(Protocol):
    """Where the windows of one run begin and end. It knows samples only, no gaps in time."""

    def add(self, values: NDArray[np.float32], times: NDArray[np.int64]) -> Sequence[Piece]:
        """The pieces that consecutive ``values`` (signals, n) complete."""
        ...

    def rest(self) -> Sequence[Piece]:
        """The piece of the last samples, if they are in none yet."""
        ...

    def clear(self) -> None:
        """Forget the samples, as after a gap."""
        ...


@dataclass(slots=True)
class Sliding:
    """Pieces of ``length`` every ``stride`` samples; keeps the newest ``length``."""

    length: int
    stride: int
    pad: Pad
    _values: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    _times: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    _begun: bool = False
    _seen: int = 0
    _cut: int = 0

    def add(self, values: NDArray[np.float32], times: NDArray[np.int64]) -> list[Piece]:
        """As ``Pieces`` says."""
        length = self.length
        if self.pad == "edge" and not self._begun:
            values = np.pad(values, ((0, 0), (length - 1, 0)), mode="edge")
            times = np.pad(times, (length - 1, 0), mode="edge")
        self._begun = True
        before = self._seen - len(self._times)
        if self._seen:
            values = np.concatenate((self._values, values), axis=1)
            times = np.concatenate((self._times, times))
        self._seen = before + len(times)
        found = []
        while (start := self._cut * self.stride) + length <= self._seen:
            part = slice(start - before, start - before + length)
            found.append(Piece(values[:, part], times[part]))
            self._cut += 1
        self._values, self._times = values[:, -length:].copy(), times[-length:].copy()
        return found

    def rest(self) -> list[Piece]:
        """As ``Pieces`` says."""
        covered = (self._cut - 1) * self.stride + self.length if self._cut else 0
        if self._seen < self.length or self._seen == covered:
            return []
        return [Piece(self._values, self._times)]

    def clear(self) -> None:
        """As ``Pieces`` says."""
        self._values, self._times = self._values[:, :0], self._times[:0]
        self._seen = self._cut = 0


@dataclass(slots=True)
class _Run:
    """An open run: when its newest sample was, and how it is cut."""

    unit: str
    period_ns: int
    signals: int
    pieces: Pieces
    due_ns: int | None = None
    slack_ns: int = 0
    index: int = 0


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
            state = _Run(unit, period_ns, len(values), self._begin())
        _check(run, state, unit, period_ns, len(values))
        self._runs.pop(run, None)
        self._runs[run] = state
        times = times_of(run, start_ns, period_ns, values.shape[1])
        return finished + self._cut(run, state, values, times)

    def end(self, run: str) -> list[Window]:
        """Close ``run``: the window of its last samples, if they are in none yet."""
        state = self._runs.pop(run, None)
        if state is None:
            return []
        return _windows(run, state, state.pieces.rest())

    def _cut(
        self, run: str, state: _Run, values: NDArray[np.float32], times: NDArray[np.int64]
    ) -> list[Window]:
        """Windows of what is new in ``values`` (signals, n), afresh where there is a gap before."""
        finished: list[Window] = []
        first = 0
        if state.due_ns is not None:
            # A period rounded to whole ns is wrong by up to half a ns for each sample of a push.
            tolerance = state.period_ns // 2 + state.slack_ns
            if times[0] > state.due_ns + tolerance:
                finished = _windows(run, state, state.pieces.rest())
                state.pieces.clear()
            first = int(np.searchsorted(times, state.due_ns - tolerance))
            self.late += first
        if first < len(times):
            found = state.pieces.add(values[:, first:], times[first:])
            state.due_ns = int(times[-1]) + state.period_ns
            state.slack_ns = (len(times) - first) // 2 + 1
            finished += _windows(run, state, found)
        return finished

    def _begin(self) -> Pieces:
        """How the samples of a new run are cut."""
        return Sliding(self._length, self._stride, self._pad)


def times_of(run: str, start_ns: int, period_ns: int, count: int) -> NDArray[np.int64]:
    """Times (count,) of consecutive samples of ``run``, ns UTC.

    Raises:
        DataError: they are more than 230 years from 1970.
    """
    if not -FARTHEST_NS <= start_ns <= start_ns + period_ns * count <= FARTHEST_NS:
        raise DataError(
            f"run {run!r} has samples from {start_ns} ns on, {period_ns} ns apart",
            remedy="times must lie within 230 years of 1970; check the source's clock and rate",
        )
    times: NDArray[np.int64] = start_ns + period_ns * np.arange(count, dtype=np.int64)
    return times


def _windows(run: str, state: _Run, pieces: Sequence[Piece]) -> list[Window]:
    made = [
        Window(
            run=run,
            unit=state.unit,
            start_ns=int(piece.times[0]),
            end_ns=int(piece.times[-1]),
            values=np.array(piece.values, np.float32, order="C"),
            good_share=float(np.isfinite(piece.values).mean()),
            index=index,
        )
        for index, piece in enumerate(pieces, state.index)
    ]
    state.index += len(made)
    return made


def _check(run: str, state: _Run, unit: str, period_ns: int, signals: int) -> None:
    for what, before, now in (
        ("unit", state.unit, unit),
        ("sample period (ns)", state.period_ns, period_ns),
        ("number of signals", state.signals, signals),
    ):
        if before != now:
            raise DataError(
                f"run {run!r} changes its {what} from {before!r} to {now!r}",
                remedy="end the run at the source before anything about it changes",
            )
