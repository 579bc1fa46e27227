# SPDX-License-Identifier: Apache-2.0
"""The wire format of Protocol Buffers, as far as Sparkplug uses it.

From the public description (protobuf.dev, "Encoding"): a message is a row of fields, each a varint
of number and wire type followed by a value. Nothing is allocated on the word of a length before the
bytes are there.
"""

import struct
from collections.abc import Iterator
from typing import Final

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5

MASK32: Final = 0xFFFFFFFF
MASK64: Final = 0xFFFFFFFFFFFFFFFF
_LONGEST = 10
_LARGEST_FIELD = (1 << 29) - 1

Field = tuple[int, int, int | bytes]
"""Number, wire type and value: an integer (of fixed ones their bits), or bytes."""


class Malformed(ValueError):  # noqa: N818  named for what it says of a payload
    """These bytes are no such message."""


def fields(data: bytes) -> Iterator[Field]:
    """The fields of one message, in their order.

    Raises:
        Malformed: it is cut short, or has a wire type that there is not.
    """
    at, end = 0, len(data)
    while at < end:
        key = data[at]
        at += 1
        if key & 0x80:
            key, at = _varint(data, at - 1)
        number, wire = key >> 3, key & 7
        if not 0 < number <= _LARGEST_FIELD:
            raise Malformed(f"field number {number}")
        value: int | bytes
        if wire == VARINT:
            value, at = _varint(data, at)
        elif wire == BYTES:
            length, at = _varint(data, at)
            if length > end - at:
                raise Malformed(f"{length} bytes announced, {end - at} are there")
            value = data[at : at + length]
            at += length
        elif wire in (FIXED32, FIXED64):
            size = 4 if wire == FIXED32 else 8
            if size > end - at:
                raise Malformed("cut short")
            value = int.from_bytes(data[at : at + size], "little")
            at += size
        else:
            raise Malformed(f"wire type {wire}")
        yield number, wire, value


def float_of(bits: int) -> float:
    """The 32-bit float with these bits."""
    return float(struct.unpack("<f", bits.to_bytes(4, "little"))[0])


def double_of(bits: int) -> float:
    """The 64-bit float with these bits."""
    return float(struct.unpack("<d", bits.to_bytes(8, "little"))[0])


def text_of(data: bytes) -> str:
    """UTF-8 as text; what is none is replaced, and will equal no name."""
    return data.decode("utf-8", "replace")


def put_varint(number: int, value: int) -> bytes:
    """A field with a whole number from 0 to 2**64 - 1."""
    return _packed(number << 3 | VARINT) + _packed(value)


def put_bytes(number: int, value: bytes) -> bytes:
    """A field with bytes, a text's UTF-8 or a message."""
    return _packed(number << 3 | BYTES) + _packed(len(value)) + value


def put_float(number: int, value: float) -> bytes:
    """A field with a 32-bit float; what is too large for one becomes infinite."""
    try:
        packed = struct.pack("<f", value)
    except OverflowError:
        packed = struct.pack("<f", float("inf") if value > 0 else -float("inf"))
    return _packed(number << 3 | FIXED32) + packed


def put_double(number: int, value: float) -> bytes:
    """A field with a 64-bit float."""
    return _packed(number << 3 | FIXED64) + struct.pack("<d", value)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    for index in range(at, min(len(data), at + _LONGEST)):
        byte = data[index]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & MASK64, index + 1
        shift += 7
    raise Malformed("a number is cut short or too long")


def _packed(value: int) -> bytes:
    if not 0 <= value <= MASK64:
        raise ValueError(f"{value} does not fit 64 bits without a sign")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
