# SPDX-License-Identifier: Apache-2.0
"""Source times and rates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_agent.sources.timeline import TimeUnit, iso, parse_iso, parse_time, period_ns, stamp


class TestParseIso:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("1970-01-01T00:00:00+00:00", 0),
            ("1970-01-01", 0),
            ("2024-01-01T00:00:00Z", 1_704_067_200_000_000_000),
            (" 2024-01-01 01:00:00+01:00 ", 1_704_067_200_000_000_000),
            ("2024-01-01T00:00:00.000001", 1_704_067_200_000_001_000),
            ("1969-12-31T23:59:59.5Z", -500_000_000),
        ],
    )
    def test_is_exact_to_the_microsecond(self, text: str, expected: int) -> None:
        """ISO 8601 in any zone becomes ns UTC; no zone means UTC."""
        assert parse_iso(text) == expected

    @pytest.mark.parametrize("text", ["", "yesterday", "2024-13-01", "9999-01-01", "0001-01-01"])
    def test_refuses_what_int64_cannot_hold_or_is_no_time(self, text: str) -> None:
        """Anything else is a ValueError."""
        with pytest.raises(ValueError, match=r"."):
            parse_iso(text)


class TestParseTime:
    @pytest.mark.parametrize(
        ("text", "expected"), [("0", 0), ("1.5", 1_500_000_000), ("-2", -2_000_000_000)]
    )
    def test_numbers_are_unix_seconds(self, text: str, expected: int) -> None:
        """A number counts seconds since 1970."""
        assert parse_time(text) == expected

    def test_texts_are_iso(self) -> None:
        """Anything but a number is read as ISO 8601."""
        assert parse_time("1970-01-01T00:00:01") == 1_000_000_000

    @pytest.mark.parametrize("text", ["nan", "inf", "1e300", "-1e11", "noon", ""])
    def test_refuses_the_rest(self, text: str) -> None:
        """Infinite, far too large and unreadable times are ValueErrors."""
        with pytest.raises(ValueError, match=r"."):
            parse_time(text)


class TestStamp:
    @pytest.mark.parametrize(
        ("value", "unit", "expected"),
        [
            (1, "s", 10**9),
            (1.5, "ms", 1_500_000),
            (1_704_067_200_123_456_789, "ns", 1_704_067_200_123_456_789),
            ("1704067200123456789", "ns", 1_704_067_200_123_456_789),
            ("2.5", "us", 2500),
            ("1970-01-01T00:00:01Z", "ms", 10**9),
        ],
    )
    def test_numbers_in_a_unit_and_texts(
        self, value: object, unit: TimeUnit, expected: int
    ) -> None:
        """Whole nanoseconds stay exact, which a float would not."""
        assert stamp(value, unit) == expected

    @pytest.mark.parametrize(
        "value", [True, None, [], {}, "", "noon", float("nan"), float("inf"), 10**30, "1e40"]
    )
    def test_refuses_the_rest(self, value: object) -> None:
        """Anything else is a ValueError."""
        with pytest.raises(ValueError, match=r"."):
            stamp(value, "ns")

    @given(st.integers(-(2**62), 2**62))
    def test_iso_is_read_back(self, time_ns: int) -> None:
        """To the microsecond, which is as far as reading goes."""
        assert 0 <= time_ns - parse_iso(iso(time_ns)) < 1000


class TestPeriod:
    @pytest.mark.parametrize(
        ("rate", "expected"), [(1.0, 10**9), (12_000.0, 83_333), (1 / 180, 180 * 10**9), (1e12, 1)]
    )
    def test_is_whole_nanoseconds(self, rate: float, expected: int) -> None:
        """The nearest whole number, never 0."""
        assert period_ns(rate) == expected
