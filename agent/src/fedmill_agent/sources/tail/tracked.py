# SPDX-License-Identifier: Apache-2.0
"""One file that is followed, wherever it is renamed to, and how far it was read."""

import os
import stat
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from fedmill_agent.sources.files import LONGEST_LINE
from fedmill_shared.files import sha256

PIECE = 1 << 20
HEAD_BYTES = 1024
"""Bytes behind the header by which a file is told from another one in its place."""


class Key(NamedTuple):
    """What the kernel knows a file by, whatever its name; used again for other files once free."""

    device: int
    inode: int


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """How far one file was read.

    Attributes:
        device: with ``inode`` what the kernel knows it by.
        inode: see ``device``.
        offset: bytes that were read, up to the end of a line.
        header_at: where the line with the names of the columns begins; -1 where none was read.
        head: hash of its first ``head_bytes``.
        head_bytes: see ``head``.
        first_row: where its first row ends; 0 where none was read.
        first_head: hash of the bytes up to there.
        modified_ns: when it was written last, as far as it was read.
        copied: whether it is a copy of another one, read on where that was.
    """

    device: int
    inode: int
    offset: int = 0
    header_at: int = -1
    head: str = ""
    head_bytes: int = 0
    first_row: int = 0
    first_head: str = ""
    modified_ns: int = 0
    copied: bool = False


class Line(NamedTuple):
    """One line: where it begins, where the next one does, and its bytes without the line break."""

    begin: int
    end: int
    text: bytes


@dataclass(slots=True)
class Tracked:
    """Owns a file that is open, and the mark in it.

    Attributes:
        mark: how far it was read; replaced as a whole.
        path: where it was seen last.
        grown: when it was seen to grow, s on a clock that never goes back.
        size: bytes, when it was looked at last.
        modified_ns: when it was written last, as it was then.
        overlong: lines that were left out for their length so far.
    """

    mark: Mark
    path: str
    grown: float
    size: int = 0
    modified_ns: int = 0
    overlong: int = 0
    _handle: int = -1
    _skipping: bool = field(default=False)

    @property
    def key(self) -> Key:
        """What the kernel knows it by."""
        return Key(self.mark.device, self.mark.inode)

    def open(self) -> bool:
        """Open it, if it is not; False if its name means another file by now.

        Raises:
            OSError: it is gone, or may not be read.
        """
        if self._handle < 0:
            handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            found = os.fstat(handle)
            if Key(found.st_dev, found.st_ino) != self.key or not stat.S_ISREG(found.st_mode):
                os.close(handle)
                return False
            self._handle = handle
        return True

    def close(self) -> None:
        """Close it; the mark stays."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def look(self, now: float) -> None:
        """See how large it is now, of the open file."""
        found = os.fstat(self._handle)
        if found.st_size != self.size:
            self.grown = now
        self.size, self.modified_ns = found.st_size, found.st_mtime_ns

    @property
    def is_open(self) -> bool:
        """Whether it is open, so that it can be read even where it was deleted."""
        return self._handle >= 0

    def is_same(self) -> bool:
        """Whether the file still begins as it did."""
        return self.mark.head == self.head_of(self.mark.head_bytes)

    def head_of(self, count: int) -> str:
        """Hash of the first ``count`` bytes of the open file; empty if there are fewer."""
        head = os.pread(self._handle, count, 0)
        return sha256(head) if len(head) == count and count else ""

    def is_shortened(self) -> bool:
        """Whether the file lost its end, and its first row is the same."""
        mark = self.mark
        cut = self.size < mark.offset and mark.first_head != ""
        return cut and mark.first_head == self.head_of(mark.first_row)

    def shorten(self) -> None:
        """Its end was cut off: go on at what is its end now."""
        mark = self.mark = msgspec.structs.replace(self.mark, head="", head_bytes=0)
        self.reach(self.size, mark.header_at, mark.first_row)

    def unchanged(self) -> None:
        """It was written and has nothing new."""
        self.mark = msgspec.structs.replace(self.mark, modified_ns=self.modified_ns)

    def follow(self, mark: Mark) -> None:
        """It is a copy of another file, which is read up to ``mark``."""
        self.mark = msgspec.structs.replace(
            mark, device=self.mark.device, inode=self.mark.inode, copied=True
        )

    def last_line(self) -> int:
        """Where the half line at the end begins, or the next line will."""
        end = self.size
        while end > 0 and self.size - end <= LONGEST_LINE:
            begin = max(0, end - PIECE)
            found = os.pread(self._handle, end - begin, begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            end = begin
        return 0 if end == 0 else self.size

    def restart(self) -> None:
        """Another file is in its place: read it from its beginning."""
        self.mark = Mark(device=self.mark.device, inode=self.mark.inode)
        self._skipping = False

    def lines(self, *, whole: bool) -> list[Line]:
        """The next lines, up to a mebibyte; the half one at the end only if this is the ``whole``.

        A line of more than 4 MiB is left out.
        """
        begin = self.mark.offset
        data = os.pread(self._handle, PIECE, begin)
        while data and b"\n" not in data and len(data) <= LONGEST_LINE:
            more = os.pread(self._handle, PIECE, begin + len(data))
            if not more:
                break
            data += more
        last = data.rfind(b"\n") + 1
        if not last and len(data) > LONGEST_LINE:
            self.overlong += not self._skipping
            self._skipping = True
            self.mark = msgspec.structs.replace(self.mark, offset=begin + len(data))
            return []
        size = len(data)
        if whole and last < size < PIECE:
            data, last = data + b"\n", size + 1
        found = _split(data[:last], begin, begin + size)
        if self._skipping and found:
            self._skipping = False
            found[0] = found[0]._replace(text=b"")
        return found

    def line_at(self, begin: int) -> bytes:
        """The line that begins at a place, without its line break."""
        data = b""
        while b"\n" not in data and len(data) <= LONGEST_LINE:
            more = os.pread(self._handle, PIECE, begin + len(data))
            if not more:
                break
            data += more
        return data.partition(b"\n")[0].rstrip(b"\r")

    def reach(self, offset: int, header_at: int, first_row: int) -> None:
        """The file is read up to ``offset``, under the header at ``header_at``.

        Args:
            offset: end of the last line.
            header_at: begin of the line with the names, -1 for none.
            first_row: end of the first row, 0 if there was none.
        """
        head, head_bytes = self.mark.head, self.mark.head_bytes
        first_head = self.mark.first_head
        if first_row != self.mark.first_row:
            first_head = self.head_of(first_row)
        count = min(offset, HEAD_BYTES + first_row)
        if count > head_bytes:
            head, head_bytes = self.head_of(count), count
        self.mark = msgspec.structs.replace(
            self.mark,
            offset=offset,
            header_at=header_at,
            first_row=first_row,
            first_head=first_head,
            head=head,
            head_bytes=head_bytes,
            modified_ns=self.modified_ns,
        )


def _split(data: bytes, begin: int, most: int) -> list[Line]:
    """Lines of ``data``, which ends with a line break; none ends behind ``most``."""
    found = []
    for text in data.split(b"\n")[:-1]:
        end = begin + len(text) + 1
        found.append(Line(begin, min(end, most), text.rstrip(b"\r")))
        begin = end
    return found
