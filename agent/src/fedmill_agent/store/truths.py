# SPDX-License-Identifier: Apache-2.0
"""The tables of labels that came by themselves, and of how the job joins them.

Every identity has one row: the record with the largest rank that ever came. Withdrawn labels stay
as rows, so that a late copy of what was withdrawn changes nothing.
"""

import sqlite3
from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING

import msgspec

from fedmill_agent.store.joining import Joining, TruthRow

if TYPE_CHECKING:
    from fedmill_agent.labels.record import Entry

POSITION = "labels position"
_JOINING = "joining"
_OFTEN = 256


class State(IntEnum):
    """What a stored label is good for."""

    HOLDS = 0
    WITHDRAWN = 1
    REFUSED = 2


def add_truths(
    database: sqlite3.Connection, entries: Sequence["Entry"], refused: Sequence[bool]
) -> bool:
    """Keep of each identity the record with the largest rank; whether that changed anything."""
    before = database.total_changes
    database.executemany(
        "INSERT INTO truths (job, id, unit, piece, start_ns, end_ns, text, start_value, end_value,"
        " made_ns, state, rank, arrived_ns, changes)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (job, id) DO UPDATE SET unit = excluded.unit, piece = excluded.piece,"
        " start_ns = excluded.start_ns, end_ns = excluded.end_ns, text = excluded.text,"
        " start_value = excluded.start_value, end_value = excluded.end_value,"
        " made_ns = excluded.made_ns, state = excluded.state, rank = excluded.rank,"
        " arrived_ns = min(arrived_ns, excluded.arrived_ns),"
        " changes = max(changes + 1, excluded.changes) WHERE excluded.rank > rank",
        (_row(entry, refused=bad) for entry, bad in zip(entries, refused, strict=True)),
    )
    return database.total_changes > before


def read_truths(database: sqlite3.Connection) -> list[TruthRow]:
    """Labels that hold."""
    query = (
        "SELECT job, id, unit, piece, start_ns, end_ns, text, start_value, end_value, made_ns,"
        " rank, arrived_ns FROM truths WHERE state = ?"
    )
    return [TruthRow(*row) for row in database.execute(query, (State.HOLDS,))]


def discard_truths(database: sqlite3.Connection, rows: int, before_ns: int, came: int) -> bool:
    """Keep the last ``rows`` labels; older than ``before_ns`` only those of what has windows.

    ``came`` is how many came just now; it is looked only about every few hundred labels. True if
    any went.
    """
    (last,) = database.execute("SELECT ifnull(max(seq), 0) FROM truths").fetchone()
    if last // _OFTEN == (last - came) // _OFTEN:
        return False
    gone = database.execute("DELETE FROM truths WHERE seq <= ?", (last - rows,)).rowcount
    gone += database.execute(
        "DELETE FROM truths WHERE arrived_ns < ? AND CASE WHEN piece = ''"
        " THEN unit NOT IN (SELECT unit FROM windows)"
        " ELSE piece NOT IN (SELECT run FROM windows)"
        " AND piece NOT IN (SELECT substr(run, length(unit) + 2) FROM windows) END",
        (before_ns,),
    ).rowcount
    return gone > 0


def remember_joining(database: sqlite3.Connection, joining: Joining) -> bool:
    """Keep how the job joins; whether that is something new."""
    text = msgspec.json.encode(joining).decode()
    row = database.execute("SELECT value FROM settings WHERE name = ?", (_JOINING,)).fetchone()
    database.execute("REPLACE INTO settings VALUES (?, ?)", (_JOINING, text))
    return row is None or row[0] != text


def read_joining(database: sqlite3.Connection) -> Joining:
    """How the job joins."""
    row = database.execute("SELECT value FROM settings WHERE name = ?", (_JOINING,)).fetchone()
    return Joining() if row is None else msgspec.json.decode(row[0], type=Joining)


def _row(entry: "Entry", *, refused: bool) -> tuple[object, ...]:
    record = entry.record
    state = State.REFUSED if refused else State.HOLDS
    return (
        record.job,
        record.id,
        record.unit,
        record.piece,
        record.start_ns,
        record.end_ns,
        record.text,
        record.start_value,
        record.end_value,
        record.made_ns,
        State.WITHDRAWN if record.deleted else state,
        record.rank,
        entry.arrived_ns,
        entry.changes,
    )
