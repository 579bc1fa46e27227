# SPDX-License-Identifier: Apache-2.0
"""Which rows of a table make room for others: its oldest, every second old one, or the newest.

Tables have a column ``id`` that grows with every row. Nothing is deleted here: the callers know
what hangs on a row.
"""

import sqlite3
from typing import Literal

Discard = Literal["oldest", "thin", "newest"]
"""What is given up where there is no more room: see `victims`."""
Table = Literal["windows", "predictions", "chunks"]

LEAST_BYTES = 1_000_000
"""What a store may keep however little space the disk has."""
_LEAST_BATCH = 16
_ORDER: dict[Table, str] = {
    "windows": "split, run, end_ns",
    "predictions": "run, end_ns",
    "chunks": "stored_ns",
}


def victims(database: sqlite3.Connection, table: Table, discard: Discard, rows: int) -> list[int]:
    """About ``rows`` rows to give up, by their id; fewer only where there are fewer.

    ``oldest`` and ``newest`` name the first and the last. ``thin`` names every second row of the
    older half, a stretch at each call; once it has come to the middle it begins at the oldest
    again. So what is old becomes sparse, evenly over runs and time, and what is new stays whole.
    """
    if rows < 1:
        return []
    if discard == "thin" and (found := _every_second(database, table, rows)):
        return found
    order = "DESC" if discard == "newest" else "ASC"
    query = f"SELECT id FROM {table} ORDER BY id {order} LIMIT ?"  # noqa: S608  names of ours
    return [row[0] for row in database.execute(query, (rows,))]


def remembered(database: sqlite3.Connection, name: str) -> int:
    """A number that the file remembers, 0 if there is none."""
    row = database.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return 0 if row is None else int(row[0])


def add_to(database: sqlite3.Connection, name: str, more: int) -> None:
    """Add to a number that the file remembers."""
    if more:
        database.execute(
            "INSERT INTO facts VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
            (name, more),
        )


def used_bytes(database: sqlite3.Connection) -> int:
    """Bytes of the pages that hold something."""
    return (_pragma(database, "page_count") - _pragma(database, "freelist_count")) * _pragma(
        database, "page_size"
    )


def file_bytes(database: sqlite3.Connection) -> int:
    """Bytes of all pages: what the file takes, apart from its log."""
    return _pragma(database, "page_count") * _pragma(database, "page_size")


def _pragma(database: sqlite3.Connection, name: str) -> int:
    return int(database.execute(f"PRAGMA {name}").fetchone()[0])


def _every_second(database: sqlite3.Connection, table: Table, rows: int) -> list[int]:
    """Every second row of the next stretch of the older half; none where that has no two rows."""
    place, end, turn = (
        remembered(database, f"thin {table} {what}") for what in ("at", "end", "turn")
    )
    for begins in (place >= end, True):
        if begins:
            place, end = 0, _middle(database, table)
        stretch = _stretch(database, table, place, end, max(_LEAST_BATCH, 2 * rows))
        # Runs that take turns would otherwise lose all rows or none.
        chosen = stretch[(turn + 1) % 2 :: 2]
        place = max(stretch, default=end - 1) + 1
        turn += 1
        if chosen:
            break
    for what, value in (("at", place), ("end", end), ("turn", turn)):
        database.execute("REPLACE INTO facts VALUES (?, ?)", (f"thin {table} {what}", value))
    return chosen


def _stretch(
    database: sqlite3.Connection, table: Table, place: int, end: int, rows: int
) -> list[int]:
    """Ids of the next rows, by run and time."""
    query = (
        f"SELECT id FROM (SELECT id, {_ORDER[table]} FROM {table}"  # noqa: S608  names of ours
        f" WHERE id >= ? AND id < ? ORDER BY id LIMIT ?) ORDER BY {_ORDER[table]}"
    )
    return [row[0] for row in database.execute(query, (place, end, rows))]


def _middle(database: sqlite3.Connection, table: Table) -> int:
    """The id that as many rows come before as after."""
    count = database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608  names of ours
    query = f"SELECT id FROM {table} ORDER BY id LIMIT 1 OFFSET ?"  # noqa: S608  names of ours
    row = database.execute(query, (count // 2,)).fetchone()
    return 0 if row is None else int(row[0])
