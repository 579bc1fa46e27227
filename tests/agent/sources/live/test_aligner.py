# SPDX-License-Identifier: Apache-2.0
"""Readings become the same samples whenever and however divided they come."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.agent.sources.live.scripted import block

from fedmill_agent.sources import columns
from fedmill_agent.sources.aligner import (
    CLOCK_READINGS,
    GAP_TICKS,
    MOST_TICKS,
    Aligned,
    Aligner,
)
from fedmill_agent.sources.base import RunEnded, Samples
from fedmill_agent.sources.columns import Column
from fedmill_agent.sources.live import BAD, GOOD, STALE, Readings, reading
from fedmill_shared.signals.resample import decimate
from fedmill_shared.signals.windows import Windower

SECOND = 10**9
START = 1_700_000_000 * SECOND
NAN = float("nan")


def aligner(
    *tags: str,
    rate_hz: float = 1.0,
    hold: float = 0.0,
    wait: float = 1.0,
    run_tag: str = "",
    factors: Sequence[int] = (),
) -> Aligner:
    """For columns of these tags that hold ``hold`` seconds, at least half a sample."""
    held = max(round(hold * SECOND), round(SECOND / rate_hz) // 2)
    columns = [
        Column(tag, held, factor)
        for tag, factor in zip(tags, factors or [1] * len(tags), strict=True)
    ]
    return Aligner("press", columns, rate_hz, wait_ns=round(wait * SECOND), run_tag=run_tag)


def at(tag: str, seconds: float, value: float, quality: int = GOOD, text: str = "") -> Readings:
    """One value, measured ``seconds`` after the start."""
    time_ns = START + round(seconds * SECOND)
    return reading(tag, value, time_ns=time_ns, arrived_ns=time_ns, quality=quality, text=text)


def samples(events: Iterable[Aligned]) -> list[tuple[float, list[float]]]:
    """Each sample as seconds after the start and its values."""
    return [
        (round((event.start_ns + n * event.period_ns - START) / SECOND, 6), row.tolist())
        for event in events
        if isinstance(event, Samples)
        for n, row in enumerate(event.values.T)
    ]


def values(events: Iterable[Aligned]) -> list[float]:
    """Values of the first column."""
    return [row[0] for _, row in samples(events)]


def fed(it: Aligner, *batches: Readings, settle: float = 1000.0) -> list[Aligned]:
    """What comes of ``batches`` that come when they are measured, and of some time after."""
    events: list[Aligned] = []
    now = START
    for each in batches:
        now = max(now, each.arrived_ns)
        events += it.push(each, now)
        events += it.advance(now)
    return events + list(it.advance(now + round(settle * SECOND)))


def same(left: Sequence[float], right: Sequence[float]) -> bool:
    """Equal, NaN too."""
    return np.array_equal(np.array(left, float), np.array(right, float), equal_nan=True)


# --- brute force over everything that ever came ---------------------------------------------


@dataclass(frozen=True)
class Point:
    """One reading of one tag."""

    tag: str
    time_ns: int
    value: float  # NaN for bad
    arrival_ns: int = 0


@dataclass(frozen=True)
class Rule:
    """How samples are to be made."""

    tags: tuple[str, ...]
    rate: Fraction
    hold_ns: int

    @property
    def period_ns(self) -> int:
        """Between samples."""
        return round(SECOND / self.rate)

    def tick(self, origin: int, k: int) -> int:
        """Time of a sample."""
        return origin + int(k * SECOND // self.rate)

    @property
    def half(self) -> int:
        """Half a sample."""
        return int(SECOND / self.rate / 2)


def oracle(rule: Rule, points: Sequence[Point]) -> list[tuple[int, list[float]]]:
    """Times and values of all samples, looked up one by one in the whole of the readings."""
    ordered = sorted(points, key=lambda point: point.time_ns)
    found: list[tuple[int, list[float]]] = []
    origin = until = before = 0
    for number, point in enumerate(ordered):
        gap = GAP_TICKS * rule.period_ns
        if number == 0 or point.time_ns > until + gap:
            if number:
                found += rows(rule, ordered, origin, max(until, before + rule.half))
            origin = point.time_ns
        until, before = max(until, covered(rule, ordered, number)), point.time_ns
    newest = {point.tag: point for point in ordered}
    last = max(point.time_ns for point in ordered) + rule.half
    if len(newest) == len(rule.tags):
        held = [p.time_ns + (rule.hold_ns if np.isfinite(p.value) else 0) for p in newest.values()]
        last = max(last, min(held))
    return found + rows(rule, ordered, origin, last)


def covered(rule: Rule, ordered: Sequence[Point], number: int) -> int:
    """Until when a reading counts."""
    point = ordered[number]
    later = [p for p in ordered[number + 1 :] if p.tag == point.tag]
    end = point.time_ns + (rule.hold_ns if np.isfinite(point.value) else 0)
    return min(end, later[0].time_ns) if later else end


def rows(
    rule: Rule, ordered: Sequence[Point], origin: int, until: int
) -> list[tuple[int, list[float]]]:
    """Samples of one grid up to ``until``."""
    made, k = [], 0
    while (tick := rule.tick(origin, k)) <= until:
        begin, end = tick - rule.half, rule.tick(origin, k + 1) - rule.half
        made.append((tick, [value_at(rule, ordered, t, (begin, tick, end)) for t in rule.tags]))
        k += 1
    return made


def value_at(rule: Rule, ordered: Sequence[Point], tag: str, cell: tuple[int, int, int]) -> float:
    """The first reading of the cell, or the one before that holds."""
    begin, tick, end = cell
    mine = [p for p in ordered if p.tag == tag]
    inside = [p for p in mine if begin <= p.time_ns < end]
    if inside:
        return inside[0].value
    before = [p for p in mine if p.time_ns < begin]
    return before[-1].value if before and tick <= before[-1].time_ns + rule.hold_ns else NAN


@st.composite
def streams(draw: st.DrawFn) -> tuple[Rule, list[Point], int]:
    """Readings of up to three tags, in the order in which they arrive."""
    rate = draw(st.sampled_from([Fraction(1), Fraction(3), Fraction(1, 7), Fraction(7, 3)]))
    period = SECOND / rate
    tags = tuple("abc"[: draw(st.integers(1, 3))])
    half = round(period) // 2
    rule = Rule(tags, rate, max(half, round(draw(st.sampled_from([0, 1.2, 30, 400])) * period)))
    wait = draw(st.sampled_from([0, 0.4, 3.0]))
    step = st.one_of(st.floats(0, 2.5), st.sampled_from([0.0, 0.5, 1.0, 255.0, 257.5, 700.0]))
    points: list[Point] = []
    for tag in tags:
        time, arrival = START + round(draw(st.floats(0, 3)) * period), 0
        for _ in range(draw(st.integers(1, 12))):
            time += round(draw(step) * period)
            arrival = max(arrival, time + round(draw(st.floats(0, wait)) * period))
            arrival = min(arrival, time + round(wait * period))
            value = draw(st.one_of(st.floats(-9, 9), st.just(NAN)))
            points.append(Point(tag, time, value, arrival))
    points.sort(key=lambda point: point.arrival_ns)
    return rule, points, round(wait * period)


class TestOracle:
    @given(stream=streams(), data=st.data())
    def test_however_it_comes(
        self, stream: tuple[Rule, list[Point], int], data: st.DataObject
    ) -> None:
        """Divided anyhow, looked at any time: the samples are those of the whole."""
        rule, points, wait_ns = stream
        columns = [Column(tag, rule.hold_ns) for tag in rule.tags]
        it = Aligner("press", columns, float(rule.rate), wait_ns=wait_ns)
        events: list[Aligned] = []
        for tag, group in groupby(points, key=lambda point: point.tag):
            members = list(group)
            while members:
                size = data.draw(st.integers(1, len(members)))
                part, members = members[:size], members[size:]
                events += it.push(batch(tag, part), part[-1].arrival_ns)
                if data.draw(st.booleans()):
                    known = data.draw(st.booleans())
                    events += it.advance(part[-1].arrival_ns if known else None)
        events += it.advance(points[-1].arrival_ns + 10**6 * SECOND)
        expected = oracle(rule, points)
        made = [
            (event.start_ns if n == 0 else None, row.tolist())
            for event in events
            if isinstance(event, Samples)
            for n, row in enumerate(event.values.T)
        ]
        assert same([v for _, row in made for v in row], [v for _, row in expected for v in row])
        for (start, _), (time, _) in zip(made, expected, strict=True):
            assert start in (None, time)
        assert it.counts["late"] == 0


def batch(tag: str, points: Sequence[Point]) -> Readings:
    """Readings that come together."""
    numbers = np.array([p.value for p in points])
    return Readings(
        tag,
        np.array([p.time_ns for p in points], np.int64),
        numbers,
        np.where(np.isfinite(numbers), GOOD, BAD).astype(np.uint16),
        points[-1].arrival_ns,
    )


class TestGrid:
    def test_the_first_reading_begins_it(self) -> None:
        """Samples are where the readings are, whatever the wall clock says."""
        events = fed(aligner("t"), *(at("t", 0.3 + n, n) for n in range(4)))
        assert samples(events) == [(0.3, [0.0]), (1.3, [1.0]), (2.3, [2.0]), (3.3, [3.0])]
        first = events[0]
        assert isinstance(first, Samples)
        assert (first.run, first.unit, first.period_ns) == ("press", "press", SECOND)

    @pytest.mark.parametrize(("rate", "jitter"), [(1.0, 0.499), (12_000.0, 0.49), (1 / 60, 0.49)])
    def test_jitter_neither_loses_nor_doubles(self, rate: float, jitter: float) -> None:
        """Up to just under half a sample, about where the grid has begun."""
        count = 5000
        period = SECOND / rate
        offsets = np.random.default_rng(1).uniform(-jitter, jitter, count)
        offsets[0] = 0.0
        times = START + np.rint((np.arange(count) + offsets) * period).astype(np.int64)
        numbers = np.arange(count, dtype=float)
        it = aligner("t", rate_hz=rate)
        events: list[Aligned] = []
        for part in np.split(np.arange(count), range(7, count, 7)):
            arrived = int(times[part[-1]])
            good = np.full(len(part), GOOD, np.uint16)
            events += it.push(Readings("t", times[part], numbers[part], good, arrived), arrived)
            events += it.advance(arrived)
        assert values(events) == numbers.tolist()
        assert it.counts["late"] == 0

    @pytest.mark.parametrize("rate", [12_000.0, 44_100.0, 100 / 3, 1 / 7])
    def test_no_slip_over_hours(self, rate: float) -> None:
        """A period that is no whole number of ns: after days the samples are where they belong."""
        exact = Fraction(SECOND) / Fraction(rate).limit_denominator(1000)
        far = 4 * 3600 * 24 * round(rate) if rate > 1 else 10**6
        it = aligner("t", rate_hz=rate)
        events = fed(it, block("t", START, [1.0], arrived_ns=START), settle=0)
        grid = it._grid
        assert grid is not None
        assert grid.time(far) == START + int(far * exact)
        it._next = far
        size = 2 * MOST_TICKS + 5
        times = START + np.array([int((far + n) * exact) for n in range(size)], np.int64)
        late = Readings("t", times, np.arange(size, dtype=float), np.full(size, GOOD, np.uint16), 0)
        events = list(it.push(late, 0)) + list(it.advance(0))
        assert values(events) == list(range(size))
        starts = [event.start_ns for event in events if isinstance(event, Samples)]
        assert set(starts) <= set(times.tolist())

    def test_pieces_join_to_windows(self) -> None:
        """Blocks of 12 kHz become windows without a gap, whatever the division."""
        windower = Windower(4096, 4096)
        it, count = aligner("a", rate_hz=12_000.0), 60_000
        times = START + np.rint(np.arange(count) * SECOND / 12_000).astype(np.int64)
        found = []
        for part in np.split(np.arange(count), np.cumsum([1, 5, 1200, 7000, 1200, 33_000])):
            good = np.full(len(part), GOOD, np.uint16)
            now = int(times[part[-1]])
            it.push(Readings("a", times[part], part.astype(float), good, now), now)
            for each in it.advance(now):
                assert isinstance(each, Samples)
                converted = each.values.astype(np.float32)
                found += windower.push("r", "u", each.start_ns, each.period_ns, converted)
        assert len(found) == count // 4096
        assert windower.late == 0
        joined = np.concatenate([window.values[0] for window in found])
        assert joined.tolist() == list(range(len(joined)))


class TestValues:
    def test_a_value_holds_as_long_as_it_may(self) -> None:
        """Then it is missing; the rows stop where nothing comes."""
        it = aligner("a", "b", hold=2.0)
        events = fed(
            it, at("a", 0, 1.0), at("b", 0, 10.0), *(at("b", n, 10.0) for n in range(1, 6))
        )
        column = [row[0] for _, row in samples(events)]
        assert same(column, [1.0, 1.0, 1.0, NAN, NAN, NAN])

    @pytest.mark.parametrize(
        ("value", "quality"), [(3.0, BAD), (3.0, STALE), (NAN, GOOD), (float("inf"), GOOD)]
    )
    def test_what_is_not_good_ends_a_value(self, value: float, quality: int) -> None:
        """Bad, stale or no number: it is no sample, and the value before it holds no longer."""
        bad = replace(
            block("a", START + 2 * SECOND, [value]), quality=np.array([quality], np.uint16)
        )
        steady = [at("b", n, 1.0) for n in range(3, 6)]
        it = aligner("a", "b", hold=100.0)
        events = fed(it, at("a", 0, 7.0), at("b", 0, 1.0), bad, *steady, settle=10.0)
        column = [row[0] for _, row in samples(events)]
        assert same(column, [7.0, 7.0, NAN, NAN, NAN, NAN])

    def test_of_several_in_a_sample_the_first_counts(self) -> None:
        """So nothing is waited for; the last one holds on, and none of them is late."""
        it = aligner("a", hold=10.0)
        steps = [at("a", n / 10, n) for n in range(12)]
        assert values(fed(it, *steps, settle=3.0)) == [0.0, 5.0, 11.0]
        assert it.counts["late"] == 0

    def test_the_same_time_twice(self) -> None:
        """The first makes the sample, the last holds: a value that is taken back does not go on."""
        it = aligner("a", "b", hold=10.0)
        again = at("a", 0, 5.0, BAD)
        events = fed(it, at("a", 0, 5.0), at("b", 0, 1.0), again, at("b", 1, 1.0), at("b", 2, 1.0))
        assert same([row[0] for _, row in samples(events)], [5.0, NAN, NAN])

    def test_out_of_order_in_one_message(self) -> None:
        """They are put in order."""
        mixed = replace(
            block("a", START, [0.0, 1.0, 2.0, 3.0]),
            times_ns=START + SECOND * np.array([0, 2, 1, 3], np.int64),
        )
        assert values(fed(aligner("a"), mixed)) == [0.0, 2.0, 1.0, 3.0]

    def test_a_late_value_is_counted_and_holds_on(self) -> None:
        """What was made without it stays; from the next sample on it is what is known."""
        it = aligner("a", "b", hold=100.0, wait=1.0)
        early = [at("b", n, 0.0) for n in range(6)]
        events = fed(it, at("a", 0, 1.0), *early, settle=0)
        made = len(samples(events))
        assert made >= 4
        now = START + 5 * SECOND
        events = it.push(at("a", 2, 2.0), now)
        events += it.push(at("b", 6, 0.0), now + SECOND)
        events += it.advance(now + 10 * SECOND)
        assert it.counts["late"] == 1
        assert [row[0] for _, row in samples(events)][:2] == [2.0, 2.0]

    def test_a_later_old_value_changes_nothing(self) -> None:
        """What is known is newer."""
        it = aligner("a", hold=100.0)
        fed(it, at("a", 0, 1.0), at("a", 5, 5.0), settle=0)
        it.push(at("a", 3, 3.0), START + 5 * SECOND)
        events = it.advance(START + 19 * SECOND)
        assert it.counts["late"] == 1
        assert set(values(events)) == {5.0}

    def test_one_tag_for_two_signals(self) -> None:
        """Each has it."""
        events = fed(aligner("a", "a"), at("a", 0, 1.0), at("a", 1, 2.0))
        assert samples(events) == [(0.0, [1.0, 1.0]), (1.0, [2.0, 2.0])]

    def test_other_tags_and_nothing(self) -> None:
        """What nobody asked for, and a message without a value."""
        it = aligner("a")
        assert fed(it, at("x", 0, 1.0), block("a", START, [])) == []


class TestWaiting:
    def test_one_sample_as_soon_as_it_can_be(self) -> None:
        """Once every tag has come so far, not before."""
        it = aligner("a", "b", wait=5.0)
        assert fed(it, at("a", 0, 1.0), settle=0) == []
        assert samples(fed(it, at("b", 0, 2.0), settle=0)) == [(0.0, [1.0, 2.0])]

    def test_a_tag_that_never_comes(self) -> None:
        """The others go on after the wait; it is missing."""
        it = aligner("a", "b", wait=2.0)
        events = fed(it, *(at("a", n, n) for n in range(6)), settle=0)
        assert [row[0] for _, row in samples(events)] == [0.0, 1.0, 2.0]
        assert all(np.isnan(row[1]) for _, row in samples(events))
        rest = samples(it.advance(START + 100 * SECOND))
        assert rest[-1][0] == 5.0

    def test_a_clock_that_stands_still(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing is made, memory is bounded, and what is lost is counted."""
        monkeypatch.setattr(columns, "MOST_PIECES", 10)
        monkeypatch.setattr(columns, "MOST_HELD", 100)
        aligner = Aligner("u", [Column("a", SECOND), Column("b", SECOND)], 1.0, wait_ns=SECOND)
        for n in range(1000):
            aligner.push(block("a", n, [1.0]), n * SECOND)
            assert not list(aligner.advance(n * SECOND))
        assert 880 <= aligner.counts["overflow"] <= 950

    def test_nothing_new_and_all_hold(self) -> None:
        """Time goes on by the clock, as far as all values hold and no tag could still come."""
        it = aligner("a", hold=10.0, wait=1.0)
        fed(it, at("a", 0, 1.0), settle=0)
        assert [time for time, _ in samples(it.advance(START + 5 * SECOND))] == [1.0, 2.0, 3.0]
        late = samples(it.advance(START + 1000 * SECOND))
        assert late[-1] == (10.0, [1.0])

    def test_recorded_readings_know_no_clock(self) -> None:
        """Without one nothing is made beyond what has come."""
        it = aligner("a", hold=100.0)
        it.push(at("a", 0, 1.0))
        assert samples(it.advance()) == [(0.0, [1.0])]
        assert list(it.advance()) == []

    def test_nothing_is_made_in_advance(self) -> None:
        """A slow clock of the source: it is asked of the source's time, not of ours."""
        it = aligner("a", hold=100.0, wait=1.0)
        hour = 3600 * SECOND
        it.push(at("a", 0, 1.0), START + hour)
        assert samples(it.advance(START + hour)) == [(0.0, [1.0])]
        assert list(it.advance(START + hour + SECOND)) == []
        assert len(samples(it.advance(START + hour + 3 * SECOND))) == 1


