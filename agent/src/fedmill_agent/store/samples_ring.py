# SPDX-License-Identifier: Apache-2.0
"""What a recording of raw samples takes in and gives up, inside one transaction."""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping

from fedmill_agent.store.ring import (
    LEAST_BYTES,
    Discard,
    add_to,
    file_bytes,
    remembered,
    used_bytes,
    victims,
)
from fedmill_agent.store.samples_codec import Chunk, encode, tally
from fedmill_agent.store.space import Level
from fedmill_shared.errors import DataError

MOST_AGED = 256
"""Chunks that go for their age at one commit: a clock that is wrong for a moment wipes no store."""
MOST_GONE = 1 << 14
"""Chunks that make room at one commit, which bounds how long it takes."""
_PAGE_BYTES, _ROW_BYTES = 4096, 256
_GIVEN_BACK = 2048
_SHRINK = 16


def takes(discard: Discard, level: Level) -> bool:
    """Whether samples are taken in at all with so much space on the disk."""
    return level == "ample" or (level == "low" and discard != "newest")


def limit(database: sqlite3.Connection, max_bytes: int, discard: Discard, level: Level) -> int:
    """How many bytes may be in use after this commit."""
    if level == "ample" or discard == "newest":
        return max_bytes
    used = used_bytes(database)
    return min(max_bytes, max(used - used // _SHRINK, LEAST_BYTES))


def numbers(database: sqlite3.Connection, tags: Iterable[str]) -> dict[str, int]:
    """The number of each tag; those that have none get one."""
    found = {}
    for tag in dict.fromkeys(tags):
        row = database.execute("SELECT id FROM tags WHERE name = ?", (tag,)).fetchone()
        if row is None:
            row = database.execute(
                "INSERT INTO tags (name, samples) VALUES (?, 0) RETURNING id", (tag,)
            ).fetchone()
        found[tag] = int(row[0])
    return found


def add_chunks(
    database: sqlite3.Connection,
    chunks: Iterable[Chunk],
    most_bytes: int,
    discard: Discard,
    now_ns: int,
) -> int:
    """Store ``chunks``, the others making room or not; the number of samples that were stored."""
    stored = refused = 0
    for chunk in chunks:
        pieces, data = encode(chunk)
        size = _bytes(len(pieces) + len(data))
        if discard != "newest":
            make_room(database, most_bytes, size, discard)
        elif used_bytes(database) + size > most_bytes:
            refused += len(chunk.times_ns)
            continue
        first, last = int(chunk.times_ns.min()), int(chunk.times_ns.max())
        database.execute(
            "INSERT INTO chunks (first_ns, last_ns, stored_ns, samples, pieces, data)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (first, last, now_ns, len(chunk.times_ns), pieces, data),
        )
        if last - first > remembered(database, "widest"):
            database.execute("REPLACE INTO facts VALUES ('widest', ?)", (last - first,))
        _count(database, tally(pieces), 1)
        stored += len(chunk.times_ns)
    add_to(database, "discarded", refused)
    return stored


def make_room(database: sqlite3.Connection, most_bytes: int, coming: int, discard: Discard) -> None:
    """Discard chunks until ``coming`` bytes more fit, or as many as one commit may."""
    rows = 1
    while rows <= MOST_GONE and used_bytes(database) + coming > most_bytes:
        chosen = victims(database, "chunks", discard, rows)
        if not chosen:
            return
        _discard(database, chosen)
        rows *= 2


def discard_before(database: sqlite3.Connection, before_ns: int) -> None:
    """Discard chunks that were stored before ``before_ns``, not all at once."""
    oldest = "SELECT id, stored_ns FROM chunks ORDER BY id LIMIT ?"
    query = f"SELECT id FROM ({oldest}) WHERE stored_ns < ?"  # noqa: S608  a text of ours
    chosen = [row[0] for row in database.execute(query, (MOST_AGED, before_ns))]
    if chosen:
        _discard(database, chosen)


def give_back(database: sqlite3.Connection, max_bytes: int, level: Level) -> None:
    """Make the file shorter, outside a transaction, if the disk lacks space or it is too long."""
    spare = file_bytes(database) - used_bytes(database)
    if spare > LEAST_BYTES and (level != "ample" or file_bytes(database) > max_bytes):
        # ``execute`` would stop after the first of its steps.
        database.executescript(f"PRAGMA incremental_vacuum({_GIVEN_BACK})")


def _discard(database: sqlite3.Connection, chosen: list[int]) -> None:
    """Delete chunks, and count them out."""
    those = "WHERE id IN (SELECT value FROM json_each(?))"
    samples = 0
    gone = Counter[int]()
    # A damaged row may hold anything.
    sound = "ifnull(CAST(samples AS INTEGER), 0), ifnull(CAST(pieces AS BLOB), x'')"
    query = f"SELECT {sound} FROM chunks {those}"  # noqa: S608  texts of ours
    for count, pieces in database.execute(query, (str(chosen),)):
        samples += count
        try:
            gone.update(tally(pieces))
        except DataError:  # the counts by tag are too high from now on; the sum is right
            continue
    database.execute(f"DELETE FROM chunks {those}", (str(chosen),))  # noqa: S608  a text of ours
    _count(database, gone, -1)
    database.executemany(
        "DELETE FROM tags WHERE id = ? AND samples <= 0", ((number,) for number in gone)
    )
    add_to(database, "discarded", samples)


def _count(database: sqlite3.Connection, counts: Mapping[int, int], sign: int) -> None:
    database.executemany(
        "UPDATE tags SET samples = samples + ? WHERE id = ?",
        [(sign * count, number) for number, count in counts.items()],
    )


def _bytes(size: int) -> int:
    """Bytes on disk of a chunk of ``size``, estimated high."""
    return (
        -(-(size + _ROW_BYTES) // (_PAGE_BYTES - 4)) * _PAGE_BYTES
        if size > 1000
        else (size + _ROW_BYTES)
    )
