# SPDX-License-Identifier: Apache-2.0
"""The audit log: who steered what, line by line in a file that is only ever appended to.

Each line names the SHA-256 of the line before, so that nothing between the first and a known head
can be changed, left out or put elsewhere unseen. What the end lacks, only a head that is kept on
another machine tells: agents send theirs with their state, and the coordinator keeps it.

A daemon and any number of commands write the same log in turn.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from fedmill_shared.audit.entry import (
    NAME_LENGTH,
    VALUE_LENGTH,
    Entry,
    Head,
    bounded,
    entry_of,
    head_of,
    line_of,
)
from fedmill_shared.audit.files import (
    belongs_to_folder,
    ending,
    first_in,
    full_files,
    full_name,
    head_in,
    held,
    torn_name,
    untold,
)
from fedmill_shared.clock import Clock
from fedmill_shared.errors import AuditError, StoreError
from fedmill_shared.files import sha256, sync_folder, write_atomic

FILE = "audit.jsonl"
"""Its name in a state folder."""
FILE_BYTES = 8 << 20
MAX_BYTES = 256_000_000
DAEMON = "daemon"
"""Who it was when nobody asked for it."""


class Audit(Protocol):
    """Where steering actions are recorded."""

    def record(
        self, *, who: str, what: str, subject: str, before: str = "", after: str = ""
    ) -> None:
        """Record that ``who`` did ``what`` to ``subject``, which was ``before`` and is ``after``.

        Raises:
            StoreError: the disk fails; an :class:`AuditLog` only.
            AuditError: the log cannot be gone on with; likewise.
        """
        ...


class NoAudit:
    """For what runs without a state folder."""

    def record(
        self, *, who: str, what: str, subject: str, before: str = "", after: str = ""
    ) -> None:
        """Do nothing."""


class AuditLog:
    """Owns the path of a log, but no open file: others write it too."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        file_bytes: int = FILE_BYTES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """Prepare; nothing is read or written.

        A file that has grown to ``file_bytes``, or a quarter of ``max_bytes``, gets a name of its
        own, and the chain goes on in a new one. When all of them would exceed ``max_bytes``, the
        oldest goes, and a record says so.
        """
        self.path = path
        self._clock = clock
        self._file_bytes = min(file_bytes, max_bytes // 4)
        self._max_bytes = max_bytes

    def record(
        self, *, who: str, what: str, subject: str, before: str = "", after: str = ""
    ) -> None:
        """Append a record; it is on the disk when this returns.

        Texts lose their control characters and what is beyond the bounds of their field.

        Raises:
            StoreError: the disk fails or is full, or another process keeps the log locked; it is
                as it was.
            AuditError: nothing that the log ends with is a record.
        """
        told = (who, what, subject, before, after)
        try:
            while not self._appended(told):
                pass
        except OSError as error:
            raise StoreError(
                f"{self.path}: cannot be written: {error.strerror or error}",
                remedy="check free space and that the folder belongs to the service user",
            ) from error

    def head(self) -> Head:
        """Number and digest of the last record.

        Raises:
            StoreError: it cannot be read.
            AuditError: the log does not end with a record.
        """
        try:
            return self._newest(self.path) or self._before()
        except OSError as error:
            raise StoreError(
                f"{self.path}: cannot be read: {error.strerror or error}",
                remedy="run this as the user of the service",
            ) from error

    def _before(self) -> Head:
        """The head of the full files."""
        for path in reversed(full_files(self.path)):
            head = self._newest(path)
            if head is not None:
                return head
        return Head()

    def _newest(self, path: Path) -> Head | None:
        try:
            return head_in(path)
        except FileNotFoundError:
            return None
        except AuditError as error:
            raise self._broken(path) from error

    def _appended(self, told: tuple[str, ...]) -> bool:
        """Append what is ``told``; False where the file was full and a new one is to be begun."""
        with held(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, fcntl.LOCK_EX) as handle:
            belongs_to_folder(self.path, handle)
            lines, torn = self._ending(handle)
            size = os.fstat(handle).st_size - len(torn)
            if torn:
                self._set_aside(handle, torn, size)
            if size >= self._file_bytes:
                self.path.rename(full_name(self.path, self._first(handle)))
                sync_folder(self.path.parent)
                return False
            head, notes = self._gone_on_from(lines, size)
            discarded = [] if size else list(self._too_old())
            aside = untold(self.path)
            notes += [each for _path, each in discarded]
            notes += [_torn(path) for path in aside]
            self._write(handle, size, self._chained(head, [*notes, told]))
            if size == 0:
                sync_folder(self.path.parent)
            for path, _note in discarded:
                path.unlink(missing_ok=True)
            for path in aside:
                path.rename(path.with_suffix(""))
            return True

    def _first(self, handle: int) -> int:
        try:
            return first_in(handle)
        except AuditError:  # somebody changed it: the number is only a name
            return self._before().n + 1

    def _ending(self, handle: int) -> tuple[list[bytes], bytes]:
        try:
            return ending(handle)
        except AuditError as error:
            raise self._broken(self.path) from error

    def _set_aside(self, handle: int, torn: bytes, size: int) -> None:
        """Move what a power cut has left of a line out of the log; the next record says so."""
        write_atomic(torn_name(self.path, sha256(torn)[:16]), torn)
        os.ftruncate(handle, size)

    def _gone_on_from(self, lines: list[bytes], size: int) -> tuple[Head, list[tuple[str, ...]]]:
        """The head, and what is to be said of lines at the end that are no records."""
        if not size:
            return self._before(), []
        for behind, line in enumerate(reversed(lines)):
            with suppress(AuditError):
                head = Head(entry_of(line).n + behind, sha256(lines[-1]))
                said = (DAEMON, "audit.broken", self.path.name, "", f"{behind} lines are no record")
                return head, [said] if behind else []
        raise self._broken(self.path)

    def _too_old(self) -> Iterator[tuple[Path, tuple[str, ...]]]:
        """Files that are to go for the new one, and what is to be said of each."""
        files = full_files(self.path)
        sizes = [path.stat().st_size for path in files]
        excess = sum(sizes) + self._file_bytes - self._max_bytes
        for path, size in zip(files[:-1], sizes, strict=False):  # the chain goes on from the last
            if excess <= 0:
                return
            excess -= size
            last = self._newest(path)
            yield path, (DAEMON, "audit.discarded", path.name, str(last or ""), "")

    def _chained(self, head: Head, notes: list[tuple[str, ...]]) -> bytes:
        data = b""
        for who, what, subject, before, after in notes:
            entry = Entry(
                n=head.n + 1,
                time_ns=self._clock.now_ns(),
                who=bounded(who, NAME_LENGTH),
                what=bounded(what, NAME_LENGTH),
                subject=bounded(subject, NAME_LENGTH),
                before=bounded(before, VALUE_LENGTH),
                after=bounded(after, VALUE_LENGTH),
                previous=head.digest,
            )
            line = line_of(entry)
            head, data = head_of(line), data + line
        return data

    def _write(self, handle: int, size: int, data: bytes) -> None:
        """Append ``data`` whole, or leave the file with ``size`` bytes as it was."""
        try:
            written = 0
            while written < len(data):
                written += os.write(handle, data[written:])
            os.fsync(handle)
        except OSError:
            with suppress(OSError):
                os.ftruncate(handle, size)
            raise

    def _broken(self, path: Path) -> AuditError:
        return AuditError(
            f"{path}: this audit log does not end with a record",
            remedy="see what is wrong with `audit verify`; move its files elsewhere to begin anew",
        )


def _torn(path: Path) -> tuple[str, ...]:
    """What is to be said of a torn line that was set aside."""
    size = path.stat().st_size
    return (DAEMON, "audit.torn", path.stem, f"{size} bytes of a line", "set aside")
