# SPDX-License-Identifier: Apache-2.0
"""What one tag is worth at a time, of readings that come in any order."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.agent.sources.live.scripted import block

from fedmill_agent.sources import columns
from fedmill_agent.sources.columns import NEVER, Column
from fedmill_agent.sources.grid import Grid, exact
from fedmill_agent.sources.live import BAD, Readings

SECOND = 10**9
NAN = float("nan")


def readings(times: Sequence[int], values: Sequence[float]) -> Readings:
    """Good ones; NaN is bad all the same."""
    made = block("t", 0, values)
    return Readings("t", np.array(times, np.int64), made.values, made.quality, 0)


def taken(column: Column, first: int, count: int, period: int = 10) -> list[float]:
    """Values at ticks ``first * period``, ..., whose cells begin half a period before."""
    ticks = period * np.arange(first, first + count + 1, dtype=np.int64)
    return column.take(ticks[:-1], ticks - period // 2).tolist()


def same(left: Sequence[float], right: Sequence[float]) -> bool:
    """Equal, NaN too."""
    return np.array_equal(np.array(left, float), np.array(right, float), equal_nan=True)


class TestBounds:
    """Of what waits for samples: a device's clock may stand still for days."""

    def test_readings_of_one_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The first of them counts and the last holds; the others are not kept."""
        monkeypatch.setattr(columns, "MOST_PIECES", 10)
        column = Column("t", 100)
        column.push(readings([0], [5.0]))
        assert taken(column, 0, 1) == [5.0]
        for n in range(1000):
            column.push(readings([10], [float(n)]))
            assert len(column._fresh) < 10
            assert len(column._times) <= 20
        assert taken(column, 1, 3) == [0.0, 999.0, 999.0]
        assert column.lost == 0

    def test_too_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The oldest that no sample was made of are lost, and counted."""
        monkeypatch.setattr(columns, "MOST_PIECES", 4)
        monkeypatch.setattr(columns, "MOST_HELD", 100)
        column = Column("t", 5)
        for n in range(1000):
            column.push(readings([10 * n], [float(n)]))
        assert len(column._times) <= 104
        found = taken(column, 0, 1000)
        assert column.lost == int(np.isnan(found).sum()) >= 896
        assert found[column.lost :] == list(range(column.lost, 1000))

    @given(st.lists(st.integers(0, 20), min_size=1, max_size=60), st.integers(0, 3))
    def test_what_is_given_up_changes_no_sample(self, times: list[int], first: int) -> None:
        """However many readings have one time, also the one that holds from before."""
        made = []
        for most in (2, 1000):
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(columns, "MOST_PIECES", most)
                column = Column("t", 30)
                column.push(readings([0], [-1.0]))
                head = taken(column, 0, first) if first else []
                opened = 10 * first - 5 if first else NEVER
                for n, time in enumerate(times):
                    column.push(readings([time], [float(n)]), opened, opened - 10)
                made.append([*head, *taken(column, first, 5)])
        assert same(*made)


class TestTake:
    @pytest.mark.parametrize(
        ("time", "where"), [(5, 1), (10, 1), (14, 1), (15, 2), (4, 0), (-5, 0), (24, 2)]
    )
    def test_a_reading_counts_in_its_cell(self, time: int, where: int) -> None:
        """From half a period before the tick to half a period before the next."""
        column = Column("t", 5)
        column.push(readings([time], [7.0]))
        assert same(taken(column, 0, 3), [7.0 if n == where else NAN for n in range(3)])

    def test_nothing_came(self) -> None:
        """Nothing is known."""
        column = Column("t", 5)
        assert same(taken(column, 0, 2), [NAN, NAN])
        assert (column.first_ns, column.newest_ns, column.held_until_ns) == (None, None, NEVER)

    def test_it_holds_to_the_nanosecond(self) -> None:
        """The time it holds is counted from its own time, not from its cell."""
        column = Column("t", 20)
        column.push(readings([0, 41], [1.0, 2.0]))
        assert same(taken(column, 0, 8), [1.0, 1.0, 1.0, NAN, 2.0, 2.0, 2.0, NAN])

    @given(
        values=st.lists(st.tuples(st.integers(0, 200), st.floats(-1, 1)), max_size=30),
        hold=st.integers(5, 60),
        cuts=st.lists(st.integers(1, 8), min_size=30, max_size=30),
    )
    def test_in_any_pieces(
        self, values: list[tuple[int, float]], hold: int, cuts: list[int]
    ) -> None:
        """Pushed and taken piece by piece, in any order within a piece: as looked up one by one."""
        whole = sorted(values, key=lambda pair: pair[0])
        column, found, first = Column("t", hold), [], 0
        waiting = list(values)
        for count in cuts:
            end = 10 * (first + count) - 5
            now = [pair for pair in waiting if pair[0] < end]
            waiting = [pair for pair in waiting if pair[0] >= end]
            assert column.push(readings(*zip(*now, strict=True))) == 0 if now else True
            found += taken(column, first, count)
            first += count
        expected = []
        for tick in range(0, 10 * first, 10):
            inside = [v for t, v in whole if tick - 5 <= t < tick + 5]
            before = [(t, v) for t, v in whole if t < tick - 5]
            held = before[-1][1] if before and tick <= before[-1][0] + hold else NAN
            expected.append(inside[0] if inside else held)
        assert same(found, expected)

    def test_only_what_is_needed_is_kept(self) -> None:
        """One used reading."""
        column = Column("t", 5)
        for n in range(1000):
            column.push(readings([10 * n], [n]))
            taken(column, n, 1)
        assert len(column._times) == len(column._values) == 1


