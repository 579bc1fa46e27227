# SPDX-License-Identifier: Apache-2.0
"""Units of plant signals, and exact conversion between them.

Factors are the exact ones of NIST Special Publication 811 (2008), Appendix B: inch 0.0254 m, pound
0.453 592 37 kg, standard gravity 9.806 65 m/s2, horsepower 550 ft lbf/s, degree Fahrenheit 5/9 K.
They are fractions; only the final factor and offset of a conversion are rounded, to float64.

Pressure above the atmosphere (``barg``) does not convert to absolute pressure (``bar``): the
difference is the weather. Standard volume flow (``scmh``) does not convert to volume flow
(``m3/h``): the difference is the operating pressure and temperature.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from fedmill_shared.errors import SchemaError

_INCH = Fraction("0.0254")
_POUND = Fraction("0.45359237")
_GRAVITY = Fraction("9.80665")
_POUND_FORCE = _POUND * _GRAVITY
_PSI = _POUND_FORCE / _INCH**2
_TURN = Fraction("6.283185307179586476925286766559005768394")  # radians

_FACTORS: dict[str, dict[str, Fraction | int | str]] = {
    "ratio": {"1": 1, "%": "0.01", "ppm": "1e-6"},
    "amount fraction": {"mol/mol": 1, "mol%": "0.01"},
    "volume fraction": {"m3/m3": 1, "vol%": "0.01", "ppmv": "1e-6"},
    "length": {
        "m": 1, "cm": "0.01", "mm": "1e-3", "um": "1e-6",
        "in": _INCH, "mil": _INCH / 1000, "ft": _INCH * 12, "kft": _INCH * 12_000,
    },
    "velocity": {"m/s": 1, "mm/s": "1e-3", "in/s": _INCH, "m/min": "1/60", "km/h": "5/18"},
    "acceleration": {"m/s2": 1, "mm/s2": "1e-3", "g": _GRAVITY},
    "angle": {"rad": 1, "deg": _TURN / 360},
    "frequency": {"Hz": 1, "kHz": 1000, "rpm": "1/60", "rad/s": 1 / _TURN},
    "time": {"s": 1, "us": "1e-6", "ms": "1e-3", "min": 60, "h": 3600, "d": 86_400},
    "count": {"cycle": 1},
    "data": {
        "B": 1, "kB": 1000, "MB": 1_000_000, "GB": 1_000_000_000,
        "KiB": 2**10, "MiB": 2**20, "GiB": 2**30,
    },
    "data rate": {"B/s": 1, "kB/s": 1000, "MB/s": 1_000_000},
    "mass": {"kg": 1, "t": 1000, "lb": _POUND},
    "mass flow": {
        "kg/s": 1, "kg/h": "1/3600", "t/h": "5/18", "lb/s": _POUND, "lb/h": _POUND / 3600,
    },
    "volume": {"m3": 1, "l": "1e-3", "cm3": "1e-6"},
    "volume flow": {"m3/s": 1, "m3/h": "1/3600", "l/min": "1/60000", "l/s": "1e-3"},
    "standard volume flow": {"scmh": 1, "kscmh": 1000},
    "temperature": {"K": 1, "degC": 1, "degF": "5/9", "degR": "5/9"},
    "pressure": {
        "Pa": 1, "hPa": 100, "kPa": 1000, "MPa": 1_000_000,
        "mbar": 100, "bar": 100_000, "psi": _PSI, "psia": _PSI,
    },
    "gauge pressure": {"kPag": 1000, "barg": 100_000, "psig": _PSI},
    "force": {"N": 1, "kN": 1000, "lbf": _POUND_FORCE},
    "torque": {"Nm": 1, "kNm": 1000},
    "power": {"W": 1, "kW": 1000, "MW": 1_000_000, "hp": 550 * 12 * _INCH * _POUND_FORCE},
    "reactive power": {"var": 1, "kvar": 1000},
    "apparent power": {"VA": 1, "kVA": 1000},
    "energy": {"J": 1, "kJ": 1000, "MJ": 1_000_000, "kWh": 3_600_000, "MWh": 3_600_000_000},
    "reactive energy": {"kvarh": 1},
    "current": {"A": 1, "mA": "1e-3"},
    "voltage": {"V": 1, "mV": "1e-3", "kV": 1000},
}  # fmt: skip
_OFFSETS = {"degC": Fraction("273.15"), "degF": Fraction("459.67") * 5 / 9}
_ALIASES = {
    "": "1", "-": "1", "m/s^2": "m/s2", "m/s²": "m/s2", "mm/s^2": "mm/s2", "mm/s²": "mm/s2",
    "µm": "um", "μm": "um", "°C": "degC", "°F": "degF", "°R": "degR", "1/min": "rpm",
    "min-1": "rpm", "m³": "m3", "m³/h": "m3/h", "m³/s": "m3/s", "cm³": "cm3", "L": "l",
    "L/min": "l/min", "L/s": "l/s", "N·m": "Nm", "lbm/s": "lb/s", "pps": "lb/s",
    "cycles": "cycle", "µs": "us", "μs": "us",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit: its value times ``factor`` plus ``offset`` is in the dimension's base unit."""

    dimension: str
    factor: Fraction
    offset: Fraction


UNITS: dict[str, Unit] = {
    symbol: Unit(dimension, Fraction(factor), _OFFSETS.get(symbol, Fraction(0)))
    for dimension, factors in _FACTORS.items()
    for symbol, factor in factors.items()
}
"""Every unit by its canonical symbol, grouped by dimension."""


def canonical(symbol: str) -> str:
    """The symbol that stands for ``symbol`` in schemas: ``°C`` is ``degC``.

    Raises:
        SchemaError: no such unit; names the nearest one.
    """
    if symbol in UNITS:
        return symbol
    if symbol in _ALIASES:
        return _ALIASES[symbol]
    from fedmill_shared.signals.spoken import meant  # noqa: PLC0415  only a mistake needs it

    near = meant(symbol, [known for known in (*_ALIASES, *UNITS) if known])
    hint = f"did you mean {near}? " if near else ""
    raise SchemaError(
        f'unit "{symbol}" is unknown',
        remedy=f'{hint}docs/job-reference.md lists the units; "1" is for everything without one',
    )


def convertible(symbol: str) -> list[str]:
    """Every other unit of the same dimension, by canonical symbol.

    Raises:
        SchemaError: no such unit.
    """
    own = canonical(symbol)
    dimension = UNITS[own].dimension
    return [name for name, unit in UNITS.items() if unit.dimension == dimension and name != own]


@cache
def affine(source: str, target: str) -> tuple[float, float]:
    """Factor and offset with ``value in target = factor * value in source + offset``.

    Raises:
        SchemaError: a unit is unknown, or the two measure different things.
    """
    before, after = UNITS[canonical(source)], UNITS[canonical(target)]
    if before.dimension != after.dimension:
        others = ", ".join(convertible(target)) or "nothing else"
        raise SchemaError(
            f'unit "{source}" ({before.dimension}) does not convert to "{target}" '
            f"({after.dimension})",
            remedy=f"{target} converts from {others}",
        )
    factor = before.factor / after.factor
    offset = (before.offset - after.offset) / after.factor
    return float(factor), float(offset)
