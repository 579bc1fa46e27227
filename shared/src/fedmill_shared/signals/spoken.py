# SPDX-License-Identifier: Apache-2.0
"""Units as people write them; a mistake alone imports this."""

import difflib
from collections.abc import Iterable

from fedmill_shared.nearest import nearest

SPOKEN = {
    "percent": "%", "per cent": "%", "pct": "%",
    "metre": "m", "metres": "m", "meter": "m", "meters": "m", "millimetre": "mm",
    "millimeter": "mm", "micron": "um", "microns": "um", "inch": "in", "inches": "in",
    "foot": "ft", "feet": "ft",
    "hertz": "Hz", "u/min": "rpm", "r/min": "rpm", "rev/min": "rpm", "min^-1": "rpm",
    "second": "s", "seconds": "s", "sec": "s", "msec": "ms", "minute": "min", "minutes": "min",
    "hour": "h", "hours": "h", "hr": "h", "hrs": "h", "day": "d", "days": "d",
    "c": "degC", "celsius": "degC", "deg c": "degC", "grad c": "degC", "f": "degF",
    "fahrenheit": "degF", "deg f": "degF", "kelvin": "K", "degk": "K", "°k": "K",
    "bara": "bar", "bars": "bar", "bar(a)": "bar", "bar(g)": "barg", "pascal": "Pa",
    "n/m2": "Pa", "n/m²": "Pa", "kn/m2": "kPa", "kn/m²": "kPa", "n/mm2": "MPa", "n/mm²": "MPa",
    "newton": "N", "newtons": "N", "watt": "W", "watts": "W", "volt": "V", "volts": "V",
    "amp": "A", "amps": "A", "ampere": "A", "amperes": "A", "joule": "J", "joules": "J",
    "litre": "l", "litres": "l", "liter": "l", "liters": "l", "lpm": "l/min",
    "kilogram": "kg", "kilograms": "kg", "tonne": "t", "tonnes": "t", "ton": "t", "pound": "lb",
    "pounds": "lb", "lbs": "lb", "degree": "deg", "degrees": "deg", "°": "deg", "byte": "B",
    "bytes": "B", "none": "1", "dimensionless": "1",
}  # fmt: skip
"""In lower case -> the symbol that is meant; they are proposed, and not taken for it."""


_ALIKE = 0.8
"""Words are long, so that many are a little like each other."""


def meant(symbol: str, known: Iterable[str]) -> str:
    """The symbol that ``symbol`` probably means, of ``known`` ones; empty if none is like it."""
    word = symbol.strip().lower()
    if close := difflib.get_close_matches(word, SPOKEN, 1, _ALIKE):
        return SPOKEN[close[0]]
    symbols = {each.lower(): each for each in known}
    near = nearest(word, symbols)
    return symbols[near] if near else ""
