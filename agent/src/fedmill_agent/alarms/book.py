# SPDX-License-Identifier: Apache-2.0
"""Where all alarms of a job stand, on disk: neither lost nor told twice by a restart.

A record is written here, as waiting, together with the standing that it follows from, and only then
told. After a crash in between it is still waiting; whoever takes it knows by its number whether it
was told already.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from fedmill_agent import sealed
from fedmill_agent.alarms.machine import IDLE, Standing
from fedmill_agent.alarms.record import AlarmRecord
from fedmill_shared.errors import DataError, StoreError
from fedmill_shared.messages import UNREADABLE

FILE = "alarms.msgpack"
MOST_ENTRIES = 1000
"""Machines that are remembered of all alarms of a job; the one seen longest ago is forgotten."""
MOST_WAITING = 200
LARGEST = 1 << 24
HIGHEST = 1 << 62


class Entry(Struct, frozen=True):
    """One alarm of one machine, and what was found last that is told of it, or may be later."""

    standing: Standing = IDLE
    record: AlarmRecord | None = None


EMPTY = Entry()


class Page(Struct, frozen=True):
    """The file.

    Attributes:
        number: of the newest record.
        entries: alarm -> machine -> where it stands, the one seen longest ago first.
        waiting: records that are to be told, the oldest first.
    """

    number: Annotated[int, Meta(ge=0, le=HIGHEST)] = 0
    entries: dict[str, dict[str, Entry]] = {}
    waiting: tuple[AlarmRecord, ...] = ()


def read(path: Path) -> Page:
    """The file; an empty page where there is none.

    Raises:
        DataError: it is damaged.
        StoreError: the disk fails.
    """
    try:
        return sealed.read(path, Page, LARGEST) or Page()
    except UNREADABLE as error:
        remedy = "alarms that go on are raised again"
        raise DataError(f"{path}: damaged: {error}", remedy=remedy) from error
    except OSError as error:
        remedy = "give the service user the right to read it"
        raise StoreError(f"{path}: cannot be read: {error.strerror}", remedy=remedy) from error


def active(page: Page) -> list[AlarmRecord]:
    """What was found last of each alarm that is raised, the newest first."""
    found = [
        entry.record
        for machines in page.entries.values()
        for entry in machines.values()
        if entry.standing.raised and entry.record is not None
    ]
    return sorted(found, key=lambda record: -record.since_ns)


class Book:
    """Owns the file of one job.

    Attributes:
        changed: whether memory knows more than the file.
    """

    def __init__(self, path: Path, page: Page, alarms: Collection[str]) -> None:
        """Go on where the ``page`` that was read ends, with the ``alarms`` that the job has now."""
        self._path = path
        self._entries: dict[tuple[str, str], Entry] = {}
        self.number, self.waiting = page.number, list(page.waiting[-MOST_WAITING:])
        self.changed = False
        for alarm, machines in page.entries.items():
            if alarm in alarms:
                self._entries |= {(alarm, unit): entry for unit, entry in machines.items()}
        for key in list(self._entries)[:-MOST_ENTRIES]:
            del self._entries[key]

    def get(self, alarm: str, unit: str) -> Entry:
        """Where ``alarm`` stands for the machine ``unit``."""
        return self._entries.get((alarm, unit), EMPTY)

    def put(self, alarm: str, unit: str, entry: Entry) -> AlarmRecord | None:
        """Remember where it stands; the last record of an alarm that is forgotten for it."""
        key = (alarm, unit)
        self.changed = True
        self._entries.pop(key, None)
        if entry.standing == IDLE:
            return None
        self._entries[key] = entry
        if len(self._entries) <= MOST_ENTRIES:
            return None
        forgotten = self._entries.pop(self._least())
        return forgotten.record if forgotten.standing.raised else None

    def open(self) -> list[tuple[str, str, Entry]]:
        """All that are not at rest."""
        return [(*key, entry) for key, entry in self._entries.items()]

    def next_number(self, now_ns: int) -> int:
        """A number that no record has had, even if this file was lost."""
        self.number = max(self.number + 1, now_ns)
        return self.number

    def wait(self, record: AlarmRecord) -> None:
        """Keep ``record`` until it is told; of too many, the oldest repeats and then others go."""
        self.changed = True
        self.waiting.append(record)
        if len(self.waiting) > MOST_WAITING:
            repeats = [each for each in self.waiting if each.state == "repeated"]
            self.waiting.remove((repeats or self.waiting)[0])

    def told(self, record: AlarmRecord) -> None:
        """It waits no longer."""
        self.changed = True
        self.waiting.remove(record)

    def save(self) -> None:
        """Write the file.

        Raises:
            StoreError: the disk fails; what changed is still to be written.
        """
        entries: dict[str, dict[str, Entry]] = {}
        for (alarm, unit), entry in self._entries.items():
            entries.setdefault(alarm, {})[unit] = entry
        sealed.write(self._path, Page(self.number, entries, tuple(self.waiting)))
        self.changed = False

    def _least(self) -> tuple[str, str]:
        """The one to forget for the newest: not raised if there is such, and seen longest ago."""
        others = list(self._entries)[:-1]
        quiet = (key for key in others if not self._entries[key].standing.raised)
        return next(quiet, others[0])
