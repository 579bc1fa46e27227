# SPDX-License-Identifier: Apache-2.0
"""Times of the week, against a list of all its minutes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_agent.shifts import DAYS, Shift, parse
from fedmill_shared.errors import ConfigError

DAY = 24 * 60
WEEK = 7 * DAY

minutes = st.integers(0, DAY - 1)
days = st.integers(0, 6)


def clock(minute: int) -> str:
    """A minute of the day as people write it."""
    return f"{minute // 60:02}:{minute % 60:02}"


def inside(text: str) -> set[int]:
    """Minutes of the week that belong to the shift."""
    shift = parse(text)
    return {minute for minute in range(WEEK) if shift.contains(minute // DAY, minute % DAY)}


class TestParse:
    @pytest.mark.parametrize(
        ("text", "shift"),
        [
            ("mon-fri 06:00-14:00", Shift(frozenset(range(5)), 360, 840)),
            ("sun 00:00-24:00", Shift(frozenset({6}), 0, 1440)),
            ("daily 18:30-24:00", Shift(frozenset(range(7)), 1110, 1440)),
            ("fri 22:00-06:00", Shift(frozenset({4}), 1320, 1800)),
            ("sat-mon 09:00-17:00", Shift(frozenset({5, 6, 0}), 540, 1020)),
            ("wed-wed 09:00-17:00", Shift(frozenset({2}), 540, 1020)),
            ("mon 23:59-00:00", Shift(frozenset({0}), 1439, 1440)),
        ],
    )
    def test_known(self, text: str, shift: Shift) -> None:
        """Worked by hand."""
        assert parse(text) == shift

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "mon",
            "06:00-14:00",
            "Mon 06:00-14:00",
            "monday 06:00-14:00",
            "mon,tue 06:00-14:00",
            "daily-fri 06:00-14:00",
            "mon 6:00-14:00",
            "mon 06:00-24:01",
            "mon 24:00-06:00",
            "mon 06:60-14:00",
            "mon 06:00 - 14:00",
            "mon  06:00-14:00",
            " mon 06:00-14:00",
            "mon 06:00-14:00\n",
            "mon 06:00-14:00-16:00",
            "mon ٠٦:00-14:00",
        ],
    )
    def test_strict(self, text: str) -> None:
        """Anything else is named and refused."""
        with pytest.raises(ConfigError, match=r'is no shift: .* \(write .*"mon-fri 06:00-14:00"'):
            parse(text)

    @pytest.mark.parametrize(
        ("text", "fault"),
        [
            ("Mon-FRI 06:00-14:00", "days are small letters"),
            ("mon 6:00-14:00", "hours have two digits: 06:00"),
            ("mon 22:00-6:00", "hours have two digits: 06:00"),
            ("mon,tue 06:00-14:00", "a shift of its own for each other"),
            (
                "monday 06:00-14:00",
                "monday.* is none of mon, tue, wed, thu, fri, sat, sun,",
            ),
            ("mon 06:00 - 14:00", "one blank and times are wanted, and no other blank"),
            ("06:00-14:00", "days, one blank and times are wanted"),
            ("mon 24:00-06:00", "times begin from 00:00 to 23:59"),
            ("mon 06:00", "end behind a hyphen"),
            ("mon 06:00-24:01", "times end from 00:00 to 24:00"),
        ],
    )
    def test_names_what_is_wrong(self, text: str, fault: str) -> None:
        """The person need not compare the text with the example letter by letter."""
        with pytest.raises(ConfigError, match=f"is no shift: .*{fault}"):
            parse(text)

    @pytest.mark.parametrize("time", ["00:00", "14:00"])
    def test_empty(self, time: str) -> None:
        """Times that begin where they end could mean nothing or all; the person must say."""
        with pytest.raises(ConfigError, match=r'is empty \(for whole days write "00:00-24:00"'):
            parse(f"mon {time}-{time}")


class TestContains:
    @given(days, days, minutes, minutes)
    def test_is_each_day_and_its_minutes(self, first: int, last: int, begin: int, end: int) -> None:
        """Walked minute by minute through the week, over midnight and over Sunday."""
        if begin == end:
            end = DAY
        expected, day = set(), first
        while True:
            minute = begin
            while minute % DAY != end % DAY or minute == begin:
                expected.add((day * DAY + minute) % WEEK)
                minute += 1
            if day == last:
                break
            day = (day + 1) % 7
        stop = "24:00" if end == DAY else clock(end)
        assert inside(f"{DAYS[first]}-{DAYS[last]} {clock(begin)}-{stop}") == expected

    def test_the_week_is_covered(self) -> None:
        """Three shifts a day leave no minute out and share none."""
        shifts = ["daily 06:00-14:00", "daily 14:00-22:00", "daily 22:00-06:00"]
        covered = [inside(text) for text in shifts]
        assert set().union(*covered) == set(range(WEEK))
        assert sum(map(len, covered)) == WEEK
