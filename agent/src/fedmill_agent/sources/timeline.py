# SPDX-License-Identifier: Apache-2.0
"""Source time: texts and rates to int64 nanoseconds UTC."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LARGEST = 2**63 - 1


def parse_iso(text: str) -> int:
    """Nanoseconds since 1970-01-01 UTC of an ISO 8601 time; one without a zone is UTC.

    Resolution is one microsecond.

    Raises:
        ValueError: not ISO 8601, or outside the years 1677 to 2262 that int64 ns can hold.
    """
    moment = datetime.fromisoformat(text.strip())
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return _bounded((moment - _EPOCH) // timedelta(microseconds=1) * 1000)


def parse_time(text: str) -> int:
    """Nanoseconds since 1970-01-01 UTC of unix seconds or of an ISO 8601 time.

    A number always means unix seconds, so a bare ``20240101`` is not a date.

    Raises:
        ValueError: neither of the two, or outside the range of int64 ns.
    """
    try:
        seconds = float(text)
    except ValueError:
        return parse_iso(text)
    if not abs(seconds) < _LARGEST / 1e9:
        raise ValueError(f"{text!r} seconds is outside the range of int64 ns")
    return _bounded(round(seconds * 1e9))


def period_ns(rate_hz: float) -> int:
    """Whole nanoseconds between samples at ``rate_hz``, at least 1."""
    return max(1, round(1e9 / rate_hz))


def _bounded(nanoseconds: int) -> int:
    if abs(nanoseconds) > _LARGEST:
        raise ValueError("time is outside the range of int64 ns")
    return nanoseconds
