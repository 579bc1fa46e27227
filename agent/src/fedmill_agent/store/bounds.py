# SPDX-License-Identifier: Apache-2.0
"""What is given up so that the window store stays within its bytes and age."""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fedmill_agent.config import StoreSection
from fedmill_agent.store import cursors
from fedmill_agent.store.ring import (
    LEAST_BYTES,
    Discard,
    add_to,
    file_bytes,
    remembered,
    used_bytes,
    victims,
)
from fedmill_agent.store.space import Level, ample
from fedmill_agent.store.splits import SPLITS, StoredSplit
from fedmill_shared.signals.windows import Window


@dataclass(frozen=True, slots=True)
class Rules:
    """How a window store gives things up.

    Attributes:
        discard: what makes room, windows as well as predictions; labels go by age and number.
        predictions_max_bytes: room for predictions; 0 for an eighth of that of the file.
        predictions_max_age_seconds: age at which a prediction is discarded.
        level: how much space the disk has. Predictions take no more of it once it is low, windows
            once it is scarce: from then on each new one takes the place of another.
    """

    discard: Discard = "oldest"
    predictions_max_bytes: int = 0
    predictions_max_age_seconds: float = float("inf")
    level: Callable[[], Level] = ample


def rules_of(limits: StoreSection, level: Callable[[], Level]) -> Rules:
    """The rules that a configuration gives."""
    return Rules(
        discard=limits.discard,
        predictions_max_bytes=limits.predictions_max_bytes,
        predictions_max_age_seconds=limits.predictions_max_age_days * 86400.0,
        level=level,
    )


def limit(database: sqlite3.Connection, max_bytes: int, rules: Rules) -> int:
    """How many bytes the file may have after what comes now."""
    if rules.level() != "scarce":
        return max_bytes
    return min(max_bytes, max(file_bytes(database), LEAST_BYTES))


def make_room(
    database: sqlite3.Connection, max_bytes: int, coming: int, row_bytes: int, rules: Rules
) -> None:
    """Discard windows of about ``row_bytes`` until ``coming`` bytes more fit in ``max_bytes``."""
    while (excess := used_bytes(database) + coming - max_bytes) > 0:
        chosen = victims(database, "windows", rules.discard, -(-excess // row_bytes))
        if not chosen:
            return
        _discard_windows(database, chosen)


def admitted(
    database: sqlite3.Connection, windows: list[Window], max_bytes: int, row_bytes: int
) -> list[Window]:
    """Those of ``windows`` that are new and fit in ``max_bytes``; others that are new count."""
    query = "SELECT 1 FROM windows WHERE run = ? AND end_ns = ? AND start_ns = ?"
    fresh = [
        each
        for each in windows
        if database.execute(query, (each.run, each.end_ns, each.start_ns)).fetchone() is None
    ]
    room = max(0, max_bytes - used_bytes(database)) // row_bytes
    add_to(database, "discarded", len(fresh[room:]))
    return fresh[:room]


def discard_before(database: sqlite3.Connection, before_ns: int) -> None:
    """Discard windows that were stored before ``before_ns``."""
    fresh = _first_since(database, "SELECT id FROM windows WHERE stored_ns >= ?", before_ns)
    old = database.execute("SELECT id FROM windows WHERE id < ?", (fresh,)).fetchall()
    if old:
        _discard_windows(database, [row[0] for row in old])


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


def last_prediction(database: sqlite3.Connection) -> int:
    """Number of the newest prediction, 0 if there is none."""
    return int(database.execute("SELECT ifnull(max(id), 0) FROM predictions").fetchone()[0])


def hold_predictions(
    database: sqlite3.Connection, rules: Rules, *, most: int, last: int, row_bytes: int, now_ns: int
) -> None:
    """Keep ``most`` predictions of about ``row_bytes``; those behind ``last`` have just come."""
    counted = remembered(database, "predictions last") == last
    new = last_prediction(database) - last
    if counted:
        count = remembered(database, "predictions") + new
    else:  # another version wrote here
        count = int(database.execute("SELECT count(*) FROM predictions").fetchone()[0])
    if rules.predictions_max_age_seconds < float("inf"):
        before_ns = now_ns - round(rules.predictions_max_age_seconds * 1e9)
        fresh = _first_since(database, "SELECT id FROM predictions WHERE scored_ns >= ?", before_ns)
        cursors.lose_before(database, "predictions", fresh)
        count -= database.execute("DELETE FROM predictions WHERE id < ?", (fresh,)).rowcount
    if rules.level() != "ample":
        most = min(most, max(count - new, LEAST_BYTES // 8 // row_bytes))
    while count > most:
        chosen = victims(database, "predictions", rules.discard, count - most)
        cursors.lose_rows(database, "predictions", chosen)
        _delete(database, "predictions", chosen)
        count -= len(chosen)
    cursors.settle(database, "predictions")
    for name, value in (
        ("predictions", count),
        ("predictions last", last_prediction(database)),
    ):
        database.execute("REPLACE INTO facts VALUES (?, ?)", (name, value))


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


def _discard_windows(database: sqlite3.Connection, chosen: Sequence[int]) -> None:
    """Delete windows, counted, and tell readers of their splits."""
    query = "SELECT DISTINCT split FROM windows WHERE id IN (SELECT value FROM json_each(?))"
    splits = [row[0] for row in database.execute(query, (str(list(chosen)),))]
    _delete(database, "windows", chosen)
    add_to(database, "discarded", len(chosen))
    advance(database, splits)


def _delete(database: sqlite3.Connection, table: str, chosen: Sequence[int]) -> None:
    query = f"DELETE FROM {table} WHERE id IN (SELECT value FROM json_each(?))"  # noqa: S608  ours
    database.execute(query, (str(list(chosen)),))


def _first_since(database: sqlite3.Connection, query: str, since_ns: int) -> int:
    """Number of the first row since ``since_ns``; rows stand in the order of their arrival."""
    row = database.execute(f"{query} ORDER BY id LIMIT 1", (since_ns,)).fetchone()
    return 1 << 62 if row is None else int(row[0])
