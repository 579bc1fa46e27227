# SPDX-License-Identifier: Apache-2.0
"""Blobs that arrive in blocks, on disk: what has come survives a kill and a power cut.

Each blob in work is a sparse ``<sha256>.part`` and, once it has a block of several, a
``<sha256>.index`` beside it: magic ``FMS1``, size of the blob u64, CRC-32 of both u32, then one
record for each block, index u32, CRC-32 of the payload u32, CRC-32 of both u32; little endian.
Neither file is synced for each block: a record that does not check, or whose bytes are not in the
part, is a block that is missing.
"""

import hashlib
import os
import re
import struct
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from fedmill_shared.errors import FrameError, StoreError
from fedmill_shared.files import make_folder, sync_folder
from fedmill_shared.link.blocks import BLOB_LIMIT, BLOCK_SIZE, Block, block_count

_NAME = re.compile(r"[0-9a-f]{64}")
_HEADER = struct.Struct("<4sQI")
_RECORD = struct.Struct("<III")
_MAGIC = b"FMS1"


@dataclass(frozen=True, slots=True)
class _Arriving:
    """A blob of ``size`` bytes in work, and the blocks of it that are on disk."""

    size: int
    here: set[int] = field(default_factory=set)

    def missing(self) -> Iterator[int]:
        return (i for i in range(block_count(self.size)) if i not in self.here)


