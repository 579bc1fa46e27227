# SPDX-License-Identifier: Apache-2.0
"""Reads a whole audit log, line by line, and says where its chain is broken."""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from fedmill_shared.audit.entry import (
    LONGEST_LINE,
    Entry,
    Head,
    entry_of,
    parse_head,
)
from fedmill_shared.audit.files import full_files, held
from fedmill_shared.errors import AuditError, StoreError, UsageError
from fedmill_shared.files import sha256

MOST_FAULTS = 20
"""More than these are only counted."""


class Flaw(Struct, frozen=True):
    """What is wrong, and where: ``line`` counts from 1."""

    file: str
    line: int
    problem: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.problem}"


class Verdict(Struct, frozen=True, kw_only=True):
    """What came of the reading.

    Attributes:
        records: how many were read.
        first: number of the first one; above 1 where older ones went by the log's bound.
        head: number and digest of the last one.
        flaws: the first ``MOST_FAULTS`` things that are wrong, in the order of the files.
        more: how many further ones there are.
    """

    records: int
    first: int
    head: Head
    flaws: list[Flaw]
    more: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.flaws


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file of the log; ``data`` is empty where it is longer than any record."""

    file: str
    number: int
    data: bytes

    def flaw(self, problem: str) -> Flaw:
        """What is wrong with it."""
        return Flaw(self.file, self.number, problem)


def lines(path: Path) -> Iterator[Line]:
    """All lines of the log whose growing file is ``path``, as it is now; oldest first.

    Raises:
        StoreError: it cannot be read, or there is none.
    """
    try:
        with ExitStack() as opened:
            for name, file, size in _snapshot(path, opened):
                yield from _lines(name, file, size)
    except OSError as error:
        raise StoreError(
            f"{error.filename or path}: cannot be read: {error.strerror or error}",
            remedy="is this an audit log, and may this user read it?",
        ) from error


def entries(path: Path) -> Iterator[Entry]:
    """The records of a log, oldest first; lines that are none are left out.

    Raises:
        StoreError: it cannot be read, or there is none.
    """
    for line in lines(path):
        try:
            yield entry_of(line.data)
        except AuditError:
            continue


def verify(path: Path, *, head: Head | None = None, earlier: Sequence[Head] = ()) -> Verdict:
    """Check every line of the log whose growing file is ``path``, and that it reaches ``head``.

    ``head`` was seen at an earlier time, best on another machine. Without it a log that lacks its
    last records, or whose last record was changed, looks like one that is whole. Heads that were
    seen ``earlier`` still show a chain that was made anew from some record on; those from before
    the log's first record are passed over.

    Raises:
        StoreError: it cannot be read, or there is none.
    """
    reading = _Reading(head, earlier)
    for line in lines(path):
        reading.take(line)
    return reading.verdict(path.name)


class _Reading:
    """What must be known of the lines before to judge the next."""

    def __init__(self, anchor: Head | None, earlier: Sequence[Head]) -> None:
        self._anchor = anchor if anchor is not None and anchor.n else None
        self._kept = {each.n: each for each in (*earlier, *([anchor] if anchor else []))}
        self._flaws: list[Flaw] = []
        self._count = 0
        self._records = 0
        self._first: Entry | None = None
        self._place: Line | None = None
        self._head = Head()
        self._discarded: set[Head] = set()
        self._met = False

    def take(self, line: Line) -> None:
        """Judge a line."""
        entry = self._read(line)
        if entry is None:
            return
        self._records += 1
        if self._first is None:
            self._first, self._place = entry, line
            self._head = Head(entry.n - 1, entry.previous)
        if entry.n <= self._head.n:
            self._note(line.flaw(f"record {entry.n} is out of its place, or there twice"))
            return
        if entry.n > self._head.n + 1:
            missing = f"records {self._head.n + 1} to {entry.n - 1} are missing before this one"
            self._note(line.flaw(missing))
        elif entry.previous != self._head.digest:
            changed = f"record {entry.n - 1}, the one before, is not as it was when this one came"
            self._note(line.flaw(changed))
        self._go_on(line, entry)

    def verdict(self, name: str) -> Verdict:
        """What is to be said at the end."""
        if self._first is not None and self._place is not None:
            before = Head(self._first.n - 1, self._first.previous)
            begins = before == Head() if self._first.n == 1 else before in self._discarded
            if not begins:
                problem = f"the log begins with record {self._first.n}, and none says why"
                self._flaws.insert(0, self._place.flaw(problem))
                self._count += 1
        if self._anchor is not None and not self._met:
            first = self._first.n if self._first is not None else 0
            self._note(Flaw(name, 0, _shortfall(self._anchor, first, self._head)))
        return Verdict(
            records=self._records,
            first=self._first.n if self._first is not None else 0,
            head=self._head,
            flaws=self._flaws[:MOST_FAULTS],
            more=max(0, self._count - MOST_FAULTS),
        )

    def _read(self, line: Line) -> Entry | None:
        if line.data and not line.data.endswith(b"\n"):
            self._note(line.flaw("the last line is torn; the next record sets it aside"))
            return None
        try:
            return entry_of(line.data)
        except AuditError:
            self._note(line.flaw("this is no record: it was changed"))
            if self._first is not None:  # the record behind names this line
                self._head = Head(self._head.n + 1, sha256(line.data))
            return None

    def _go_on(self, line: Line, entry: Entry) -> None:
        self._head = Head(entry.n, sha256(line.data))
        if self._anchor is not None and self._anchor.n == entry.n:
            self._met = True
        if self._kept.get(entry.n, self._head) != self._head:
            self._note(line.flaw(f"record {entry.n} is not the one whose head was kept"))
        if entry.what == "audit.discarded":
            try:
                self._discarded.add(parse_head(entry.before))
            except UsageError:
                self._note(line.flaw(f"record {entry.n} does not say what was discarded"))

    def _note(self, flaw: Flaw) -> None:
        self._count += 1
        if len(self._flaws) < MOST_FAULTS:
            self._flaws.append(flaw)


def _shortfall(anchor: Head, first: int, head: Head) -> str:
    if head.n < anchor.n:
        return f"the log was shortened: it ends with record {head.n}, and had {anchor.n}"
    if anchor.n < first:
        return f"record {anchor.n}, whose head was kept, is from before the log: give a later head"
    return f"record {anchor.n}, whose head was kept, is not there"


def _snapshot(path: Path, opened: ExitStack) -> list[tuple[str, BinaryIO, int]]:
    """Every file, open, with its size; the log may grow and change names from now on."""
    files = full_files(path)
    try:
        with held(path, os.O_RDONLY, fcntl.LOCK_SH):
            files = [*full_files(path), path]
            return [_opened(each, opened) for each in files]
    except FileNotFoundError:
        if not files:  # with some, it is just being begun, or somebody took it away
            raise
        return [_opened(each, opened) for each in full_files(path)]


def _opened(path: Path, opened: ExitStack) -> tuple[str, BinaryIO, int]:
    file = opened.enter_context(path.open("rb"))
    return path.name, file, os.fstat(file.fileno()).st_size


def _lines(name: str, file: BinaryIO, size: int) -> Iterator[Line]:
    number, left = 0, size
    while left > 0:
        data = file.readline(min(left, LONGEST_LINE))
        number, left = number + 1, left - len(data)
        whole = data
        while data and not data.endswith(b"\n") and left > 0:
            data = file.readline(min(left, LONGEST_LINE))
            left -= len(data)
            whole = b""
        if not data:
            return
        yield Line(name, number, whole)
