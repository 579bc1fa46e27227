# SPDX-License-Identifier: Apache-2.0
"""Tells what alarms have to say: written down first, then in the log, then in the journal.

Where the disk fails a record waits, and is tried again every second; the log has it at once.
"""

from typing import Protocol

import msgspec
from msgspec import Struct

from fedmill_agent.alarms.book import MOST_WAITING, Book
from fedmill_agent.alarms.record import AlarmRecord, encode
from fedmill_agent.store.alarms import AlarmRow
from fedmill_shared.clock import Clock
from fedmill_shared.errors import StoreError
from fedmill_shared.log import Logger
from fedmill_shared.messages import UNREADABLE

SAVE_SECONDS = 30.0
"""How often rows of windows that have come to nothing yet are written; a crash loses them."""
RETRY_SECONDS = 1.0
SAID_SECONDS = 60.0
"""How often it is told that the disk fails."""


class Journal(Protocol):
    """Where records go that are told; the window store is one."""

    def add_alarm(self, name: str, state: str, at_ns: int, record: str) -> int:
        """Keep a record."""
        ...

    def alarms(self, limit: int = ...) -> list[AlarmRow]:
        """The newest records, the oldest of them first."""
        ...


class _Numbered(Struct):
    number: int = 0


def _number(row: AlarmRow) -> int:
    """The number of a record in the journal; -1 where that cannot be read."""
    try:
        return msgspec.json.decode(row.record, type=_Numbered).number
    except UNREADABLE:
        return -1


class Teller:
    """Owns the way of records from the book of one job to its journal."""

    def __init__(self, book: Book, journal: Journal, *, clock: Clock, log: Logger) -> None:
        """What waits in ``book`` since before a restart may be in the journal already."""
        self._book = book
        self._journal = journal
        self._clock = clock
        self._log = log
        self._logged = 0
        self._unsure = bool(book.waiting)
        self._said_due = 0.0
        self._again_due = 0.0
        self._save_due = clock.monotonic() + SAVE_SECONDS

    def tell(self) -> None:
        """Write the book, and bring what waits in it to the log and the journal."""
        if not self._book.waiting:
            return
        if self._clock.monotonic() < self._again_due:  # the disk has failed just now
            self._say_all()
            return
        self._save()
        try:
            self._drop_known()
            for record in list(self._book.waiting):
                self._say(record)
                told = encode(record)
                self._journal.add_alarm(record.alarm, record.state, record.end_ns, told)
                self._book.told(record)
        except StoreError as error:
            self._again_due = self._clock.monotonic() + RETRY_SECONDS
            self._say_all()
            self._complain(error)

    def tick(self) -> None:
        """Try again what could not be told, and write the book from time to time."""
        self.tell()
        if self._book.changed and self._clock.monotonic() >= self._save_due:
            self._save()

    def close(self) -> None:
        """Write the book."""
        if self._book.changed:
            self._save()

    def _save(self) -> None:
        self._save_due = self._clock.monotonic() + SAVE_SECONDS
        try:
            self._book.save()
        except StoreError as error:
            self._complain(error)

    def _drop_known(self) -> None:
        """After a restart: what the journal has of all that waits was told."""
        if self._unsure:
            rows = self._journal.alarms(MOST_WAITING)
            numbers = {_number(row) for row in rows}
            for record in [each for each in self._book.waiting if each.number in numbers]:
                self._book.told(record)
            self._unsure = False

    def _complain(self, error: StoreError) -> None:
        now = self._clock.monotonic()
        if now >= self._said_due:
            self._said_due = now + SAID_SECONDS
            self._log.error("alarms.delayed", error=str(error), waiting=len(self._book.waiting))

    def _say_all(self) -> None:
        for record in self._book.waiting:
            self._say(record)

    def _say(self, record: AlarmRecord) -> None:
        """One line in the log, once."""
        if record.number <= self._logged:
            return
        self._logged = record.number
        said = {
            "alarm": record.alarm,
            "severity": record.severity,
            "unit": record.unit,
            "predicted": record.predicted or record.value,
            "confidence": record.confidence,
            "cause": record.cause,
            "remedy": record.remedy,
            "suppressed": record.suppressed,
        }
        told = {name: value for name, value in said.items() if value not in ("", None)}
        if record.state == "raised":
            self._log.warning("alarm.raised", **told)
        elif record.state == "repeated":
            self._log.warning("alarm.repeated", **told)
        else:
            self._log.info("alarm.cleared", **told)
