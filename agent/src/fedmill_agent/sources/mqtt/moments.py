# SPDX-License-Identifier: Apache-2.0
"""Times in messages: numbers that count from 1970, and ISO 8601."""

from typing import Literal

from fedmill_agent.sources.timeline import parse_iso

TimeUnit = Literal["auto", "s", "ms", "us", "ns"]

_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_BY_SIZE = ((1e11, "s"), (1e14, "ms"), (1e17, "us"))
"""A number below that is of this unit: until the year 5138, and from 1973 on."""
_LARGEST = 2**62
"""In the year 2116; no sum of two such times overflows."""


def moment(told: object, unit: TimeUnit = "auto") -> int | None:
    """Nanoseconds since 1970-01-01 UTC; None where ``told`` is no time, or one after 2116."""
    if isinstance(told, bool):
        return None
    if isinstance(told, str):
        number = _number(told)
        if number is None:
            return _iso(told)
        told = number
    if not isinstance(told, int | float) or not abs(told) < float("inf"):
        return None
    size = abs(told)
    name = unit if unit != "auto" else next((u for most, u in _BY_SIZE if size < most), "ns")
    found = told * _NS[name] if isinstance(told, int) else _scaled(told, _NS[name])
    return found if abs(found) <= _LARGEST else None


def _scaled(told: float, factor: int) -> int:
    # whole and fraction apart: their product would be off by a quarter of a microsecond
    whole = int(told)
    return whole * factor + round((told - whole) * factor)


def _number(told: str) -> int | float | None:
    text = told.strip()
    if not 0 < len(text) <= 40 or "_" in text:
        return None
    try:
        return int(text) if text.lstrip("-").isdecimal() else float(text)
    except ValueError:
        return None


def _iso(told: str) -> int | None:
    try:
        found = parse_iso(told[:64])
    except (ValueError, OverflowError):
        return None
    return found if abs(found) <= _LARGEST else None
