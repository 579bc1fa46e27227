# SPDX-License-Identifier: Apache-2.0
"""Registers to numbers: types, orders of bytes and words, and values that stand for none.

The protocol knows 16 bit registers, high byte first, and bits (Modbus Application Protocol
Specification 1.1b3, 4.2 and 4.3). How larger values lie in registers is every device's own choice.
"""

from collections.abc import Sequence
from math import isfinite
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Type = Literal[
    "bool",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float32",
    "float64",
]
TYPES: tuple[str, ...] = get_args(Type)
WIDTHS = {name: 2 if name == "bool" else np.dtype(name).itemsize for name in TYPES}
"""Bytes of each type."""
ORDERS = {
    2: ("AB", "BA"),
    4: ("ABCD", "DCBA", "BADC", "CDAB"),
    8: ("ABCDEFGH", "HGFEDCBA", "BADCFEHG", "GHEFCDAB"),
}
"""By the bytes of a type, how they may come; A is the most significant one."""
SANE = (1e-3, 1e6)
"""Sizes between which most measured values lie."""
_USUAL = (1e-20, 1e20)


def order_of(kind: str, pattern: str) -> str:
    """The order in which the bytes of a type come where a device sends four bytes as ``pattern``.

    Values of one register come high byte first, as the protocol says: devices that swap words or
    bytes do so to put several registers together.

    >>> order_of("float64", "CDAB")
    'GHEFCDAB'
    """
    width = WIDTHS[kind]
    return ORDERS[width][0 if width == 2 else ORDERS[4].index(pattern)]


def raw_values(data: bytes, kind: str, order: str) -> NDArray[np.generic]:
    """Values (n,) of the type ``kind`` in the registers ``data``; a bool is its whole register."""
    width = WIDTHS[kind]
    taken = [order.index(letter) for letter in ORDERS[width][0]]
    straight = np.frombuffer(data, np.uint8).reshape(-1, width)[:, taken]
    dtype = np.dtype("u2" if kind == "bool" else kind).newbyteorder(">")
    return np.ascontiguousarray(straight).view(dtype).ravel()


def numbers(
    data: bytes, kind: str, order: str, *, bit: int = -1, not_a_number: Sequence[int] = ()
) -> NDArray[np.float64]:
    """float64 (n,) of the registers ``data``; NaN where there is none. Integers round above 2^53.

    Args:
        data: whole values, two bytes for each register, as they came.
        kind: one of ``TYPES``.
        order: one of ``ORDERS``.
        bit: take only this bit of each value, 0 the least significant one; -1 for the whole.
        not_a_number: values that stand for none, as integers with the same bits.
    """
    raw = raw_values(data, kind, order)
    if bit >= 0:
        return ((raw.view(_unsigned(kind)) >> bit) & 1).astype(np.float64)
    values = _floats(raw != 0 if kind == "bool" else raw)
    for each in not_a_number:  # NumPy's isin fails on large values of this byte order
        values[raw.view(_unsigned(kind)) == each % (1 << 8 * WIDTHS[kind])] = np.nan
    return values


def bits(data: bytes, first: int, count: int) -> NDArray[np.float64]:
    """0 or 1, float64 (count,), of packed coils or inputs, the lowest bit of a byte first."""
    packed = np.frombuffer(data, np.uint8)
    return np.unpackbits(packed, bitorder="little")[first : first + count].astype(np.float64)


def suspects(
    data: bytes, kind: str, order: str, low: float, high: float
) -> list[tuple[str, float]]:
    """Other orders that would make sense of a value that makes none.

    Args:
        data: the registers of one value, as they came.
        kind: its type.
        order: the order in which it was read.
        low: least plausible value.
        high: greatest plausible value.

    Returns:
        For each other order that gives a plausible value, the order and the value, the nearest to
        the middle of the range first; nothing where the value is plausible as it is. A float that
        no plant measures is not plausible, wherever the range begins.
    """
    if kind == "bool" or low <= _one(data, kind, order) <= high:
        return []
    told = [(each, _one(data, kind, each)) for each in ORDERS[WIDTHS[kind]] if each != order]
    middle = low / 2 + high / 2
    return sorted(
        ((each, value) for each, value in told if low <= value <= high and usual(value)),
        key=lambda found: abs(found[1] - middle),
    )


def usual(value: float) -> bool:
    """Whether a device may mean ``value``: no number at all is how many say that it is bad."""
    return value == 0.0 or not isfinite(value) or _USUAL[0] <= abs(value) <= _USUAL[1]


def nonsense(data: bytes, kind: str, order: str) -> str:
    """The order that makes sense of a float that no plant measures, such as 4.6e-41; else empty."""
    if not kind.startswith("float") or usual(_one(data, kind, order)):
        return ""
    for sign in (1.0, -1.0):
        low, high = sorted((sign * SANE[0], sign * SANE[1]))
        for found, _value in suspects(data, kind, order, low, high):
            return found
    return ""


def _one(data: bytes, kind: str, order: str) -> float:
    return float(_floats(raw_values(data, kind, order))[0])


def _floats(raw: NDArray[np.generic]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # signalling NaN, which any bits may be
        return raw.astype(np.float64)


def _unsigned(kind: str) -> str:
    return f">u{WIDTHS[kind]}"
