# SPDX-License-Identifier: Apache-2.0
"""Values as they come over the wire (OPC 10000-6, section 5.2, UA Binary), bounded.

Whatever a server sends takes no more memory than a few times its length, and a value of a type that
no sensor has is stepped over; the other values of the message come all the same.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

MOST_ELEMENTS = 1 << 20
"""Of an array of numbers."""
MOST_ITEMS = 1 << 16
"""Of an array of anything else."""
DEEPEST = 8
UNIX_TICKS = 116_444_736_000_000_000
"""1970-01-01 in the time of OPC UA: intervals of 100 ns since 1601-01-01."""
_LAST_TICKS = UNIX_TICKS + (1 << 63) // 100 - 1

TYPES = (
    "Null",
    "Boolean",
    "SByte",
    "Byte",
    "Int16",
    "UInt16",
    "Int32",
    "UInt32",
    "Int64",
    "UInt64",
    "Float",
    "Double",
    "String",
    "DateTime",
    "Guid",
    "ByteString",
    "XmlElement",
    "NodeId",
    "ExpandedNodeId",
    "StatusCode",
    "QualifiedName",
    "LocalizedText",
    "ExtensionObject",
    "DataValue",
    "Variant",
    "DiagnosticInfo",
)
"""Names of the built-in types by number (table 1)."""
_NUMBERS = {
    1: "<u1",
    2: "<i1",
    3: "<u1",
    4: "<i2",
    5: "<u2",
    6: "<i4",
    7: "<u4",
    8: "<i8",
    9: "<u8",
    10: "<f4",
    11: "<f8",
}
_LAYOUTS = {
    number: struct.Struct(f"<{letter}") for number, letter in enumerate("?bBhHiIqQfd", start=1)
}
_U1, _U2, _U4, _I4, _I8 = (struct.Struct(f"<{each}") for each in "BHIiq")


class WireError(ValueError):
    """A message that is not what the specification says."""


@dataclass(frozen=True, slots=True)
class Structure:
    """An ExtensionObject: number of its type's encoding (0 outside the standard), and its bytes."""

    type: int
    body: bytes


Content = float | str | list[str] | NDArray[np.float64] | Structure | None


@dataclass(frozen=True, slots=True, eq=False)
class DataValue:
    """A value with what belongs to it.

    Attributes:
        type: name of its built-in type.
        content: a number; a text; the numbers (n,) or texts of an array; a structure; None for
            null and for what no sensor has. An array of several dimensions is None too.
        array: whether it is an array.
        status: the StatusCode.
        source_ns: when the source had the value, ns UTC; None if that is not told.
        server_ns: when the server had it.
    """

    type: str = "Null"
    content: Content = None
    array: bool = False
    status: int = 0
    source_ns: int | None = None
    server_ns: int | None = None

    @property
    def stamp_ns(self) -> int | None:
        """The source's time, or else the server's."""
        return self.server_ns if self.source_ns is None else self.source_ns


