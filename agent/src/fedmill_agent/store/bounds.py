# SPDX-License-Identifier: Apache-2.0
"""What is given up so that the window store stays within its bytes and age: the oldest first."""

import sqlite3
from collections.abc import Iterable

from fedmill_agent.store.splits import SPLITS, StoredSplit


def make_room(database: sqlite3.Connection, max_bytes: int, coming: int, row_bytes: int) -> None:
    """Discard windows of about ``row_bytes`` until ``coming`` bytes more fit in ``max_bytes``."""
    while (excess := _used_bytes(database) + coming - max_bytes) > 0:
        last = database.execute(
            "SELECT max(id) FROM (SELECT id FROM windows ORDER BY id LIMIT ?)",
            (-(-excess // row_bytes),),
        ).fetchone()[0]
        if last is None:
            return
        _discard_windows(database, last)


def discard_before(database: sqlite3.Connection, before_ns: int) -> None:
    """Discard windows that were stored before ``before_ns``."""
    fresh = _first_since(database, "SELECT id FROM windows WHERE stored_ns >= ?", before_ns)
    _discard_windows(database, fresh - 1)


def discard_labels(database: sqlite3.Connection, rows: int, before_ns: int) -> None:
    """Keep the last ``rows`` labels; older than ``before_ns`` only those of runs with windows."""
    number = database.execute(
        "DELETE FROM labels WHERE id <= (SELECT max(id) FROM labels) - ?", (rows,)
    ).rowcount
    fresh = _first_since(database, "SELECT id FROM labels WHERE arrived_ns >= ?", before_ns)
    database.execute(
        "DELETE FROM labels WHERE id < ? AND run NOT IN (SELECT run FROM windows)", (fresh,)
    )
    if number:
        advance(database, SPLITS)


def discard_predictions(database: sqlite3.Connection, rows: int) -> None:
    """Keep the last ``rows`` predictions."""
    database.execute(
        "DELETE FROM predictions WHERE id <= (SELECT max(id) FROM predictions) - ?", (rows,)
    )


def discard_units(database: sqlite3.Connection, rows: int) -> None:
    """Keep the last ``rows`` decisions about units, and all about units that have windows."""
    database.execute(
        "DELETE FROM units WHERE id <= (SELECT max(id) FROM units) - ?"
        " AND name NOT IN (SELECT run FROM windows) AND name NOT IN (SELECT unit FROM windows)",
        (rows,),
    )


def advance(database: sqlite3.Connection, splits: Iterable[StoredSplit]) -> None:
    """Tell readers that ``splits`` changed."""
    database.executemany(
        "UPDATE facts SET value = value + 1 WHERE name = ?",
        [(f"generation {split}",) for split in splits],
    )


def _discard_windows(database: sqlite3.Connection, last: int) -> None:
    """Delete all windows up to number ``last``, counted."""
    splits = {
        row[0] for row in database.execute("SELECT split FROM windows WHERE id <= ?", (last,))
    }
    if not splits:
        return
    number = database.execute("DELETE FROM windows WHERE id <= ?", (last,)).rowcount
    database.execute(
        "INSERT INTO facts VALUES ('discarded', ?)"
        " ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
        (number,),
    )
    advance(database, splits)


def _first_since(database: sqlite3.Connection, query: str, since_ns: int) -> int:
    """Number of the first row since ``since_ns``; rows stand in the order of their arrival."""
    row = database.execute(f"{query} ORDER BY id LIMIT 1", (since_ns,)).fetchone()
    return 1 << 62 if row is None else int(row[0])


def _used_bytes(database: sqlite3.Connection) -> int:
    pages, free, size = (
        int(database.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size
