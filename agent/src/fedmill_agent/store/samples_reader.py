# SPDX-License-Identifier: Apache-2.0
"""Reading raw samples that were recorded, also while another process records more."""

import sqlite3
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple, Self

from fedmill_agent.sources.live import Readings
from fedmill_agent.store.database import Result, Work, fault, is_damaged, transact
from fedmill_agent.store.ring import remembered, used_bytes
from fedmill_agent.store.samples_chunks import Sorter
from fedmill_agent.store.samples_codec import MOST_SAMPLES, Chunk, decode
from fedmill_agent.store.samples_file import open_reader
from fedmill_shared.errors import DataError

STEP_NS = 10**9
"""Source time by which one tag may be ahead of the others in what ``read`` gives."""
_PAGE_ROWS = 256
_ALL_TIME = (-(1 << 63), (1 << 63) - 1)


class Recorded(NamedTuple):
    """What a recording holds: samples of each tag, its bytes on disk, and what it gave up, ever."""

    counts: dict[str, int]
    bytes: int
    discarded: int


class SampleReader:
    """Owns a connection to the raw samples of one source; threads may share it.

    Every method raises StoreError if the file cannot be read.
    """

    def __init__(self, path: Path, database: sqlite3.Connection | None = None) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._database = database or open_reader(path)
        self.damaged = 0
        """Chunks that were met while reading and left out, because their checksum differed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def recorded(self) -> Recorded:
        """What is there, in one state of it."""
        return self._look(_recorded)

    def counts(self) -> dict[str, int]:
        """Samples that are stored, by tag."""
        return self.recorded().counts

    def span(self) -> tuple[int, int] | None:
        """Source times of the first and the last sample, ns UTC; None where there is none."""
        return self._look(_span)

    @property
    def discarded(self) -> int:
        """Samples that were discarded or refused to stay within bytes, age and disk, ever."""
        return self._look(lambda database: remembered(database, "discarded"))

    def read(
        self,
        tags: Collection[str] | None = None,
        since_ns: int = _ALL_TIME[0],
        until_ns: int = _ALL_TIME[1],
        *,
        step_ns: int = STEP_NS,
        merged: bool = False,
    ) -> Iterator[Readings]:
        """Committed samples of ``tags`` (None: of all) from ``since_ns`` to before ``until_ns``.

        They come in the order of source time: those of one tag never go back, whatever order they
        arrived in, and no tag is more than ``step_ns`` ahead of another. What has the same source
        time comes in the order of arrival, also if it is the same value twice. Samples are given
        as they came together, or with ``merged`` all of a tag and step at once, which is faster
        and names the last arrival alone.

        Memory is bounded, about 50 MB at worst: where a device scatters its times so much that more
        than 262,144 samples would have to wait for their turn, some come out of order. The file may
        be written meanwhile; each page of chunks is read as it is then.

        Raises:
            StoreError: the file cannot be read (further).
        """
        database = open_reader(self._path)
        try:
            yield from self._read(database, tags, (since_ns, until_ns), step_ns, merged=merged)
        except sqlite3.DatabaseError as error:
            if is_damaged(error):
                self._distrust()
            raise fault(self._path, error) from error
        finally:
            database.close()

    def _read(
        self,
        database: sqlite3.Connection,
        tags: Collection[str] | None,
        during: tuple[int, int],
        step_ns: int,
        *,
        merged: bool,
    ) -> Iterator[Readings]:
        names = dict(database.execute("SELECT id, name FROM tags"))
        if tags is not None:
            names = {number: name for number, name in names.items() if name in tags}
        sorter = Sorter(names, step_ns, merged=merged)
        widest = remembered(database, "widest")
        place = max(during[0] - widest, _ALL_TIME[0]), 0
        while rows := _page(database, place, during):
            place = rows[-1][1], rows[-1][0]
            sorter.take(self._decoded(rows), *during)
            yield from sorter.due(place[0])
        yield from sorter.rest()

    def _decoded(self, rows: list[tuple[int, int, bytes, bytes]]) -> Iterator[Chunk]:
        for _, _, pieces, data in rows:
            try:
                yield decode(pieces, data)
            except DataError:
                self.damaged += 1

    def _distrust(self) -> None:
        """The file was found damaged while it was read."""

    def _look(self, work: Work[Result]) -> Result:
        with self._lock:
            try:
                return transact(self._database, work, "BEGIN")
            except sqlite3.DatabaseError as error:
                if is_damaged(error):
                    self._distrust()
                raise fault(self._path, error) from error


def _page(
    database: sqlite3.Connection, place: tuple[int, int], during: tuple[int, int]
) -> list[tuple[int, int, bytes, bytes]]:
    """Chunks that begin after ``place``, by first time and number; few enough for the memory."""
    found = []
    samples = 0
    cursor = database.execute(
        "SELECT id, first_ns, ifnull(CAST(pieces AS BLOB), x''), ifnull(CAST(data AS BLOB), x''),"
        " ifnull(CAST(samples AS INTEGER), 0) FROM chunks"
        " WHERE (first_ns, id) > (?, ?) AND first_ns < ? AND last_ns >= ?"
        " ORDER BY first_ns, id LIMIT ?",
        (*place, during[1], during[0], _PAGE_ROWS),
    )
    for number, first_ns, pieces, data, count in cursor:
        found.append((number, first_ns, pieces, data))
        samples += count
        if samples >= MOST_SAMPLES:
            break
    cursor.close()
    return found


def _recorded(database: sqlite3.Connection) -> Recorded:
    query = "SELECT name, samples FROM tags WHERE samples > 0 ORDER BY name"
    return Recorded(
        dict(database.execute(query)), used_bytes(database), remembered(database, "discarded")
    )


def _span(database: sqlite3.Connection) -> tuple[int, int] | None:
    first, last = database.execute("SELECT min(first_ns), max(first_ns) FROM chunks").fetchone()
    if first is None:
        return None
    # The last sample is in one of the chunks that begin shortly before the last one.
    begin = max(last - remembered(database, "widest"), _ALL_TIME[0])
    query = "SELECT max(last_ns) FROM chunks WHERE first_ns >= ?"
    return first, database.execute(query, (begin,)).fetchone()[0]
