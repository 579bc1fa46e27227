# SPDX-License-Identifier: Apache-2.0
"""The fields that hold a value, of metrics and of properties alike."""

from fedmill_agent.sources.sparkplug.datatypes import (
    BOOLEAN,
    BYTES,
    DATASET,
    DOUBLE,
    FLOAT,
    INT,
    LONG,
    STRING,
    Raw,
)
from fedmill_agent.sources.sparkplug.wire import (
    FIXED32,
    FIXED64,
    MASK32,
    VARINT,
    double_of,
    float_of,
    put_bytes,
    put_double,
    put_float,
    put_varint,
    text_of,
)


def read_value(number: int, wire: int, value: int | bytes) -> Raw:
    """What stands in one of a value's fields; None where its wire type is another."""
    if isinstance(value, bytes):
        if number == STRING:
            return text_of(value)
        if number == BYTES:
            return value
        return b"" if number >= DATASET else None
    if wire == VARINT:
        found: dict[int, Raw] = {INT: value & MASK32, LONG: value, BOOLEAN: value != 0}
        return found.get(number)
    if number == FLOAT and wire == FIXED32:
        return float_of(value)
    return double_of(value) if number == DOUBLE and wire == FIXED64 else None


def put_value(field: int, raw: Raw, shift: int = 0) -> bytes:
    """The field with what stands in it, ``shift`` numbers lower than in a metric."""
    number = field - shift
    if isinstance(raw, str):
        return put_bytes(number, raw.encode())
    if isinstance(raw, bytes):
        return put_bytes(number, raw)
    if field == FLOAT:
        return put_float(number, _float(raw))
    if field == DOUBLE:
        return put_double(number, _float(raw))
    return put_varint(number, int(raw or 0))


def _float(raw: Raw) -> float:
    # not `raw or 0.0`: -0.0 has a sign
    return 0.0 if raw is None else float(raw)