class TestGaps:
    def test_a_short_one_is_missing_samples(self) -> None:
        """256 and fewer."""
        events = fed(aligner("a"), at("a", 0, 1.0), at("a", GAP_TICKS, 2.0))
        found = values(events)
        assert len(found) == GAP_TICKS + 1
        assert np.isnan(found[1:-1]).all()

    def test_a_long_one_is_a_new_grid(self) -> None:
        """Nothing is made up, and the run goes on."""
        events = fed(aligner("a"), at("a", 0, 1.0), at("a", 1000.4, 2.0), at("a", 1001.4, 3.0))
        assert samples(events) == [(0.0, [1.0]), (1000.4, [2.0]), (1001.4, [3.0])]
        assert not [event for event in events if isinstance(event, RunEnded)]

    def test_a_year(self) -> None:
        """It takes no more time and memory than a minute."""
        year = 365 * 86400
        events = fed(aligner("a", rate_hz=1e4), at("a", 0, 1.0), at("a", year, 2.0))
        assert samples(events) == [(0.0, [1.0]), (float(year), [2.0])]

    def test_a_lost_connection_ends_what_holds(self) -> None:
        """From then on the values are missing, until new ones come."""
        it = aligner("a", hold=1000.0)
        events = fed(it, at("a", 0, 1.0), settle=3.0)
        it.stale(START + 5 * SECOND)
        events += it.advance(START + 5 * SECOND)
        events += fed(it, at("a", 8, 2.0), settle=0)
        assert same(values(events), [1.0] * 5 + [NAN] * 3 + [2.0])
        assert it.counts["late"] == 0

    def test_a_lost_connection_before_anything(self) -> None:
        """There is nothing to end."""
        it = aligner("a")
        it.stale(START)
        assert list(it.advance(START)) == []


