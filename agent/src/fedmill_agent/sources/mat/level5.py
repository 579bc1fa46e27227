# SPDX-License-Identifier: Apache-2.0
"""Bounded reader of real numeric arrays in MATLAB level-5 MAT-files.

Format: MAT-File Format, The MathWorks, "Level 5 MAT-Files". Both byte orders, compressed elements,
small data elements, and numbers stored in a smaller type than their class. Cells, structs, texts,
sparse and complex arrays are listed by name and not read.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.sources.files import open_binary
from fedmill_agent.sources.mat.stream import REMEDY, Region
from fedmill_shared.errors import DataError

LARGEST_VARIABLE = 128 * 1024 * 1024  # as float64
MOST_VARIABLES = 10_000
_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_STORAGE = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
_NUMERIC = {
    6: "double",
    7: "single",
    8: "int8",
    9: "uint8",
    10: "int16",
    11: "uint16",
    12: "int32",
    13: "uint32",
    14: "int64",
    15: "uint64",
}
_OTHER = {1: "cell", 2: "struct", 3: "object", 4: "char", 5: "sparse", 16: "function", 17: "opaque"}
_OPAQUE = 17
_COMPLEX = 0x0800


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of a file.

    Attributes:
        name: its name.
        kind: MATLAB class such as ``double``, ``complex double`` or ``struct``.
        shape: its dimensions.
        readable: whether it is a real numeric array.
        offset: byte of the file where its element starts.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    readable: bool
    offset: int

    def __str__(self) -> str:
        return f"{self.name} ({'x'.join(map(str, self.shape))} {self.kind})"


def list_variables(path: str) -> list[Variable]:
    """Every named variable of ``path``, without reading its numbers.

    Raises:
        DataError: the file is unreadable, of another format, or damaged; naming the byte.
    """
    variables: list[Variable] = []
    with _opened(path) as (file, order, size):
        offset = _HEADER
        while offset < size:
            stream, length, stop = _element(file, path, order, offset, size)
            if stream is not None and length:
                variable = _describe(stream, order, offset)
                if variable.name:
                    variables.append(variable)
            if len(variables) > MOST_VARIABLES:
                raise DataError(f"{path}: has more than {MOST_VARIABLES} variables")
            offset = stop
    return variables


def read_variable(path: str, variable: Variable) -> NDArray[np.float64]:
    """The numbers of a readable ``variable`` of ``path`` as float64, in its shape.

    Whole numbers above 2**53 are rounded.

    Raises:
        DataError: the variable is not a real numeric array, is damaged, or needs more than 128 MiB.
    """
    if not variable.readable:
        raise DataError(f"{path}: {variable} is not an array of real numbers")
    with _opened(path) as (file, order, size):
        stream, length, _ = _element(file, path, order, variable.offset, size)
        if stream is None or _describe(stream, order, variable.offset) != variable:
            raise DataError(f"{path}: changed while it was read", remedy="try again")
        values = _numbers(stream, order, variable.shape)
        rest = length - stream.taken
        if not 0 <= rest < 8:
            raise stream.error(f"{rest} bytes more than the array needs")
        stream.take(rest)
        if not stream.at_end():
            raise stream.error("more bytes than the element's size says")
    return values


@contextmanager
def _opened(path: str) -> Iterator[tuple[BinaryIO, str, int]]:
    """The file, its byte order for struct, and its size."""
    with open_binary(path) as file:
        try:
            size = file.seek(0, 2)
            file.seek(0)
            header = file.read(_HEADER)
            yield file, _byte_order(path, header), size
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _byte_order(path: str, header: bytes) -> str:
    order = {b"IM": "<", b"MI": ">"}.get(header[126:128])
    version = struct.unpack_from(f"{order}H", header, 124)[0] if order else 0
    if version == 0x0100 and order:
        return order
    found = "not a MATLAB level-5 file"
    if version == 0x0200:
        found = "a MATLAB 7.3 (HDF5) file"
    elif len(header) < _HEADER:
        found = f"only {len(header)} bytes long"
    raise DataError(f"{path}: byte 0: is {found}", remedy="save it in MATLAB with -v7")


def _element(
    file: BinaryIO, path: str, order: str, offset: int, size: int
) -> tuple[Region | None, int, int]:
    """Matrix at ``offset`` (None if it is no matrix), its end in the stream and in the file."""
    tag = Region(file, path, offset, size - offset, compressed=False, limit=8)
    kind, length = struct.unpack(f"{order}II", tag.take(8))
    stop = offset + 8 + length
    if stop > size:
        raise DataError(
            f"{path}: byte {offset}: element of {length} bytes, but the file ends after {size}",
            remedy=REMEDY,
        )
    if kind not in _STORAGE and kind not in (_MATRIX, _COMPRESSED):
        raise DataError(f"{path}: byte {offset}: unknown type {kind}", remedy=REMEDY)
    packed = kind == _COMPRESSED
    stream = Region(
        file, path, offset + 8, length, compressed=packed, limit=LARGEST_VARIABLE + _HEADER
    )
    if packed:
        kind, length = struct.unpack(f"{order}II", stream.take(8))
        length += 8
    return stream if kind == _MATRIX else None, length, stop


def _describe(stream: Region, order: str, offset: int) -> Variable:
    """Flags, dimensions and name: what stands before the numbers."""
    _, flags = _part(stream, order, 8)
    if len(flags) != 8:
        raise stream.error("array flags are damaged")
    word = struct.unpack_from(f"{order}I", flags)[0]
    number = word & 0xFF
    shape: tuple[int, ...] = ()
    if number != _OPAQUE:
        _, data = _part(stream, order, 128)
        shape = struct.unpack(f"{order}{len(data) // 4}i", data[: len(data) // 4 * 4])
        if len(shape) < 2 or min(shape) < 0:
            raise stream.error("dimensions are damaged")
    _, data = _part(stream, order, 4096)
    name = data.rstrip(b"\0").decode("latin-1")
    is_complex = bool(word & _COMPLEX)
    kind = _NUMERIC.get(number) or _OTHER.get(number, f"class {number}")
    return Variable(
        name=name,
        kind=f"complex {kind}" if is_complex else kind,
        shape=shape,
        readable=number in _NUMERIC and not is_complex,
        offset=offset,
    )


def _numbers(stream: Region, order: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    if 8 * prod(shape) > LARGEST_VARIABLE:
        raise stream.error(f"more than {LARGEST_VARIABLE} bytes of numbers in one variable")
    storage, data = _part(stream, order, LARGEST_VARIABLE, padded=False)
    if storage not in _STORAGE:
        raise stream.error(f"numbers of unknown type {storage}")
    kind = np.dtype(f"{order}{_STORAGE[storage]}")
    if len(data) != prod(shape) * kind.itemsize:
        raise stream.error(f"{len(data)} bytes of {kind.name} are not {'x'.join(map(str, shape))}")
    flat = np.frombuffer(data, kind).astype(np.float64, copy=False)
    return flat.reshape(shape, order="F")


def _part(stream: Region, order: str, most: int, *, padded: bool = True) -> tuple[int, bytes]:
    """Type and data of a sub-element; the small form has both in its first eight bytes."""
    tag = stream.take(8)
    kind, length = struct.unpack(f"{order}II", tag)
    if kind >> 16:
        kind, length = kind & 0xFFFF, kind >> 16
        if length > 4:
            raise stream.error(f"small element of {length} bytes")
        return kind, tag[4 : 4 + length]
    if length > most:
        raise stream.error(f"part of {length} bytes, at most {most} are allowed")
    data = stream.take(length)
    if padded:
        stream.take(-length % 8)
    return kind, data
