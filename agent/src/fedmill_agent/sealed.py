# SPDX-License-Identifier: Apache-2.0
"""One value in a file of its own with a checksum: no flipped bit is taken for what was written.

MessagePack alone does not notice: one bit in three of such a file can flip, and it decodes to other
numbers.
"""

import zlib
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from fedmill_shared.errors import DataError
from fedmill_shared.files import write_atomic

T = TypeVar("T", bound=Struct)


class _Envelope(Struct, frozen=True):
    body: memoryview
    crc: int


def read(path: Path, kind: type[T], largest: int) -> T | None:
    """What the file holds; None where there is none.

    Raises:
        OSError: it cannot be read.
        DecodeError, DataError: or another of ``UNREADABLE``: it is damaged, or has more than
            ``largest`` bytes.
    """
    try:
        with path.open("rb") as file:
            data = file.read(largest + 1)
    except FileNotFoundError:
        return None
    if len(data) > largest:
        raise DataError(f"{path}: more than {largest} bytes")
    return opened(path, data, kind)


def opened(path: Path, data: bytes, kind: type[T]) -> T:
    """What ``data`` of such a file says; ``path`` is its name.

    Raises:
        DecodeError, DataError: or another of ``UNREADABLE``: it is damaged.
    """
    envelope = msgspec.msgpack.decode(data, type=_Envelope)
    if zlib.crc32(envelope.body) != envelope.crc:
        raise DataError(f"{path}: its checksum differs")
    return msgspec.msgpack.decode(envelope.body, type=kind)


def write(path: Path, value: Struct) -> None:
    """Replace the file with ``value``.

    Raises:
        StoreError: the disk fails; the file is unchanged.
    """
    write_atomic(path, sealed(value))


def sealed(value: Struct) -> bytes:
    """The bytes of such a file."""
    body = msgspec.msgpack.encode(value)
    return msgspec.msgpack.encode(_Envelope(memoryview(body), zlib.crc32(body)))