class TestLate:
    def test_what_makes_no_sample_any_more(self) -> None:
        """It is counted; the newest of it holds on where nothing newer does."""
        column = Column("t", 1000)
        column.push(readings([0], [1.0]))
        taken(column, 0, 10)
        assert column.push(readings([50, 30, 96], [5.0, 3.0, 9.6]), 95, 85) == 2
        assert taken(column, 10, 1) == [9.6]
        assert column.push(readings([40], [4.0]), 105, 95) == 1
        assert taken(column, 11, 1) == [9.6]

    def test_it_holds_until_the_next_that_came_in_time(self) -> None:
        """What came in time before it stays where it is."""
        column = Column("t", 1000)
        column.push(readings([0, 120], [1.0, 12.0]))
        taken(column, 0, 10)
        assert column.push(readings([50], [5.0]), 95, 85) == 1
        assert taken(column, 10, 3) == [5.0, 5.0, 12.0]

    def test_more_of_a_cell_that_has_one_is_not_late(self) -> None:
        """A source faster than the job is no fault; the last value holds."""
        column = Column("t", 1000)
        column.push(readings([0], [1.0]))
        taken(column, 0, 1)
        assert column.push(readings([2, 4], [2.0, 4.0]), 5, -5) == 0
        assert taken(column, 1, 1) == [4.0]

    def test_it_is_late_where_the_sample_had_none(self) -> None:
        """The cell was made without it."""
        column = Column("t", 1000)
        column.push(readings([0], [1.0]))
        taken(column, 0, 3)
        assert column.push(readings([22], [2.0]), 25, 15) == 1

    def test_a_late_bad_value_ends_what_holds(self) -> None:
        """It is the newest that is known."""
        column = Column("t", 1000)
        column.push(readings([0], [1.0]))
        taken(column, 0, 10)
        bad = block("t", 50, [1.0], quality=BAD)
        assert column.push(bad, 95, 85) == 1
        assert same(taken(column, 10, 1), [NAN])


class TestEnds:
    def test_release(self) -> None:
        """Nothing holds beyond; a reading that is newer ends there itself."""
        column = Column("t", 1000)
        column.release(5)
        assert column.newest_ns is None
        column.push(readings([0, 40], [1.0, 4.0]))
        column.release(20)
        assert same(taken(column, 0, 7), [1.0, 1.0, 1.0, 1.0, 4.0, NAN, NAN])
        assert column.held_until_ns == 41

    def test_restart(self) -> None:
        """The newest value goes on from another time; or nothing does."""
        column = Column("t", 20)
        column.push(readings([1000, 1010], [1.0, 2.0]))
        column.restart(30)
        assert (column.first_ns, column.newest_ns) == (30, 30)
        assert same(taken(column, 3, 4), [2.0, 2.0, 2.0, NAN])
        column.restart(None)
        assert (column.first_ns, column.newest_ns) == (None, None)
        column.restart(7)
        assert column.newest_ns is None

    def test_spans(self) -> None:
        """Until when each counts: to the next, or as long as it holds."""
        column = Column("t", 20)
        column.push(readings([0, 10, 50, 60], [1.0, 2.0, 3.0, NAN]))
        until, starts, ends = column.spans()
        assert (until, starts.tolist(), ends.tolist()) == (NEVER, [0, 10, 50, 60], [10, 30, 60, 60])
        taken(column, 0, 3)
        until, starts, ends = column.spans()
        assert (until, starts.tolist(), ends.tolist()) == (30, [50, 60], [60, 60])


class TestGrid:
    @given(
        rate=st.one_of(st.floats(1e-6, 1e9), st.sampled_from([12e3, 44.1e3, 1 / 60, 1 / 86400])),
        first=st.integers(0, 10**12),
        factor=st.integers(1, 1000),
    )
    def test_times_are_exact(self, rate: float, first: int, factor: int) -> None:
        """In blocks as one by one, and after years; the finer grid has the same ticks."""
        grid = Grid(1_700_000_000 * SECOND, exact(rate))
        first = min(first, int(1e17 / grid.step))
        block_ = grid.times(first, 50).tolist()
        assert block_ == [grid.time(first + n) for n in range(50)]
        expected = grid.origin_ns + int(first * 10**9 / grid.rate)
        assert abs(grid.time(first) - expected) <= 1
        assert grid.reached(grid.time(first)) >= first + 1
        assert grid.reached(grid.time(first) - 1) <= first or grid.step < 1
        assert grid.finer(factor).time(first * factor) == grid.time(first)

    @pytest.mark.parametrize(
        ("rate", "meant"),
        [(0.1, (1, 10)), (100 / 3, (100, 3)), (1 / 7, (1, 7)), (1e-6, (1, 10**6))],
    )
    def test_the_rate_that_was_meant(self, rate: float, meant: tuple[int, int]) -> None:
        """Not the nearest binary fraction."""
        assert exact(rate).as_integer_ratio() == meant

    def test_before_the_first(self) -> None:
        """No tick is reached."""
        assert Grid(100, exact(1.0)).reached(99) == 0