class TestRuns:
    def told(self, events: Iterable[Aligned]) -> Iterator[tuple[str, float] | str]:
        """Runs and their values, and the ends of runs."""
        for event in events:
            if isinstance(event, RunEnded):
                yield event.run
            elif isinstance(event, Samples):
                for value in event.values[0].tolist():
                    yield event.run, value

    def test_parts_follow_one_another(self) -> None:
        """Each is a run of its own, by number or by name, and ends before the next begins."""
        it = aligner("a", run_tag="part")
        batches = [at("part", 0, 7), at("a", 0, 1.0), at("a", 1, 2.0)]
        batches += [at("part", 1.7, NAN, BAD, text="P-8"), at("a", 2, 3.0), at("a", 3, 4.0)]
        assert list(self.told(fed(it, *batches))) == [
            ("press/7", 1.0),
            ("press/7", 2.0),
            "press/7",
            ("press/P-8", 3.0),
            ("press/P-8", 4.0),
        ]

    def test_no_part_no_run(self) -> None:
        """Before the first, and while the tag is bad: samples are left out and counted."""
        it = aligner("a", run_tag="part")
        batches = [at("a", 0, 1.0), at("part", 0.6, 7), at("a", 1, 2.0), at("a", 2, 2.5)]
        batches += [at("part", 2.2, NAN, BAD), at("a", 3, 3.0), at("a", 4, 4.0)]
        runs = [("press/7", 2.0), ("press/7", 2.5), "press/7"]
        assert list(self.told(fed(it, *batches))) == runs
        assert it.counts["no run"] == 3

    def test_zero_is_no_part(self) -> None:
        """As controllers say it that nothing is in the machine."""
        it = aligner("a", run_tag="part")
        batches = [at("part", 0, 7), at("a", 0, 1.0), at("part", 0.7, 0), at("a", 1, 2.0)]
        batches += [at("a", 2, 3.0)]
        assert list(self.told(fed(it, *batches))) == [("press/7", 1.0), "press/7"]

    def test_the_same_part_again(self) -> None:
        """It is said again and again, and is one run."""
        it = aligner("a", run_tag="part")
        batches = [at(tag, n, 7.0) for n in range(5) for tag in ("part", "a")]
        assert len(list(self.told(fed(it, *batches)))) == 5

    def test_many_changes_without_a_sample(self) -> None:
        """They take no memory to speak of."""
        it = aligner("a", run_tag="part")
        fed(it, *(at("part", n, n) for n in range(5000)))
        assert len(it._runs._coming) <= 4096


