# SPDX-License-Identifier: Apache-2.0
"""From readings, which come when they come, to samples on the grid of a job."""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.sources.base import RunEnded, Samples
from fedmill_agent.sources.columns import Column
from fedmill_agent.sources.live import GOOD, Readings

GAP_TICKS = 256
"""Samples in a row without any value, from which on they are a gap and not missing samples."""
MOST_TICKS = 1 << 14
"""Samples that are made at a time."""
CLOCK_NS = 60 * 10**9
CLOCK_READINGS = 5
"""A clock was set if as many batches in a row are older, by more than this, than what came."""

Aligned = Samples | RunEnded


@dataclass(frozen=True, slots=True)
class Grid:
    """Times that samples are made for: ``origin_ns`` and every 1 / ``rate_hz`` s after it."""

    origin_ns: int
    rate_hz: Fraction

    def time(self, tick: int) -> int:
        """Time (ns UTC) of sample number ``tick``."""
        return self.origin_ns + round(tick * 10**9 / self.rate_hz)

    def times(self, first: int, count: int) -> NDArray[np.int64]:
        """int64 (count,), those of the samples from number ``first`` on."""
        steps = np.rint(np.arange(count) * float(10**9 / self.rate_hz)).astype(np.int64)
        found: NDArray[np.int64] = self.time(first) + steps
        return found

    def reached(self, time_ns: int) -> int:
        """Samples whose time is ``time_ns`` or before."""
        return int((time_ns - self.origin_ns) * self.rate_hz // 10**9) + 1


@dataclass(slots=True)
class Aligner:
    """Owns the newest readings of one stream: the tags of one job from one source.

    Every reading counts for the sample it is next to, and is held for the samples after it as long
    as its column says. A sample is made once every tag has come so far, or as far as all values
    hold, or once a tag lags behind the others by more than ``wait_ns``. Readings that come after
    that are late; they are counted and change nothing.

    Without a value for more than 256 samples there is a gap: nothing is made up for it, and the
    grid begins anew with the next reading. So it does where the source's clock was set back.

    Attributes:
        unit: the machine, and the name of the run where no ``run_tag`` names it.
        columns: one for each tag, in the order of the samples' rows.
        rate_hz: samples per second.
        wait_ns: how long one tag may lag behind.
        run_tag: the tag that names the part or batch; empty for none. While it has no good value
            there is no run, and nothing is made.
        counts: what was left out: ``late`` and ``no run``.
    """

    unit: str
    columns: Sequence[Column]
    rate_hz: float
    wait_ns: int
    run_tag: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    _grid: Grid | None = None
    _next: int = 0
    _run: str = ""
    _runs: deque[tuple[int, str]] = field(default_factory=deque)
    _early: int = 0
    _offset_ns: int = 0

    def __post_init__(self) -> None:
        if not self.run_tag:
            self._run = self.unit

    @property
    def period_ns(self) -> int:
        """Nanoseconds between samples."""
        return max(1, round(1e9 / self.rate_hz))

    def push(self, readings: Readings) -> list[Aligned]:
        """Take in ``readings`` of one of the tags; the end of the run if a clock was set back."""
        if not len(readings):
            return []
        if readings.tag == self.run_tag:
            self._name_run(readings)
        done: list[Aligned] = []
        for column in self.columns:
            if column.tag == readings.tag:
                if self._grid is not None:
                    done += self._compare_clocks(readings, self._grid)
                self._offset_ns = int(readings.times_ns[-1]) - readings.arrived_ns
                self.counts["late"] += column.push(readings, self._open_ns())
        return done

    def stale(self, now_ns: int) -> None:
        """The connection is lost at ``now_ns`` (wall clock): no value holds beyond."""
        for column in self.columns:
            column.release(now_ns + self._offset_ns)

    def advance(self, now_ns: int) -> Iterator[Aligned]:
        """The samples that can be made at ``now_ns`` (wall clock), and ends of runs."""
        if self._grid is None and not self._begin():
            return
        while self._grid is not None:
            self._skip_gap()
            horizon = self._horizon(now_ns)
            count = min(self._grid.reached(horizon) - self._next, MOST_TICKS)
            if count <= 0:
                return
            yield from self._made(self._grid, count)

    def _made(self, grid: Grid, count: int) -> Iterator[Aligned]:
        """The next ``count`` samples, divided where the run changes."""
        half = self.period_ns // 2
        while count > 0:
            while self._runs and self._runs[0][0] <= grid.time(self._next) + half:
                yield from self._turn(self._runs.popleft()[1])
            size = count
            if self._runs:
                size = min(count, max(1, grid.reached(self._runs[0][0] - half) - self._next))
            ticks = grid.times(self._next, size)
            values = np.stack([column.take(ticks, half) for column in self.columns])
            self._next += size
            count -= size
            if self._run:
                yield Samples(self._run, self.unit, int(ticks[0]), self.period_ns, values)
            else:
                self.counts["no run"] += size

    def _turn(self, run: str) -> Iterator[Aligned]:
        if run != self._run and self._run:
            yield RunEnded(self._run)
        self._run = run

    def _begin(self) -> bool:
        """Start the grid at the first reading that has come; False if none has."""
        waiting = [column.first_ns for column in self.columns if column.first_ns is not None]
        if not waiting:
            return False
        rate = Fraction(self.rate_hz).limit_denominator(10**6)
        self._grid, self._next = Grid(min(waiting), rate), 0
        return True

    def _open_ns(self) -> int | None:
        """Time from which on readings are not late; None before the first sample."""
        if self._grid is None or self._next == 0:
            return None
        return self._grid.time(self._next) - self.period_ns // 2

    def _skip_gap(self) -> None:
        """Begin anew at the next reading where there is a gap before it."""
        if self._grid is None:
            return
        waiting = [column.first_ns for column in self.columns if column.first_ns is not None]
        held = max(column.held_until_ns for column in self.columns)
        edge = max(self._grid.time(self._next), held) + GAP_TICKS * self.period_ns
        if waiting and min(waiting) > edge:
            self._begin()

    def _horizon(self, now_ns: int) -> int:
        """Time (ns) up to which samples can be made."""
        half = self.period_ns // 2
        newest = [column.newest_ns for column in self.columns if column.newest_ns is not None]
        horizon = max(newest) - self.wait_ns
        if len(newest) == len(self.columns):
            held = min(column.held_until_ns for column in self.columns)
            source_now = now_ns + self._offset_ns
            horizon = max(horizon, min(newest) + half - 1, min(held, source_now - self.wait_ns))
        return horizon

    def _compare_clocks(self, readings: Readings, grid: Grid) -> list[Aligned]:
        """Begin anew if the source's clock was set back: everything would be late for long."""
        if int(readings.times_ns[-1]) >= grid.time(self._next) - CLOCK_NS:
            self._early = 0
            return []
        self._early += 1
        if self._early < CLOCK_READINGS * len(self.columns):
            return []
        self._early = 0
        self._grid = None
        self.counts["clock set back"] += 1
        for column in self.columns:
            column.forget()
        self._runs.clear()
        return [RunEnded(self._run)] if self._run else []

    def _name_run(self, readings: Readings) -> None:
        for time_ns, value, quality in zip(
            readings.times_ns.tolist(),
            readings.values.tolist(),
            readings.quality.tolist(),
            strict=True,
        ):
            number = f"{value:.15g}" if quality == GOOD else ""
            name = readings.text or number
            run = f"{self.unit}/{name}" if name else ""
            if run != (self._runs[-1][1] if self._runs else self._run):
                self._runs.append((time_ns, run))
