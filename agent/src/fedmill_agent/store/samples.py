# SPDX-License-Identifier: Apache-2.0
"""Recording the raw samples of one live source, bounded in bytes and age: one transaction a second.

``append`` takes readings into memory, ``commit`` writes all of them at once. Only what a ``commit``
that returned has counted is safe; it is then safe from a killed process and from a power cut.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fedmill_agent.config import StoreSection
from fedmill_agent.places import samples_file
from fedmill_agent.sources.live import Readings
from fedmill_agent.store import samples_ring as ring
from fedmill_agent.store.database import Result, Work, fault, is_damaged, put_aside, transact
from fedmill_agent.store.ring import Discard, add_to
from fedmill_agent.store.samples_chunks import chunks_of
from fedmill_agent.store.samples_file import open_writer
from fedmill_agent.store.samples_reader import SampleReader
from fedmill_agent.store.space import Level, ample
from fedmill_shared.clock import Clock
from fedmill_shared.errors import DataError, StoreError
from fedmill_shared.files import make_folder

BUFFER_BYTES = 4 << 20
"""What is not yet written at most; at 12 kHz that is 19 s."""
UPKEEP_SECONDS = 60.0
"""How often age is looked at while nothing comes."""
_SAMPLE_BYTES, _BATCH_BYTES = 18, 500


@dataclass(frozen=True, slots=True)
class Keep:
    """How much a recording keeps.

    Attributes:
        max_bytes: of the file, to which up to 4 MB of log come.
        max_age_seconds: since a sample was stored, not since it was measured.
        discard: what makes room: the oldest seconds, every second second of the older half, or
            nothing, and what comes is refused.
        level: how much space the disk has. Once it is low the recording gives back a sixteenth of
            itself at each commit, or refuses what comes with ``newest``; once it is scarce it
            takes nothing.
    """

    max_bytes: int
    max_age_seconds: float
    discard: Discard = "oldest"
    level: Callable[[], Level] = ample


def recording(
    store: StoreSection, state: str, source: str, clock: Clock, level: Callable[[], Level] = ample
) -> "SampleStore | None":
    """The recording of a live source as the configuration wants it; None if it wants none.

    Raises:
        StoreError: its file cannot be opened.
    """
    if not store.samples_max_bytes:
        return None
    keep = Keep(store.samples_max_bytes, store.samples_max_age_days * 86400.0, store.discard, level)
    return SampleStore(samples_file(state, source), keep, clock)


class SampleStore(SampleReader):
    """Owns the file of one source's raw samples, and what is not yet written; threads may share it.

    A damaged file is set aside and a fresh one is started; ``set_aside`` then names the damaged
    one. ``acknowledged`` counts the samples that this object has written.
    """

    def __init__(
        self, path: Path, keep: Keep, clock: Clock, *, buffer_bytes: int = BUFFER_BYTES
    ) -> None:
        self._clock = clock
        self._keep = keep
        self._buffer_bytes = buffer_bytes
        self._gate = threading.Lock()
        self._buffer: list[Readings] = []
        self._buffered = 0
        self._lost = 0
        self._distrusted = False
        self._upkeep_due = 0.0
        self.set_aside: Path | None = None
        self.acknowledged = 0
        make_folder(path.parent)
        super().__init__(path, self._open(path))

    @property
    def pending(self) -> int:
        """Samples that wait for the next ``commit``."""
        with self._gate:
            return sum(len(each) for each in self._buffer)

    @property
    def discarded(self) -> int:
        """Samples that were discarded or refused to stay within bytes, age, disk and memory."""
        return super().discarded + self._lost

    def append(self, batches: Iterable[Readings]) -> None:
        """Take readings into memory; their arrays must not change any more.

        They are written at once where too many wait, so a fast source waits for the disk. Where
        the disk fails, and memory is full, the oldest go, or with ``newest`` those that come.

        Raises:
            DataError: times, values and quality of one are not of the same number.
        """
        for each in batches:
            if not len(each.times_ns) == len(each.values) == len(each.quality):
                raise DataError(
                    f"tag {each.tag!r}: {len(each.times_ns)} times, {len(each.values)} values and "
                    f"{len(each.quality)} qualities in one reading"
                )
            if len(each) and not self._admit(each):
                try:
                    self.commit()
                except StoreError:  # the owner's own commit will say so
                    self._squeeze()
                if not self._admit(each):
                    self._lose([each])

    def commit(self) -> int:
        """Write what waits in one transaction; the number of samples that are safe now.

        Samples that are refused, because the store or the disk is full, are counted as discarded.

        Raises:
            StoreError: nothing was written; it all waits for the next time.
        """
        with self._lock:
            with self._gate:
                batches, self._buffer, self._buffered = self._buffer, [], 0
            now = self._clock.monotonic()
            if not batches and now < self._upkeep_due and self._keep.level() == "ample":
                return 0
            lost = self._lost
            try:
                number = self._write(lambda database: self._store(database, batches, lost))
            except StoreError:
                with self._gate:
                    self._buffer[:0] = batches
                    self._buffered = sum(map(_size, self._buffer))
                raise
            except Exception:
                self._lose(batches)  # what can never be written is not tried for ever
                raise
            self._upkeep_due = now + UPKEEP_SECONDS
            self._lost -= lost
            self.acknowledged += number
            self._give_back()
            return number

    def close(self) -> None:
        """Write what waits and close the file.

        Raises:
            StoreError: it could not be written.
        """
        try:
            self.commit()
        finally:
            super().close()

    def _admit(self, batch: Readings) -> bool:
        """Have ``batch`` wait if there is room, or nothing else waits."""
        with self._gate:
            if self._buffer and self._buffered + _size(batch) > self._buffer_bytes:
                return False
            self._buffer.append(batch)
            self._buffered += _size(batch)
            return True

    def _squeeze(self) -> None:
        """Make room in memory, unless what comes is to go."""
        if self._keep.discard == "newest":
            return
        with self._gate:
            number, freed = 0, 0
            while number < len(self._buffer) and freed < self._buffer_bytes // 8:
                freed += _size(self._buffer[number])
                number += 1
            gone, self._buffer = self._buffer[:number], self._buffer[number:]
            self._buffered -= freed
        self._lose(gone)

    def _lose(self, batches: Sequence[Readings]) -> None:
        with self._lock:
            self._lost += sum(len(each) for each in batches)

    def _store(self, database: sqlite3.Connection, batches: list[Readings], lost: int) -> int:
        """Write ``batches`` and give up what must go; the number of samples that were written."""
        keep, now_ns, level = self._keep, self._clock.now_ns(), self._keep.level()
        ring.discard_before(database, now_ns - round(keep.max_age_seconds * 1e9))
        most = ring.limit(database, keep.max_bytes, keep.discard, level)
        if keep.discard != "newest":
            ring.make_room(database, most, 0, keep.discard)
        if not ring.takes(keep.discard, level):
            lost += sum(len(each) for each in batches)
            batches = []
        add_to(database, "discarded", lost)
        if not batches:
            return 0
        numbers = ring.numbers(database, (each.tag for each in batches))
        chunks = chunks_of(batches, numbers)
        return ring.add_chunks(database, chunks, most, keep.discard, now_ns)

    def _give_back(self) -> None:
        """Shorten the file if it should be; what fails here is tried at the next commit."""
        with suppress(sqlite3.DatabaseError):
            ring.give_back(self._database, self._keep.max_bytes, self._keep.level())

    def _open(self, path: Path) -> sqlite3.Connection:
        try:
            try:
                return open_writer(path)
            except sqlite3.DatabaseError as error:
                if not is_damaged(error):
                    raise
                self.set_aside = put_aside(path, self._clock.now_ns())
                return open_writer(path)
        except sqlite3.DatabaseError as error:
            raise fault(path, error) from error

    def _distrust(self) -> None:
        self._distrusted = True

    def _write(self, work: Work[Result]) -> Result:
        if not self._distrusted:
            try:
                return transact(self._database, work)
            except sqlite3.DatabaseError as error:
                if not is_damaged(error):
                    raise fault(self._path, error) from error
        self._distrusted = True
        self._database.close()
        if self._path.exists():
            self.set_aside = put_aside(self._path, self._clock.now_ns())
        self._database = self._open(self._path)
        self._distrusted = False
        try:
            return transact(self._database, work)
        except sqlite3.DatabaseError as error:
            raise fault(self._path, error) from error


def _size(batch: Readings) -> int:
    return _BATCH_BYTES + len(batch) * _SAMPLE_BYTES
