# SPDX-License-Identifier: Apache-2.0
"""The table of alarms: a row for each turn that one took, never changed once it is there."""

import sqlite3
from dataclasses import dataclass

from fedmill_agent.store import cursors
from fedmill_shared.errors import DataError

LONGEST_RECORD = 4096
"""Bytes of a record in UTF-8, and more than its row takes on average."""


@dataclass(frozen=True, slots=True)
class AlarmRow:
    """One turn of an alarm.

    Attributes:
        id: its place in the store, growing.
        name: of the alarm, as the job calls it.
        state: what it is in from ``at_ns`` on.
        at_ns: source time, ns UTC.
        record: all that is said of it, a JSON object.
    """

    id: int
    name: str
    state: str
    at_ns: int
    record: str


def insert(
    database: sqlite3.Connection, name: str, state: str, at_ns: int, *, record: str, most: int
) -> int:
    """Add a turn, and keep the last ``most`` of them; its id.

    Raises:
        DataError: the record is too long.
    """
    length = len(record.encode())
    if length > LONGEST_RECORD:
        raise DataError(
            f"alarm {name}: a record of {length} bytes, at most {LONGEST_RECORD} are kept",
            remedy="say less in it",
        )
    number = database.execute(
        "INSERT INTO alarms (name, state, at_ns, record) VALUES (?, ?, ?, ?)",
        (name, state, at_ns, record),
    ).lastrowid
    place = number or 0
    cursors.lose_before(database, "alarms", place - most + 1)
    database.execute("DELETE FROM alarms WHERE id <= ?", (place - most,))
    return place


def newest(database: sqlite3.Connection, limit: int) -> list[AlarmRow]:
    """The last ``limit`` turns, the oldest of them first."""
    rows = database.execute(
        "SELECT id, name, state, at_ns, record FROM alarms ORDER BY id DESC LIMIT ?", (limit,)
    ).fetchall()
    return [AlarmRow(*row) for row in reversed(rows)]


def after(database: sqlite3.Connection, place: int, limit: int) -> list[AlarmRow]:
    """Up to ``limit`` turns that came after the one with the id ``place``."""
    rows = database.execute(
        "SELECT id, name, state, at_ns, record FROM alarms WHERE id > ? ORDER BY id LIMIT ?",
        (place, limit),
    )
    return [AlarmRow(*row) for row in rows]
