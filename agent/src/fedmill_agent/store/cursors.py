# SPDX-License-Identifier: Apache-2.0
"""How far a table has been published: the id of the last row that others have, kept in the file.

There is a place only while a table is published. Rows behind it that the store's own bounds give
up are counted: nobody outside will ever hear of them.
"""

import sqlite3
from collections.abc import Sequence
from typing import Literal

from fedmill_agent.store.ring import add_to, remembered

Published = Literal["predictions", "alarms"]
"""Tables that are told to other systems."""


def place(database: sqlite3.Connection, table: Published) -> int | None:
    """The id of the last row that was published; None where the table is not."""
    row = database.execute("SELECT value FROM facts WHERE name = ?", (_name(table),)).fetchone()
    return None if row is None else int(row[0])


def standing(database: sqlite3.Connection, table: Published) -> tuple[int | None, int]:
    """Its place, and how many rows nobody will hear of, ever."""
    return place(database, table), remembered(database, _lost(table))


def begin(database: sqlite3.Connection, table: Published, *, everything: bool) -> None:
    """Publish what comes from now on, or ``everything`` there is, if it is not published yet."""
    start = 0 if everything else last_row(database, table)
    database.execute("INSERT OR IGNORE INTO facts VALUES (?, ?)", (_name(table), start))


def end(database: sqlite3.Connection, table: Published) -> None:
    """Publish it no more, and forget how far it came."""
    database.execute("DELETE FROM facts WHERE name = ?", (_name(table),))


def move(database: sqlite3.Connection, table: Published, to: int) -> None:
    """All up to the row with the id ``to`` has been published, or given up.

    It may have been deleted meanwhile: then its number is given again, and that row is not told.
    """
    within = min(to, last_row(database, table))
    database.execute(
        "UPDATE facts SET value = max(value, ?) WHERE name = ?", (within, _name(table))
    )


def lose(database: sqlite3.Connection, table: Published, number: int) -> None:
    """Count ``number`` rows more."""
    add_to(database, _lost(table), number)


def lose_rows(database: sqlite3.Connection, table: Published, chosen: Sequence[int]) -> None:
    """Count those of the rows ``chosen``, which are about to be deleted, that nobody has yet."""
    since = place(database, table)
    if since is not None:
        lose(database, table, sum(each > since for each in chosen))


def lose_before(database: sqlite3.Connection, table: Published, before: int) -> None:
    """The same of all rows whose id is smaller than ``before``."""
    since = place(database, table)
    if since is not None:
        query = f"SELECT count(*) FROM {table} WHERE id > ? AND id < ?"  # noqa: S608  names of ours
        lose(database, table, int(database.execute(query, (since, before)).fetchone()[0]))


def settle(database: sqlite3.Connection, table: Published) -> None:
    """After rows were deleted: ids of deleted rows may be given again, and are not passed over."""
    database.execute(
        "UPDATE facts SET value = min(value, ?) WHERE name = ?",
        (last_row(database, table), _name(table)),
    )


def last_row(database: sqlite3.Connection, table: Published) -> int:
    """The largest id, 0 where there is no row."""
    query = f"SELECT ifnull(max(id), 0) FROM {table}"  # noqa: S608  names of ours
    return int(database.execute(query).fetchone()[0])


def _name(table: Published) -> str:
    return f"published {table}"


def _lost(table: Published) -> str:
    return f"unpublished {table}"