class Spool:
    """A folder of half-arrived blobs of one peer; keeps no file open and no payload in memory.

    Only what was expected is kept, so a stranger cannot fill the disk. Every method raises
    StoreError where the disk fails.
    """

    def __init__(self, folder: Path) -> None:
        """Open or create ``folder``; nothing in it is expected yet, and nothing is removed.

        Raises:
            StoreError: it cannot be created or written.
        """
        self._folder = make_folder(folder)
        self._arriving: dict[str, _Arriving] = {}

    def expect(self, blob: str, size: int) -> None:
        """Accept blocks of ``blob`` from now on; what is on disk of it counts as arrived.

        Another size than before starts afresh. A blob never is whole after this: one that was
        before a restart lacks a block, so that ``add`` is the one place where it becomes whole.

        Raises:
            FrameError: ``size`` is beyond ``BLOB_LIMIT``, or ``blob`` is no SHA-256.
            StoreError: what is on disk can be neither read nor removed.
        """
        if not 0 <= size <= BLOB_LIMIT:
            raise FrameError(f"blob of {size} bytes exceeds {BLOB_LIMIT}")
        if _NAME.fullmatch(blob) is None:
            raise FrameError(f"{blob[:80]!r} is not the name of a blob")
        known = self._arriving.get(blob)
        if known is not None and known.size == size:
            return
        self._arriving.pop(blob, None)
        here = self._recover(blob, size)
        if not here:
            self._remove(blob)
        elif len(here) == block_count(size):
            here.remove(block_count(size) - 1)
        self._arriving[blob] = _Arriving(size, here)

    def expects(self, blob: str) -> bool:
        """Whether ``blob`` is in work, or whole and not taken yet."""
        return blob in self._arriving

    def missing(self, blob: str, limit: int | None = None) -> list[int]:
        """Indices of the blocks of an expected blob that have not arrived, the first ``limit``."""
        return list(islice(self._arriving[blob].missing(), limit))

    def arrived(self, blob: str) -> int:
        """Bytes of an expected blob that are on disk."""
        known = self._arriving[blob]
        short = -known.size % BLOCK_SIZE if block_count(known.size) - 1 in known.here else 0
        return min(known.size, len(known.here) * BLOCK_SIZE - short)

    def add(self, block: Block) -> bool:
        """Write ``block`` down; True once its blob is whole, checked and safe from a power cut.

        A block that is there already, not expected or of another size changes nothing.

        Raises:
            FrameError: all pieces are there, but the blob is not the one that was named; its
                pieces are dropped, and it is expected anew.
            StoreError: the disk is full or fails; the block is still missing.
        """
        if not self.place(block):
            return False
        try:
            with _told(self._part(block.blob)):
                _check(self._part(block.blob), block.blob)
        except FrameError:
            self.restart(block.blob)
            raise
        except StoreError:
            self.reopen(block.blob)
            raise
        return True

    def place(self, block: Block) -> bool:
        """As ``add``, but for the check: True once all pieces of the blob are there.

        ``settle`` is to follow, and then ``forget``, ``restart`` or ``reopen``.

        Raises:
            StoreError: the disk is full or fails; the block is still missing.
        """
        known = self._arriving.get(block.blob)
        if known is None or known.size != block.size or block.index in known.here:
            return False
        whole = len(known.here) + 1 == block_count(known.size)
        with _told(self._part(block.blob)):
            self._write(block)
            if not whole:
                self._note(block)
        known.here.add(block.index)
        return whole

    def settle(self, blob: str, target: Path) -> None:
        """Check a blob that has all its pieces, and move it to ``target``; for any thread.

        Raises:
            FrameError: it is not the one that was named; ``restart`` drops its pieces.
            StoreError: the disk fails; after ``reopen`` its last piece is taken again.
        """
        part = self._part(blob)
        with _told(target):
            _check(part, blob)
            part.replace(target)
            sync_folder(target.parent)

    def restart(self, blob: str) -> None:
        """Drop the pieces of an expected blob: none of them has arrived."""
        known = self._arriving.get(blob)
        if known is not None:
            known.here.clear()
            self._remove(blob)

    def reopen(self, blob: str) -> None:
        """The last piece of an expected blob has not arrived."""
        known = self._arriving.get(blob)
        if known is not None:
            known.here.discard(block_count(known.size) - 1)

    def path(self, blob: str) -> Path:
        """Where a whole blob lies until it is taken, read or forgotten.

        Raises:
            StoreError: the blob is not whole.
        """
        known = self._arriving.get(blob)
        if known is None or next(known.missing(), None) is not None:
            raise StoreError(f"{self._part(blob)}: the blob is not whole")
        return self._part(blob)

    def take(self, blob: str, target: Path) -> None:
        """Move a whole blob to ``target`` on the same disk, where it survives a power cut.

        Raises:
            StoreError: the blob is not whole, or ``target`` cannot be written.
        """
        source = self.path(blob)
        with _told(target):
            source.replace(target)
            sync_folder(target.parent)
        self.forget(blob)

    def read(self, blob: str) -> bytes:
        """The bytes of a whole blob, which is forgotten; for small ones.

        Raises:
            StoreError: the blob is not whole, or cannot be read.
        """
        path = self.path(blob)
        with _told(path):
            data = path.read_bytes()
        self.forget(blob)
        return data

    def forget(self, blob: str) -> None:
        """Stop expecting ``blob`` and remove what has come of it, if anything has."""
        if self._arriving.pop(blob, None) is not None:
            self._remove(blob)

    def keep(self, blobs: Collection[str]) -> None:
        """Forget all but ``blobs``, also what an earlier process left."""
        for blob in [blob for blob in self._arriving if blob not in blobs]:
            self.forget(blob)
        with _told(self._folder):
            for path in list(self._folder.iterdir()):
                if path.stem not in blobs:
                    path.unlink(missing_ok=True)

    def _part(self, blob: str) -> Path:
        return self._folder / f"{blob}.part"

    def _index(self, blob: str) -> Path:
        return self._folder / f"{blob}.index"

    def _write(self, block: Block) -> None:
        handle = os.open(self._part(block.blob), os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(handle, "wb", buffering=0) as part:
            part.seek(block.index * BLOCK_SIZE)
            rest = memoryview(block.payload)
            while rest:
                rest = rest[part.write(rest) :]

    def _note(self, block: Block) -> None:
        with self._index(block.blob).open("ab") as index:
            if not index.tell():
                index.write(_sealed(_HEADER, _MAGIC, block.size))
            index.write(_sealed(_RECORD, block.index, zlib.crc32(block.payload)))

    def _recover(self, blob: str, size: int) -> set[int]:
        """Blocks of ``blob`` that are on disk; what is behind the end of either file is cut off."""
        with _told(self._index(blob)):
            try:
                with self._index(blob).open("r+b") as index, self._part(blob).open("r+b") as part:
                    here = _blocks_on_disk(index, part, size)
                    records = max(0, index.seek(0, os.SEEK_END) - _HEADER.size)
                    index.truncate(_HEADER.size + records // _RECORD.size * _RECORD.size)
                    part.truncate(min(size, part.seek(0, os.SEEK_END)))
                    return here
            except FileNotFoundError:
                return set()

    def _remove(self, blob: str) -> None:
        for path in (self._index(blob), self._part(blob)):
            with _told(path):
                path.unlink(missing_ok=True)


def _check(part: Path, blob: str) -> None:
    """Have the disk keep ``part``, which must be the blob of this name."""
    with part.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != blob:
            raise FrameError(f"blob {blob[:12]} arrived damaged")
        os.fsync(file.fileno())


def _sealed(form: struct.Struct, *fields: bytes | int) -> bytes:
    """``fields`` in their binary ``form``, whose last field is the CRC-32 of what is before it."""
    packed = form.pack(*fields, 0)[:-4]
    return packed + struct.pack("<I", zlib.crc32(packed))


def _blocks_on_disk(index: BinaryIO, part: BinaryIO, size: int) -> set[int]:
    """Blocks of a blob of ``size`` bytes that ``index`` names and ``part`` holds."""
    here: set[int] = set()
    if index.read(_HEADER.size) != _sealed(_HEADER, _MAGIC, size):
        return here
    while len(record := index.read(_RECORD.size)) == _RECORD.size:
        number, crc, _ = _RECORD.unpack(record)
        sound = record == _sealed(_RECORD, number, crc) and number < block_count(size)
        if not sound or number in here:  # each block is read once, whatever a damaged index says
            continue
        part.seek(number * BLOCK_SIZE)
        payload = part.read(min(BLOCK_SIZE, size - number * BLOCK_SIZE))
        full = len(payload) == min(BLOCK_SIZE, size - number * BLOCK_SIZE)
        if full and zlib.crc32(payload) == crc:
            here.add(number)
    return here


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what the system says about ``path`` into an error with a remedy."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be read or written: {error.strerror or error}",
            remedy="check free space and that the folder belongs to the service user",
        ) from error
