# SPDX-License-Identifier: Apache-2.0
"""The files that a source follows: which there are, which have something new, and in what order."""

import os
import stat
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import msgspec

from fedmill_agent.sources.tail.tracked import Key, Mark, Tracked
from fedmill_shared.errors import SourceError

MOST_FILES = 20_000
MOST_MARKS = 1000
"""Files whose end is remembered; of older ones only that they are older."""
MOST_OPEN = 16
"""Files that are open at a time; the others get their turn when these are read."""
QUIET_SECONDS = 5.0
"""Time without growth after which a file is finished, if there is a newer one."""
_PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")
_REMEDY = "check `path` and that the service user may read it"


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """How far the files of a source were read.

    Attributes:
        of: the path or pattern.
        marks: of single files, the oldest first.
        before_ns: files without a mark that were written last before this are finished.
    """

    of: str
    marks: tuple[Mark, ...] = ()
    before_ns: int = 0


class _Entry(NamedTuple):
    path: str
    size: int
    modified_ns: int


@dataclass(slots=True)
class Folder:
    """Owns the marks of all files that a pattern names, and of those that it named before.

    A file is known by what the kernel knows it by, so that one that was renamed within its folder
    is read to its end. One that has become shorter, or begins otherwise than it did, is another
    one. Where rows have times (``copies``), a file that begins like a known one is its copy, and
    read on where that was: ``copytruncate`` neither repeats nor loses what was read.

    Attributes:
        path: the file or pattern.
        counts: files ``truncated``, ``shortened``, ``compressed`` (not read) and ``unreadable``.
        problem: why there is nothing to read, in words.
    """

    path: str
    copies: bool
    monotonic: Callable[[], float]
    counts: Counter[str] = field(default_factory=Counter)
    problem: str = ""
    _known: dict[Key, Tracked] = field(default_factory=dict)
    _before_ns: int = 0
    _newest_ns: int = 0
    _packed: set[str] = field(default_factory=set)

    def resume(self, place: Place) -> None:
        """Go on where an earlier session was."""
        self._before_ns = place.before_ns
        for mark in place.marks:
            tracked = Tracked(mark, "", self.monotonic())
            self._known[tracked.key] = tracked

    def check(self) -> None:
        """See whether the folder can be read.

        Raises:
            SourceError: it cannot, or holds too many files.
        """
        self._scanned()

    def place(self) -> Place:
        """How far everything is read."""
        return Place(
            of=self.path,
            marks=tuple(tracked.mark for tracked in self._known.values()),
            before_ns=self._before_ns,
        )

    def skip(self) -> list[Tracked]:
        """Open the newest files, to begin at their ends; the older ones are never read.

        Raises:
            SourceError: as ``pending``.
        """
        found = self._scanned()
        ordered = sorted(found.items(), key=lambda each: each[1].modified_ns)
        newest = ordered[-MOST_OPEN:]
        self._before_ns = max((e.modified_ns for _, e in ordered[:-MOST_OPEN]), default=0)
        opened = []
        for key, entry in newest:
            tracked = self._new(key)
            if self._open(tracked, entry):
                self._known[key] = tracked
                opened.append(tracked)
        return opened

    def pending(self) -> list[Tracked]:
        """Open files with something that was not read, at most 16, the oldest first.

        Raises:
            SourceError: the folder cannot be read, or holds too many files.
        """
        found = self._scanned()
        self._newest_ns = max((each.modified_ns for each in found.values()), default=0)
        self.problem = "" if found else f"there is no file {self.path}"
        waiting = self._gone(found)
        for key, entry in sorted(found.items(), key=lambda each: (each[1].modified_ns, each[1])):
            tracked = self._known.get(key)
            if tracked is None and 0 < entry.modified_ns <= self._before_ns:
                continue
            if self._has_news(tracked or self._new(key), entry, found):
                waiting.append(self._known[key])
            if len(waiting) >= MOST_OPEN:
                break
        self._forget(found)
        return waiting

    def is_finished(self, tracked: Tracked) -> bool:
        """Whether nothing more will come: it stands still, and a newer file is there."""
        quiet = self.monotonic() - tracked.grown >= QUIET_SECONDS
        return quiet and tracked.modified_ns < self._newest_ns

    def close(self) -> None:
        """Close all files."""
        for tracked in self._known.values():
            tracked.close()

    def _scanned(self) -> dict[Key, _Entry]:
        """Files that the pattern names, and those that are known, in its folder."""
        place = Path(self.path)
        inodes = {key.inode for key in self._known}
        found: dict[Key, _Entry] = {}
        try:
            with os.scandir(place.parent) as entries:
                for entry in entries:
                    named = fnmatchcase(entry.name, place.name)
                    if named and entry.name.lower().endswith(_PACKED):
                        self._skip(entry.name)
                    elif named or entry.inode() in inodes:
                        self._add(found, entry)
                    if len(found) > MOST_FILES:
                        raise SourceError(
                            f"{self.path}: more than {MOST_FILES} files",
                            remedy="narrow the pattern, or move old files away",
                        )
        except OSError as error:
            raise SourceError(f"{place.parent}: {error.strerror}", remedy=_REMEDY) from error
        return found

    def _add(self, found: dict[Key, _Entry], entry: "os.DirEntry[str]") -> None:
        try:
            status = entry.stat()
        except FileNotFoundError:
            return
        if stat.S_ISREG(status.st_mode):
            key = Key(status.st_dev, status.st_ino)
            found[key] = _Entry(entry.path, status.st_size, status.st_mtime_ns)

    def _skip(self, name: str) -> None:
        if name not in self._packed and len(self._packed) < MOST_FILES:
            self._packed.add(name)
            self.counts["compressed"] += 1

    def _new(self, key: Key) -> Tracked:
        return Tracked(Mark(device=key.device, inode=key.inode), "", self.monotonic())

    def _gone(self, found: dict[Key, _Entry]) -> list[Tracked]:
        """Files that were deleted or moved to another folder, and are open with something new."""
        gone = [each for key, each in self._known.items() if key not in found and each.is_open]
        for tracked in gone:
            tracked.look(self.monotonic())
        return [each for each in gone if each.size > each.mark.offset]

    def _has_news(self, tracked: Tracked, entry: _Entry, found: dict[Key, _Entry]) -> bool:
        """Bring ``tracked`` up to date; whether it has something that was not read."""
        tracked.path = entry.path
        mark, new = tracked.mark, tracked.key not in self._known
        if not new and (entry.size, entry.modified_ns) == (mark.offset, mark.modified_ns):
            return False
        if not self._open(tracked, entry):
            return False
        if new:
            self._known[tracked.key] = tracked
        if self.copies and (new or mark.copied):
            original = self._original(tracked, new=new)
            if original is not None:
                tracked.follow(original.mark)
                if original.key in found:
                    return False
        self._check(tracked)
        return tracked.size > tracked.mark.offset

    def _check(self, tracked: Tracked) -> None:
        """Begin anew in a file that is another one than it was."""
        mark, known = tracked.mark, tracked.is_same()
        if known and tracked.size == mark.offset:
            tracked.unchanged()
        elif known and (tracked.size > mark.offset or mark.copied):
            return  # a copy may still be on its way
        elif self.copies and tracked.is_shortened():
            self.counts["shortened"] += 1
            tracked.shorten()
        else:
            self.counts["truncated"] += 1
            tracked.restart()

    def _original(self, tracked: Tracked, *, new: bool) -> Tracked | None:
        """The file that ``tracked`` is a copy of: known, and so far as it was read the same."""
        for other in reversed(self._known.values()):
            mark = other.mark
            told = 0 < mark.first_row <= mark.head_bytes and (new or not mark.copied)
            same = told and tracked.head_of(mark.head_bytes) == mark.head
            if same and other is not tracked:
                return other
        return None

    def _open(self, tracked: Tracked, entry: _Entry) -> bool:
        """Open and measure a file; False if it cannot be, or its name leads to another one."""
        tracked.path = entry.path
        try:
            if not tracked.open():
                return False
        except FileNotFoundError:
            return False
        except OSError as error:
            if Path(self.path).name == Path(entry.path).name:
                raise SourceError(f"{entry.path}: {error.strerror}", remedy=_REMEDY) from error
            self.counts["unreadable"] += 1
            return False
        tracked.look(self.monotonic())
        return True

    def _forget(self, found: dict[Key, _Entry]) -> None:
        """Close what is read and quiet, and drop the marks of what is gone, and of the oldest."""
        newest = max(self._known, key=lambda key: self._known[key].grown, default=None)
        for key, tracked in list(self._known.items()):
            quiet = self.monotonic() - tracked.grown >= QUIET_SECONDS
            if key not in found and (not tracked.is_open or quiet):
                tracked.close()
                del self._known[key]
            elif quiet and key != newest and tracked.size <= tracked.mark.offset:
                tracked.close()
        read = [key for key, each in self._known.items() if each.size <= each.mark.offset]
        read.sort(key=lambda key: self._known[key].mark.modified_ns)
        for key in read[: max(0, len(self._known) - MOST_MARKS)]:
            dropped = self._known.pop(key)
            dropped.close()
            self._before_ns = max(self._before_ns, dropped.mark.modified_ns)
