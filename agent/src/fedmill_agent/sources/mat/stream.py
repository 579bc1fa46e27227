# SPDX-License-Identifier: Apache-2.0
"""The bytes of one element of a MATLAB file, in order, never past its end and never too many."""

import zlib
from typing import BinaryIO

from fedmill_shared.errors import DataError

_PIECE = 64 * 1024
REMEDY = "copy the file again, or save it anew in MATLAB with -v7"


class Region:
    """``size`` bytes of an open file from ``offset`` on, inflated if they are compressed."""

    def __init__(
        self, file: BinaryIO, path: str, offset: int, size: int, *, compressed: bool, limit: int
    ) -> None:
        """``limit`` is the largest number of bytes that may come out."""
        file.seek(offset)
        self._file = file
        self._path = path
        self._offset = offset
        self._left = size
        self._limit = limit
        self._inflate = zlib.decompressobj() if compressed else None
        self.taken = 0

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes.

        Raises:
            DataError: there are fewer, or more than the limit, or they are damaged.
        """
        if self.taken + count > self._limit:
            raise self.error(f"more than {self._limit} bytes in one variable")
        data = self._plain(count) if self._inflate is None else self._inflated(count)
        if len(data) < count:
            raise self.error("the file is cut off")
        self.taken += count
        return data

    def at_end(self) -> bool:
        """Whether nothing follows; the checksum of a compressed element is then verified."""
        if self._inflate is None:
            return self._left == 0
        return not self._inflated(1)

    def error(self, problem: str) -> DataError:
        """A DataError that says where in the file it was."""
        packed = " after inflating" if self._inflate else ""
        return DataError(
            f"{self._path}: element at byte {self._offset}, {self.taken} bytes in{packed}: "
            f"{problem}",
            remedy=REMEDY,
        )

    def _plain(self, count: int) -> bytes:
        data = self._file.read(min(count, self._left))
        self._left -= len(data)
        return data

    def _inflated(self, count: int) -> bytes:
        """At most ``count`` bytes; memory grows only with what really comes out."""
        inflate = self._inflate
        if inflate is None:
            return b""
        data = bytearray()
        while len(data) < count and not inflate.eof:
            waiting = inflate.unconsumed_tail or self._plain(_PIECE)
            try:
                more = inflate.decompress(waiting, count - len(data))
            except zlib.error as error:
                raise self.error(f"damaged ({error})") from error
            if not more and not waiting:
                break
            data += more
        return bytes(data)