class Reader:
    """Goes through the bytes of one message, never beyond their end."""

    def __init__(self, data: bytes) -> None:
        """Begin at the first byte."""
        self._data = data
        self._at = 0

    def number(self, layout: struct.Struct) -> float:
        """One number; an int where the layout is of one.

        Raises:
            WireError: the message has ended.
        """
        at = self._step(layout.size)
        found: float = layout.unpack_from(self._data, at)[0]
        return found

    def integer(self, layout: struct.Struct) -> int:
        """One integer."""
        return int(self.number(layout))

    def raw(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        at = self._step(size)
        return self._data[at : at + size]

    def count(self, most: int) -> int:
        """The length of an array of at most ``most`` items; -1, which means null, is 0."""
        found = max(0, self.integer(_I4))
        if found > most:
            raise WireError(f"an array of {found} items, at most {most} are taken")
        return found

    def blob(self) -> bytes:
        """A ByteString."""
        return self.raw(max(0, self.integer(_I4)))

    def text(self) -> str:
        """A String; what is not UTF-8 becomes a replacement character."""
        return self.blob().decode("utf-8", "replace")

    def _step(self, size: int) -> int:
        at = self._at
        if size > len(self._data) - at:
            raise WireError("a message ends too early")
        self._at = at + size
        return at


def time_ns(reader: Reader) -> int | None:
    """A DateTime as ns UTC; None for one that means "none" or lies after 2262."""
    ticks = reader.integer(_I8)
    return (ticks - UNIX_TICKS) * 100 if 0 < ticks < _LAST_TICKS else None


def node_id(reader: Reader) -> str:
    """A NodeId or ExpandedNodeId in the notation of tags."""
    encoding = reader.integer(_U1)
    form = encoding & 0x3F
    if form > 5:
        raise WireError(f"a node id of the unknown form {form}")
    space = reader.integer(_U1) if form == 1 else reader.integer(_U2) if form > 1 else 0
    if form < 3:
        name = f"i={reader.integer((_U1, _U2, _U4)[form])}"
    elif form == 3:
        name = f"s={reader.text()}"
    else:
        name = f"g={_guid(reader)}" if form == 4 else f"b={reader.blob().hex()}"
    if encoding & 0x80:
        reader.text()
    if encoding & 0x40:
        reader.integer(_U4)
    return f"ns={space};{name}" if space else name


def structure(reader: Reader) -> Structure:
    """An ExtensionObject."""
    kind = node_id(reader)
    body = reader.blob() if reader.integer(_U1) else b""
    return Structure(int(kind[2:]) if kind.startswith("i=") else 0, body)


def localized(reader: Reader) -> str:
    """The text of a LocalizedText."""
    mask = reader.integer(_U1)
    if mask & 1:
        reader.text()
    return reader.text() if mask & 2 else ""


def diagnostics(reader: Reader, depth: int = 0) -> None:
    """Step over a DiagnosticInfo."""
    if depth > DEEPEST:
        raise WireError("diagnostics within diagnostics without end")
    mask = reader.integer(_U1)
    reader.raw(4 * (mask & 0x0F).bit_count())
    if mask & 0x10:
        reader.text()
    if mask & 0x20:
        reader.integer(_U4)
    if mask & 0x40:
        diagnostics(reader, depth + 1)


def data_value(reader: Reader, depth: int = 0) -> DataValue:
    """A DataValue (5.2.2.17).

    Raises:
        WireError: it is none, or larger than anything that is taken.
    """
    mask = reader.integer(_U1)
    kind, content, array = _variant(reader, depth) if mask & 1 else (0, None, False)
    status = reader.integer(_U4) if mask & 2 else 0
    source = time_ns(reader) if mask & 4 else None
    reader.raw(2 if mask & 0x10 else 0)
    server = time_ns(reader) if mask & 8 else None
    reader.raw(2 if mask & 0x20 else 0)
    return DataValue(TYPES[kind], content, array, status, source, server)


def _variant(reader: Reader, depth: int) -> tuple[int, Content, bool]:
    """Number of the type, content, and whether it is an array (5.2.2.16)."""
    if depth > DEEPEST:
        raise WireError("values within values without end")
    mask = reader.integer(_U1)
    kind = mask & 0x3F
    # numbers that are free for later are ByteStrings, says the specification
    kind = kind if kind < len(TYPES) else 15
    if not mask & 0x80:
        return kind, _scalar(reader, kind, depth), False
    content = _array(reader, kind, depth)
    if mask & 0x40:
        dimensions = reader.count(MOST_ITEMS)
        reader.raw(4 * dimensions)
        content = content if dimensions == 1 else None
    return kind, content, True


def _scalar(reader: Reader, kind: int, depth: int) -> Content:
    layout = _LAYOUTS.get(kind)
    if layout is not None:
        return float(reader.number(layout))
    if kind == 0:
        return None
    if kind in (23, 24, 25):
        _step_over(reader, kind, depth + 1)
        return None
    return _OTHERS[kind](reader)


def _array(reader: Reader, kind: int, depth: int) -> Content:
    layout = _NUMBERS.get(kind)
    if layout is not None:
        count = reader.count(MOST_ELEMENTS)
        raw = np.frombuffer(reader.raw(count * np.dtype(layout).itemsize), layout)
        return raw.astype(np.float64)
    count = reader.count(MOST_ITEMS)
    if kind == 0 and count:
        raise WireError("an array of nothing")
    found = [_scalar(reader, kind, depth) for _ in range(count)]
    texts = [each for each in found if isinstance(each, str)]
    return texts if len(texts) == count else None


def _step_over(reader: Reader, kind: int, depth: int) -> None:
    if kind == 23:
        data_value(reader, depth)
    elif kind == 24:
        _variant(reader, depth)
    else:
        diagnostics(reader, depth)


def _guid(reader: Reader) -> str:
    return str(UUID(bytes_le=reader.raw(16)))


def _instant(reader: Reader) -> str | None:
    found = time_ns(reader)
    if found is None:
        return None
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=found // 1000)).isoformat()


def _named(reader: Reader) -> str:
    reader.integer(_U2)
    return reader.text()


def _bytes(reader: Reader) -> None:
    reader.blob()


def _status(reader: Reader) -> None:
    reader.integer(_U4)


_OTHERS: dict[int, Callable[[Reader], Content]] = {
    12: Reader.text,
    13: _instant,
    14: _guid,
    15: _bytes,
    16: Reader.text,
    17: node_id,
    18: node_id,
    19: _status,
    20: _named,
    21: localized,
    22: structure,
}