class TestClocks:
    def test_set_back(self) -> None:
        """After a few readings the run ends, and what comes is samples again."""
        it = aligner("a")
        events = fed(it, *(at("a", 10_000 + n, n) for n in range(3)), settle=0)
        steady = START + 10_003 * SECOND
        for n in range(CLOCK_READINGS + 2):
            events += it.push(at("a", n, 100 + n), steady + n * SECOND)
            events += it.advance(steady + n * SECOND)
        assert [event.run for event in events if isinstance(event, RunEnded)] == ["press"]
        assert values(events)[-3:] == [104.0, 105.0, 106.0]
        assert it.counts["clock set back"] == 1

    def test_one_old_tag_sets_no_clock_back(self) -> None:
        """Another device has the wrong time: its values are late, the others stay."""
        it = aligner("a", "b", wait=0.0)
        events: list[Aligned] = []
        for n in range(50):
            events += fed(it, at("a", 10_000 + n, n), settle=0)
            events += it.push(at("b", n, 1.0), START + (10_000 + n) * SECOND)
        assert len(samples(events)) >= 49
        assert it.counts["clock set back"] == 0
        assert it.counts["late"] > 40

    def test_a_value_that_stands_outlives_it(self) -> None:
        """It is not told again for long, and was still good."""
        it = aligner("a", "b", hold=10_000.0)
        fed(it, at("b", 10_000, 5.0), *(at("a", 10_000 + n, n) for n in range(3)), settle=0)
        steady = START + 10_003 * SECOND
        events: list[Aligned] = []
        for n in range(30):
            events += it.push(at("a", n, n), steady + n * SECOND)
            events += it.advance(steady + n * SECOND)
        assert samples(events)[-1] == (27.0, [27.0, 5.0])


