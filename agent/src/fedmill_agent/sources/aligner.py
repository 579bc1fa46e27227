# SPDX-License-Identifier: Apache-2.0
"""From readings, which come when they come, to samples on the grid of a job."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.sources.base import RunEnded, Samples
from fedmill_agent.sources.columns import NEVER, Column
from fedmill_agent.sources.grid import Grid, exact
from fedmill_agent.sources.live import Readings
from fedmill_agent.sources.lowpass import Lowpass
from fedmill_agent.sources.runs import Runs

GAP_TICKS = 256
"""Samples in a row without any reading, from which on they are a gap and not missing samples."""
MOST_TICKS = 1 << 14
"""Samples that are made at a time."""
CLOCK_NS = 60 * 10**9
CLOCK_READINGS = 5
"""A clock was set if as many batches in a row are older, by more than this, than what came."""

Aligned = Samples | RunEnded


class Aligner:
    """Owns the newest readings of one stream: the tags of one job from one source.

    The first reading begins the grid. A sample is made once every tag has come so far, or as far
    as all values hold, or once a tag lags behind the others by more than ``wait_ns``. While no tag
    lags more, and the readings of each come in the order of time, the samples are the same however
    the readings are divided and whenever ``advance`` is called. Readings that come after their
    sample was made are late: they are counted and change nothing that was made.

    Without any reading that counts for more than 256 samples there is a gap: nothing is made up
    for it, and the grid begins anew with the next reading. So it does where the source's clock was
    set back.

    Samples of columns with a ``factor`` are filtered, and all samples come about 25 later.

    Attributes:
        columns: one for each tag, in the order of the samples' rows.
        run_tag: the tag that names the part or batch; empty for none. While it has no good value
            there is no run, and nothing is made.
        counts: what was left out: ``late``, ``no run``, ``overflow`` and ``clock set back``.
    """

    def __init__(
        self,
        unit: str,
        columns: Sequence[Column],
        rate_hz: float,
        *,
        wait_ns: int,
        run_tag: str = "",
    ) -> None:
        """``unit`` is the machine, and the name of the run where no ``run_tag`` names it."""
        self.columns = columns
        self.run_tag = run_tag
        self.counts: Counter[str] = Counter()
        self._unit = unit
        self._rate = exact(rate_hz)
        self._wait_ns = wait_ns
        self._period_ns = max(1, round(1e9 / rate_hz))
        self._by_tag: dict[str, list[Column]] = {}
        for column in columns:
            self._by_tag.setdefault(column.tag, []).append(column)
        self._runs = Runs(unit, "" if run_tag else unit)
        self._grid: Grid | None = None
        self._finer: dict[int, Grid] = {}  # by the factor of a column
        self._next = 0  # tick of the next sample
        self._lowpass = None
        if any(column.factor > 1 for column in columns):
            self._lowpass = Lowpass([column.factor for column in columns])
        self._waiting: int | None = None  # tick of the first sample in the filters
        self._edges_at: tuple[Grid, int] | None = None
        self._known_edges: dict[int, tuple[int, int]] = {}  # by the factor of a column
        self._early = 0
        self._offset_ns: int | None = None  # source's clock ahead of ours, by the newest reading

    def push(self, readings: Readings, now_ns: int | None = None) -> list[Aligned]:
        """Take in ``readings`` of one of the tags; the end of the run if a clock was set back.

        ``now_ns`` is a clock that never jumps; None where what comes was recorded long ago.
        """
        if not len(readings):
            return []
        if readings.tag == self.run_tag:
            self._runs.push(readings)
        done: list[Aligned] = []
        for column in self._by_tag.get(readings.tag, ()):
            if self._grid is not None:
                done += self._compare_clocks(readings, self._grid)
            late = column.push(readings, *self._edges(column))
            if late:
                self.counts["late"] += late
            if column.lost:
                self.counts["overflow"] += column.lost
                column.lost = 0
            self._offset_ns = None if now_ns is None else int(readings.times_ns[-1]) - now_ns
        return done

    def _edges(self, column: Column) -> tuple[int, int]:
        """Where the cell of the next sample begins, and the one before it."""
        if self._grid is None or not self._next:
            return NEVER, NEVER
        if self._edges_at != (self._grid, self._next):
            self._edges_at, self._known_edges = (self._grid, self._next), {}
        known = self._known_edges.get(column.factor)
        if known is None:
            finer, tick = self._finer[column.factor], _finer_tick(column, self._next)
            known = self._known_edges[column.factor] = finer.edge(tick), finer.edge(tick - 1)
        return known

    def stale(self, now_ns: int) -> None:
        """The connection is lost at ``now_ns``, by the clock of ``push``: no value holds beyond."""
        for column in self.columns:
            column.release(now_ns + (self._offset_ns or 0))

    def advance(self, now_ns: int | None = None) -> Iterator[Aligned]:
        """The samples that can be made at ``now_ns``, a time as for ``push``, and ends of runs."""
        while self._grid is not None or self._begin(now_ns):
            grid: Grid | None = self._grid
            if grid is None:
                return
            gap = self._gap(grid)
            horizon = self._horizon(grid, now_ns)
            if gap is not None:
                all_known = self._complete_until(now_ns) >= gap[1]
                horizon = gap[0] if all_known else min(horizon, gap[0])
            count = min(grid.reached(horizon) - self._next, self._most)
            if count > 0:
                yield from self._made(grid, count)
            elif gap is not None and all_known:
                yield from self._flush(grid)
                self._grid = None
            else:
                return

    @property
    def _most(self) -> int:
        """Samples that are made at a time: bounded also where each is made of many."""
        return max(1, MOST_TICKS // max(column.factor for column in self.columns))

    def _made(self, grid: Grid, count: int) -> Iterator[Aligned]:
        """The next ``count`` samples, divided where the run changes."""
        end = self._next + count
        while self._next < end:
            while (change_ns := self._runs.change_ns) is not None and change_ns < grid.edge(
                self._next + 1
            ):
                yield from self._flush(grid)
                ended = self._runs.turn()
                if ended is not None:
                    yield RunEnded(ended)
            size = end - self._next
            if change_ns is not None:
                size = min(size, max(1, grid.reached(change_ns + grid.half_ns) - 1 - self._next))
            yield from self._rows(grid, size)

    def _rows(self, grid: Grid, count: int) -> Iterator[Samples]:
        """The next ``count`` samples, or those before them that the filters let go."""
        first = self._next
        times = grid.times(first, count + 1)
        edges = times - grid.half_ns
        rows = np.empty((len(self.columns), count))
        finer: dict[int, NDArray[np.float64]] = {}
        for index, column in enumerate(self.columns):
            if column.factor == 1:
                rows[index] = column.take(times[:-1], edges)
            else:
                finer[index] = self._finer_values(column, count)
        self._next += count
        if not self._runs.current:
            self.counts["no run"] += count
        elif self._lowpass is None:
            yield self._samples(grid, first, rows)
        else:
            if self._waiting is None:
                self._waiting = first
                finer = {
                    index: values[-(count - 1) * self.columns[index].factor - 1 :]
                    for index, values in finer.items()
                }
            yield from self._let_go(grid, self._lowpass.push(rows, finer))

    def _finer_values(self, column: Column, count: int) -> NDArray[np.float64]:
        """Values of a faster column behind the last sample, up to ``count`` samples on."""
        finer, first = self._finer[column.factor], _finer_tick(column, self._next)
        times = finer.times(first, _finer_tick(column, self._next + count) - first + 1)
        return column.take(times[:-1], times - finer.half_ns)

    def _flush(self, grid: Grid) -> Iterator[Samples]:
        """The samples that are still in the filters; what follows does not go on from them."""
        if self._lowpass is not None and self._waiting is not None:
            yield from self._let_go(grid, self._lowpass.finish())
            self._waiting = None

    def _let_go(self, grid: Grid, rows: NDArray[np.float64]) -> Iterator[Samples]:
        if self._waiting is not None and rows.shape[1]:
            first, self._waiting = self._waiting, self._waiting + rows.shape[1]
            yield self._samples(grid, first, rows)

    def _samples(self, grid: Grid, first: int, rows: NDArray[np.float64]) -> Samples:
        return Samples(self._runs.current, self._unit, grid.time(first), self._period_ns, rows)

    def _begin(self, now_ns: int | None) -> bool:
        """Start the grid at the first reading, once none before it can come any more."""
        waiting = [column.first_ns for column in self.columns]
        first = min((each for each in waiting if each is not None), default=None)
        if first is None or self._complete_until(now_ns) < first:
            return False
        self._grid, self._next = Grid(first, self._rate), 0
        factors = {column.factor for column in self.columns}
        self._finer = {factor: self._grid.finer(factor) for factor in factors}
        return True

    def _newest(self) -> list[int]:
        return [column.newest_ns for column in self.columns if column.newest_ns is not None]

    def _source_ns(self, now_ns: int | None) -> int:
        """What the source's clock shows; long ago where that is not known."""
        if now_ns is None or self._offset_ns is None:
            return NEVER
        return now_ns + self._offset_ns

    def _complete_until(self, now_ns: int | None) -> int:
        """Source time (ns) up to which nothing more is waited for."""
        newest = self._newest()
        known = max(max(newest, default=NEVER), self._source_ns(now_ns)) - self._wait_ns
        return max(known, min(newest)) if len(newest) == len(self.columns) else known

    def _horizon(self, grid: Grid, now_ns: int | None) -> int:
        """Time (ns) of the last sample that can be made, if there is no gap before it."""
        newest = self._newest()
        tail = self._wait_ns + int(grid.step) + 2 - grid.half_ns  # until its cell is over
        horizon, bound = max(newest) - tail, max(newest) + grid.half_ns
        if len(newest) == len(self.columns):
            reached = min(
                newest_ns + self._finer[column.factor].half_ns
                for newest_ns, column in zip(newest, self.columns, strict=True)
            )
            horizon = max(horizon, reached)
            bound = max(bound, min(column.held_until_ns for column in self.columns))
        return max(horizon, min(self._source_ns(now_ns) - tail, bound))

    def _gap(self, grid: Grid) -> tuple[int, int] | None:
        """Time (ns) up to which samples are made before the first gap, and of what follows it."""
        longest = GAP_TICKS * self._period_ns
        if max(self._newest()) <= grid.time(self._next) + longest - 2 * self._period_ns:
            return None
        spans = [column.spans() for column in self.columns]
        covered = max(grid.origin_ns, *(end for end, _, _ in spans))
        starts = np.concatenate([starts for _, starts, _ in spans])
        order = np.argsort(starts, kind="stable")
        starts, ends = starts[order], np.concatenate([ends for _, _, ends in spans])[order]
        until = np.maximum(covered, np.maximum.accumulate(ends))
        before = np.append(covered, until)[: len(starts)]
        gaps = np.flatnonzero(starts > before + longest)
        if not len(gaps):
            return None
        first = int(gaps[0])
        last = max(int(before[first]), int(starts[first - 1]) + grid.half_ns if first else NEVER)
        return last, int(starts[first])

    def _compare_clocks(self, readings: Readings, grid: Grid) -> list[Aligned]:
        """Begin anew if the source's clock was set back: everything would be late for long."""
        newest = int(readings.times_ns[-1])
        if newest >= grid.time(self._next) - CLOCK_NS:
            self._early = 0
            return []
        self._early += 1
        if self._early < CLOCK_READINGS * len(self.columns):
            return []
        self._early = 0
        self.counts["clock set back"] += 1
        done: list[Aligned] = list(self._flush(grid))
        self._grid = None
        for column in self.columns:
            column.restart(newest if column.held_until_ns >= grid.time(self._next) else None)
        self._runs.forget()
        return [*done, RunEnded(self._runs.current)] if self._runs.current else done


def _finer_tick(column: Column, tick: int) -> int:
    """The tick on the column's own grid that follows on sample ``tick - 1``."""
    return (tick - 1) * column.factor + 1 if tick else 0
