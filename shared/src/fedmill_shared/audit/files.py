# SPDX-License-Identifier: Apache-2.0
"""The files of an audit log: the one that grows, and those before it, named by their first record.

``audit.jsonl`` grows; ``audit.000000000001.jsonl`` begins with record 1.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedmill_shared.audit.entry import LONGEST_LINE, Head, entry_of, head_of
from fedmill_shared.errors import AuditError, StoreError

DIGITS = 12
_TRIES = 250
_PAUSE_SECONDS = 0.02
_UNTOLD = ".untold"
_TAIL = 2 * LONGEST_LINE


def full_files(path: Path) -> list[Path]:
    """The files before ``path``, oldest first."""
    begin, end = f"{path.stem}.", path.suffix
    return sorted(
        each
        for each in path.parent.glob(f"{begin}*{end}")
        if len(number := each.name[len(begin) : -len(end)]) == DIGITS and number.isdecimal()
    )


def full_name(path: Path, first: int) -> Path:
    """The name of ``path`` once it is full, if it begins with record ``first``."""
    return path.with_name(f"{path.stem}.{first:0{DIGITS}d}{path.suffix}")


def torn_name(path: Path, mark: str) -> Path:
    """Where a torn line of the log goes that no record tells of yet."""
    return path.with_name(f"{path.stem}.torn-{mark}{_UNTOLD}")


def untold(path: Path) -> list[Path]:
    """Torn lines that were set aside and that no record tells of, as after a second power cut."""
    return sorted(path.parent.glob(f"{path.stem}.torn-*{_UNTOLD}"))


@contextmanager
def held(path: Path, flags: int, lock: int) -> Iterator[int]:
    """``path`` open and locked against others; it is the file of that name as long as it is held.

    Raises:
        OSError: it cannot be opened.
        StoreError: another process has held it for seconds.
    """
    handle = _held(path, flags, lock)
    try:
        yield handle
    finally:
        os.close(handle)


def _held(path: Path, flags: int, lock: int) -> int:
    for _ in range(_TRIES):
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, lock | fcntl.LOCK_NB)
            if _is_still(path, handle):  # another may have put it among the full ones
                return handle
        except BlockingIOError:
            time.sleep(_PAUSE_SECONDS)
        except OSError:
            os.close(handle)
            raise
        os.close(handle)
    raise StoreError(
        f"{path}: another process has kept this audit log locked for "
        f"{_TRIES * _PAUSE_SECONDS:.0f} s",
        remedy="see with `lsof` which one, and end it",
    )


def _is_still(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def belongs_to_folder(path: Path, handle: int) -> None:
    """Give what root creates to the owner of its folder: a daemon is to write it too."""
    if os.geteuid() == 0 and os.fstat(handle).st_size == 0:
        folder = path.parent.stat()
        os.fchown(handle, folder.st_uid, folder.st_gid)


def ending(handle: int) -> tuple[list[bytes], bytes]:
    """The last whole lines of an open file that fit some KiB, and what stands behind them.

    The latter is what a power cut has left of a line, and empty otherwise.

    Raises:
        AuditError: it ends with what is longer than any record.
    """
    size = os.fstat(handle).st_size
    begin = max(0, size - _TAIL)
    data = os.pread(handle, _TAIL, begin)
    whole, feed, torn = data.rpartition(b"\n")
    lines = [line + b"\n" for line in whole.split(b"\n")] if feed else []
    if begin:  # the first of them is cut off
        del lines[:1]
        if not lines:
            raise AuditError("this file does not end with lines of an audit log")
    return lines, torn


def head_in(path: Path) -> Head | None:
    """The head of a log whose last file is ``path``; None where that holds no whole line.

    Raises:
        OSError: it cannot be read.
        AuditError: its last line is no record.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        lines, _torn = ending(handle)
    finally:
        os.close(handle)
    return head_of(lines[-1]) if lines else None


def first_in(handle: int) -> int:
    """The number of the first record in an open file.

    Raises:
        AuditError: its first line is no record.
    """
    line, feed, _rest = os.pread(handle, LONGEST_LINE, 0).partition(b"\n")
    if not feed:
        raise AuditError("this file has no whole line")
    return entry_of(line).n