class TestFaster:
    @pytest.mark.parametrize("sizes", [[5000], [1] * 40 + [999], [17] * 290, [1200, 3, 2000, 1]])
    def test_as_the_filter_of_a_whole_recording(self, sizes: list[int]) -> None:
        """A column that comes ten times as fast: the same as `decimate`, in step with the other."""
        factor, count = 10, 4001
        generator = np.random.default_rng(2)
        wave = generator.normal(size=count).cumsum()
        period = SECOND // factor
        it = aligner("fast", "slow", factors=[factor, 1], wait=100.0)
        events: list[Aligned] = []
        position = 0
        for size in sizes:
            part = wave[position : position + size]
            if not len(part):
                break
            start = START + position * period
            now = start + len(part) * period
            position += len(part)
            events += it.push(block("fast", start, part.tolist(), period), now)
            first = (start - START + SECOND - 1) // SECOND
            for n in range(first, (start - START + (len(part) - 1) * period) // SECOND + 1):
                events += it.push(at("slow", n, n), now)
            events += it.advance(now)
        expected = decimate(wave[None, :position], factor)[0]
        made = samples(events)
        assert len(made) >= (position - 1) // factor - 26
        assert [time for time, _ in made] == [row[1] for _, row in made]
        np.testing.assert_array_equal([row[0] for _, row in made], expected[: len(made)])

    def test_the_end_of_a_run_lets_all_go(self) -> None:
        """What waited in the filter belongs to the run that ends, and comes before its end."""
        it = aligner("fast", factors=[4], run_tag="part")
        period = SECOND // 4
        batches = [at("part", 0, 1), block("fast", START, [1.0] * 121, period)]
        batches += [at("part", 30.6, 2), block("fast", START + 121 * period, [2.0] * 120, period)]
        events = fed(it, *batches)
        last = max(n for n, event in enumerate(events) if event.run == "press/1")
        assert isinstance(events[last], RunEnded)
        mine = [e for e in events if isinstance(e, Samples) and e.run == "press/1"]
        assert [row[0] for _, row in samples(mine)] == pytest.approx([1.0] * 31)
        rest = [e for e in events if isinstance(e, Samples) and e.run == "press/2"]
        assert samples(rest)[0][0] == 31.0
        assert values(rest) == pytest.approx([2.0] * len(values(rest)))

    def test_a_tone_that_the_rate_cannot_show(self) -> None:
        """It is gone, and no ghost of it is there; what can be shown is there in full."""
        factor, seconds = 16, 200
        time = np.arange(seconds * factor + 1) / factor
        tone = np.sin(2 * np.pi * 3.1 * time) + np.sin(2 * np.pi * 0.1 * time)
        it = aligner("fast", factors=[factor])
        events = fed(it, block("fast", START, tone.tolist(), SECOND // factor))
        made = np.array(values(events))[30:-30]
        expected = np.sin(2 * np.pi * 0.1 * np.arange(30, 30 + len(made)))
        assert np.abs(made - expected).max() < 2e-3

    def test_a_lost_value_does_not_spoil_fifty_samples(self) -> None:
        """Half a sample of the job is bridged; a bad one is not."""
        factor = 20
        period = SECOND // factor
        it = aligner("fast", factors=[factor])
        first = block("fast", START, [1.0] * 1000, period)
        second = block("fast", START + 1005 * period, [1.0] * 1000, period)
        assert np.isfinite(values(fed(it, first, second))).all()
        it = aligner("fast", factors=[factor])
        bad = block("fast", START + 1000 * period, [1.0], period, quality=BAD)
        second = block("fast", START + 1001 * period, [1.0] * 2000, period)
        found = np.isnan(values(fed(it, first, bad, second)))
        assert 40 <= np.count_nonzero(found) <= 52

    def test_a_gap_begins_the_filter_afresh(self) -> None:
        """No value of before is in what comes after."""
        it = aligner("fast", factors=[4])
        period = SECOND // 4
        later = block("fast", START + 5000 * SECOND, [2.0] * 400, period)
        events = fed(it, block("fast", START, [1.0] * 401, period), later)
        made = samples(events)
        assert [row[0] for time, row in made if time < 1000] == pytest.approx([1.0] * 101)
        after = [row[0] for time, row in made if time > 1000]
        assert after == pytest.approx([2.0] * len(after))
        assert after
