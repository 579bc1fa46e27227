# SPDX-License-Identifier: Apache-2.0
"""What the bits of a Sparkplug value mean (Sparkplug 3.0, 6.4.16 to 6.4.18), and which a value has.

Signed integers travel as unsigned ones, in two's complement of 32 or 64 bits; some senders use as
many bits as the type has. Arrays are packed little-endian: the specification says so of every array
type, though its examples of floats are big-endian; Eclipse Tahu writes little-endian.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.sources.sparkplug.wire import MASK32, MASK64
from fedmill_agent.sources.waveform import MOST_SAMPLES


class DataType(IntEnum):
    """Numbers of the types."""

    Unknown = 0
    Int8 = 1
    Int16 = 2
    Int32 = 3
    Int64 = 4
    UInt8 = 5
    UInt16 = 6
    UInt32 = 7
    UInt64 = 8
    Float = 9
    Double = 10
    Boolean = 11
    String = 12
    DateTime = 13
    Text = 14
    UUID = 15
    DataSet = 16
    Bytes = 17
    File = 18
    Template = 19
    PropertySet = 20
    PropertySetList = 21
    Int8Array = 22
    Int16Array = 23
    Int32Array = 24
    Int64Array = 25
    UInt8Array = 26
    UInt16Array = 27
    UInt32Array = 28
    UInt64Array = 29
    FloatArray = 30
    DoubleArray = 31
    BooleanArray = 32
    StringArray = 33
    DateTimeArray = 34


INT, LONG, FLOAT, DOUBLE, BOOLEAN, STRING, BYTES, DATASET, TEMPLATE = range(10, 19)
"""Numbers of the fields of a Metric that hold its value; 0 is none of them."""

Raw = int | float | bool | str | bytes | None
Value = float | int | bool | str | NDArray[np.float64]

_SIGNED: Final[Mapping[int, int]] = {1: 8, 2: 16, 3: 32, 4: 64}
_UNSIGNED: Final[Mapping[int, int]] = {
    5: 8, 6: 16, 7: 32, 8: 64, DataType.DateTime: 64, DataType.Boolean: 1,
}  # fmt: skip
_TEXTS = frozenset({DataType.String, DataType.Text, DataType.UUID})
_ARRAYS: Final[Mapping[int, str]] = {
    22: "<i1", 23: "<i2", 24: "<i4", 25: "<i8", 26: "<u1", 27: "<u2", 28: "<u4", 29: "<u8",
    30: "<f4", 31: "<f8", 34: "<i8",
}  # fmt: skip


class Mistyped(ValueError):  # noqa: N818  named for what it says of a value
    """This is no value of its type, or of a type that holds no number."""


def name_of(datatype: int) -> str:
    """A type in the specification's words."""
    known = datatype in DataType.__members__.values()
    return DataType(datatype).name if known else f"type {datatype}"


def unpack(datatype: int, field: int, raw: Raw) -> Value:
    """The value that a metric of ``datatype`` has in its ``field``.

    Integers are exact; arrays are float64 (n,).

    Raises:
        Mistyped: it is none of that type, or no number, text or list of numbers at all.
    """
    if field == STRING and isinstance(raw, str):
        return raw  # whatever its birth said: texts never pass as numbers, but may write one
    if field in (INT, LONG) and isinstance(raw, int):
        return _integer(datatype, raw)
    if field == BOOLEAN and (datatype in _UNSIGNED or datatype in _SIGNED):
        return bool(raw)
    floating = datatype in (DataType.Float, DataType.Double)
    if field in (FLOAT, DOUBLE) and floating and isinstance(raw, float):
        return raw
    if field == BYTES and isinstance(raw, bytes):
        return _array(datatype, raw)
    raise Mistyped(f"{name_of(datatype)} in field {field}")


def pack(datatype: int, value: Value | bytes) -> tuple[int, Raw]:
    """The field that a value of ``datatype`` stands in, and how.

    Raises:
        ValueError: it is none of that type.
    """
    if datatype in _TEXTS and isinstance(value, str):
        return STRING, value
    if datatype in (DataType.Bytes, DataType.File) and isinstance(value, bytes):
        return BYTES, value
    if datatype in _ARRAYS or datatype == DataType.BooleanArray:
        return BYTES, _packed_array(datatype, np.asarray(value))
    if isinstance(value, bool | int | float | np.number | np.bool_):
        if datatype == DataType.Boolean:
            return BOOLEAN, bool(value)
        if datatype in (DataType.Float, DataType.Double):
            return (FLOAT if datatype == DataType.Float else DOUBLE), float(value)
        if datatype in _SIGNED or datatype in _UNSIGNED:
            return _packed_integer(datatype, value)
    raise ValueError(f"{value!r:.60} is no {name_of(datatype)}")


def _integer(datatype: int, raw: int) -> int:
    if datatype in _SIGNED:
        bits = _SIGNED[datatype]
        half = 1 << (bits - 1)
        for width in (bits, 32, 64):
            value = raw - (1 << width) if raw >= 1 << (width - 1) else raw
            if raw < 1 << width and -half <= value < half:
                return value
    elif datatype in _UNSIGNED and raw < 1 << _UNSIGNED[datatype]:
        return raw
    raise Mistyped(f"{raw} is no {name_of(datatype)}")


def _array(datatype: int, raw: bytes) -> NDArray[np.float64]:
    if datatype == DataType.BooleanArray:
        count = int.from_bytes(raw[:4], "little")
        if len(raw) < 4 or count > min(8 * (len(raw) - 4), MOST_SAMPLES):
            raise Mistyped(f"{count} truths in {len(raw)} bytes")
        return np.unpackbits(np.frombuffer(raw, np.uint8, offset=4), count=count).astype(np.float64)
    form = _ARRAYS.get(datatype)
    if form is None or len(raw) % int(form[2]):
        raise Mistyped(f"{len(raw)} bytes of {name_of(datatype)}")
    return np.frombuffer(raw, form).astype(np.float64)


def _packed_integer(datatype: int, value: float) -> tuple[int, int]:
    number = int(value)
    signed = datatype in _SIGNED
    bits = _SIGNED[datatype] if signed else _UNSIGNED[datatype]
    low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
    if number != value or not low <= number < high:
        raise ValueError(f"{value} is no {name_of(datatype)}")
    return (LONG, number & MASK64) if bits == 64 else (INT, number & MASK32)


def _packed_array(datatype: int, values: NDArray[np.generic]) -> bytes:
    if values.ndim != 1 or values.dtype.kind not in "biuf":
        raise ValueError(f"{values.dtype} {values.shape} is no {name_of(datatype)}")
    if datatype == DataType.BooleanArray:
        return len(values).to_bytes(4, "little") + np.packbits(values.astype(bool)).tobytes()
    form = np.dtype(_ARRAYS[datatype])
    if form.kind in "iu" and values.size:
        limits = np.iinfo(form)
        exact = values.dtype.kind != "f" or bool((values == np.rint(values)).all())
        if not exact or int(values.min()) < limits.min or int(values.max()) > limits.max:
            raise ValueError(f"a value is outside {name_of(datatype)}")
    with np.errstate(over="ignore"):  # what no float of 32 bits can hold becomes infinite
        return values.astype(form).tobytes()
