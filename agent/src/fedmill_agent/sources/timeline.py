# SPDX-License-Identifier: Apache-2.0
"""Source time: texts and rates to int64 nanoseconds UTC."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LARGEST = 2**63 - 1
_NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}

TimeUnit = Annotated[
    Literal["s", "ms", "us", "ns"], Meta(description="Of times that are numbers, since 1970.")
]


def parse_iso(text: str) -> int:
    """Nanoseconds since 1970-01-01 UTC of an ISO 8601 time; one without a zone is UTC.

    Resolution is one microsecond.

    Raises:
        ValueError: not ISO 8601, or outside the years 1677 to 2262 that int64 ns can hold.
    """
    moment = datetime.fromisoformat(text.strip())
    return moment_ns(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def moment_ns(moment: datetime) -> int:
    """Nanoseconds since 1970-01-01 UTC of a moment that has a zone.

    Raises:
        ValueError: outside the years 1677 to 2262 that int64 ns can hold.
    """
    return _bounded((moment - _EPOCH) // timedelta(microseconds=1) * 1000)


def utc(time_ns: int) -> str:
    """``time_ns``, ns UTC, as ISO 8601 to the millisecond."""
    return f"{np.datetime_as_string(np.datetime64(time_ns, 'ns'), unit='ms')}Z"


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


def stamp(value: object, unit: TimeUnit) -> int:
    """Nanoseconds since 1970-01-01 UTC of a number in ``unit``, or of an ISO 8601 text.

    Whole numbers, also as text, are exact.

    Raises:
        ValueError: neither of the two, or outside the range of int64 ns.
    """
    if isinstance(value, str):
        try:
            return stamp(int(value), unit)
        except ValueError:
            pass
        try:
            return stamp(float(value), unit)
        except ValueError:
            return parse_iso(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        scaled = value * _NANOSECONDS[unit]
        if abs(scaled) <= _LARGEST:
            return _bounded(round(scaled))
    raise ValueError(f"{str(value)[:40]!r} is no time in {unit}, nor in ISO 8601")


def iso(time_ns: int) -> str:
    """ISO 8601 of a time (ns UTC), to the nanosecond: ``2024-01-31T12:00:00.000000001Z``."""
    moment = _EPOCH + timedelta(seconds=time_ns // 10**9)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ns % 10**9:09d}Z"


def period_ns(rate_hz: float) -> int:
    """Whole nanoseconds between samples at ``rate_hz``, at least 1."""
    return max(1, round(1e9 / rate_hz))


def _bounded(nanoseconds: int) -> int:
    if abs(nanoseconds) > _LARGEST:
        raise ValueError("time is outside the range of int64 ns")
    return nanoseconds
