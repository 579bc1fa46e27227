# SPDX-License-Identifier: Apache-2.0
"""Property sets of metrics (Sparkplug 3.0, 6.4.8 and 6.4.9): numbers and texts by name."""

from collections.abc import Mapping
from typing import Final

from fedmill_agent.sources.sparkplug.datatypes import (
    BOOLEAN,
    DOUBLE,
    FLOAT,
    INT,
    LONG,
    STRING,
    DataType,
    Mistyped,
    pack,
    unpack,
)
from fedmill_agent.sources.sparkplug.values import put_value, read_value
from fedmill_agent.sources.sparkplug.wire import (
    BYTES,
    MASK32,
    fields,
    put_bytes,
    put_varint,
    text_of,
)

MOST_PROPERTIES = 64
_SHIFT = INT - 3
"""Values of properties stand in the same order as those of metrics, from field 3 on."""
_GUESSED: Final = {
    INT: DataType.Int32,
    LONG: DataType.Int64,
    FLOAT: DataType.Float,
    DOUBLE: DataType.Double,
    BOOLEAN: DataType.Boolean,
    STRING: DataType.String,
}
"""Types of properties that name none, which the specification asks for in births only."""

Property = float | int | bool | str


def put_properties(told: Mapping[str, Property]) -> bytes:
    """A property set."""
    keys = [put_bytes(1, name.encode()) for name in told]
    values = []
    for value in told.values():
        datatype = _property_type(value)
        field, raw = pack(datatype, value)
        values.append(put_bytes(2, put_varint(1, datatype) + put_value(field, raw, _SHIFT)))
    return b"".join(keys + values)


def _property_type(value: Property) -> DataType:
    if isinstance(value, bool):
        return DataType.Boolean
    if isinstance(value, int):
        return DataType.Int32 if -(1 << 31) <= value < 1 << 31 else DataType.Int64
    return DataType.String if isinstance(value, str) else DataType.Double


def read_properties(data: bytes) -> dict[str, Property]:
    """The numbers and texts of a property set, 64 at most.

    Raises:
        Malformed: it is none.
    """
    names: list[str] = []
    values: list[Property | None] = []
    for number, wire, value in fields(data):
        if wire == BYTES and isinstance(value, bytes) and number in (1, 2):
            if number == 1 and len(names) < MOST_PROPERTIES:
                names.append(text_of(value))
            elif number == 2 and len(values) < MOST_PROPERTIES:
                values.append(_read_property(value))
    pairs = zip(names, values, strict=False)
    return {name: value for name, value in pairs if value is not None}


def _read_property(data: bytes) -> Property | None:
    datatype, null, field, raw = 0, False, 0, None
    for number, wire, value in fields(data):
        if number == 1 and isinstance(value, int):
            datatype = value & MASK32
        elif number == 2 and isinstance(value, int):
            null = value != 0
        elif INT <= number + _SHIFT <= STRING:
            found = read_value(number + _SHIFT, wire, value)
            if found is not None:
                field, raw = number + _SHIFT, found
    if null or field == 0:
        return None
    try:
        found_value = unpack(datatype or _GUESSED[field], field, raw)
    except Mistyped:
        return None
    return found_value if isinstance(found_value, bool | int | float | str) else None
