# SPDX-License-Identifier: Apache-2.0
"""What one job gets of one live source: what was recorded before, if it wants that, then the rest.

A job that begins late would else wait for weeks for what the gateway has on its disk already.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from fedmill_agent.sources.aligner import Aligned, Aligner
from fedmill_agent.sources.backfill import Backfill
from fedmill_agent.sources.live import Readings
from fedmill_agent.sources.recorder import settled
from fedmill_agent.sources.wanted import Wanted
from fedmill_agent.store.samples import SampleStore
from fedmill_shared.errors import StoreError
from fedmill_shared.log import Logger

STEP_NS = 10 * 10**9
"""Recorded time that is given at once."""
MOST_PENDING = 1 << 18
"""Values that wait at most while the last of the recording is read."""
NEARLY = 1 << 16
"""Recorded values that are so few that what comes meanwhile can wait in memory."""
_BEGINNING = -(1 << 62)
_Pending = tuple[Sequence[Readings] | None, int]  # None: the connection was lost


class Subscriber:
    """Owns the aligner of one job, and hands the job what it makes.

    While the recording is read, on a thread of its own, live readings are left to the recording;
    only for its very end they wait in memory. Each reading reaches the aligner once.

    Attributes:
        wanted: what the job wants.
        counts: what came too late, or belonged to no run.
    """

    def __init__(
        self,
        wanted: Wanted,
        aligner: Aligner,
        sink: Callable[[Aligned], bool],
        log: Logger,
        *,
        live: bool = True,
    ) -> None:
        """Live from the beginning, or once ``fill`` has given what was recorded."""
        self.wanted = wanted
        self.sink = sink
        self._aligner = aligner
        self._log = log
        self._gate = threading.Lock()
        self._live = live
        self._pending: list[_Pending] | None = None
        self._pending_values = 0
        self._newest: dict[str, int] = {}
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def counts(self) -> dict[str, int]:
        """What was left out, and why."""
        return dict(self._aligner.counts)

    def deliver(self, readings: Sequence[Readings], now_ns: int) -> None:
        """Take what the source brought."""
        with self._gate:
            if self._live:
                self._pass(event for each in readings for event in self._aligner.push(each, now_ns))
            elif self._pending is not None:
                self._wait(readings, now_ns)

    def advance(self, now_ns: int) -> None:
        """Hand over the samples that are due."""
        with self._gate:
            if self._live:
                self._pass(self._aligner.advance(now_ns))

    def lost(self, now_ns: int) -> None:
        """The connection ended."""
        with self._gate:
            if self._live:
                self._lose(now_ns)
            elif self._pending is not None:
                self._pending.append((None, now_ns))

    def fill(self, store: SampleStore, backfill: Backfill) -> None:
        """Give what ``store`` has recorded, and then what comes; for one that is not live yet.

        From before this on all that is recorded is delivered here too, or some of it is missed.
        """
        self._newest = dict.fromkeys(self._tags, backfill.since_ns - 1)
        self._thread = threading.Thread(
            target=self._fill, args=(store, backfill), name="backfill", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Hand over nothing more; never waits."""
        self._stopped.set()

    def join(self, timeout: float) -> bool:
        """Wait until no recording is read, at most ``timeout`` seconds; whether none is."""
        if self._thread is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _fill(self, store: SampleStore, backfill: Backfill) -> None:
        self._log.info("backfill.started", tags=sorted(set(self._tags)))
        given = 0
        try:
            while not self._stopped.is_set():
                settled(store)
                size = self._give(store)
                given += size
                if size > NEARLY:
                    continue
                with self._gate:
                    self._pending, self._pending_values = [], 0
                settled(store)
                given += self._give(store)
                if self._catch_up():
                    break
            if not self._stopped.is_set():
                backfill.done()
        except StoreError as error:
            self._log.error("backfill.failed", error=str(error))
            self._catch_up()
        with self._gate:
            self._live, self._pending = True, None
        self._log.info("backfill.done", values=given)

    @property
    def _tags(self) -> list[str]:
        extra = [self._aligner.run_tag] if self._aligner.run_tag else []
        return [*self.wanted.tags, *extra]

    def _give(self, store: SampleStore) -> int:
        """What the recording has beyond what was given; how many values that is.

        Raises:
            StoreError: it cannot be read.
        """
        size, step = 0, None
        since_ns = min(self._newest.get(tag, _BEGINNING) for tag in self._tags)
        # A tag that rests must not have all the others read again and again.
        since_ns = max(since_ns, max(self._newest.values(), default=_BEGINNING) - 6 * STEP_NS)
        merged = not self._aligner.run_tag  # names of parts come with each reading
        for each in store.read(set(self._tags), since_ns, step_ns=STEP_NS, merged=merged):
            if self._stopped.is_set():
                break
            fresh = self._fresh(each)
            if not len(fresh):
                continue
            number = int(fresh.times_ns[0]) // STEP_NS
            if step is not None and number != step:
                self._pass(self._aligner.advance())
            step = number
            size += len(fresh)
            self._pass(self._aligner.push(fresh))
        self._pass(self._aligner.advance())
        return size

    def _fresh(self, readings: Readings) -> Readings:
        """Those that were not given yet."""
        newest = self._newest.get(readings.tag, _BEGINNING)
        fresh = readings.times_ns > newest
        if not fresh.all():
            readings = replace(
                readings,
                times_ns=readings.times_ns[fresh],
                values=readings.values[fresh],
                quality=readings.quality[fresh],
            )
        if len(readings):
            self._newest[readings.tag] = int(readings.times_ns.max())
        return readings

    def _catch_up(self) -> bool:
        """Give what waits, and be live; False if too much came, which the recording has."""
        while not self._stopped.is_set():
            with self._gate:
                waiting = self._pending
                if waiting is None:
                    return False
                self._pending, self._pending_values = [], 0
                if not waiting:
                    self._live, self._pending = True, None
                    return True
            for readings, now_ns in waiting:
                if readings is None:
                    self._lose(now_ns)
                    continue
                for each in readings:
                    self._pass(self._aligner.push(self._fresh(each), now_ns))
                self._pass(self._aligner.advance(now_ns))
        return True

    def _wait(self, readings: Sequence[Readings], now_ns: int) -> None:
        self._pending_values += sum(map(len, readings))
        if self._pending_values > MOST_PENDING:
            self._pending = None
        elif self._pending is not None:
            self._pending.append((readings, now_ns))

    def _lose(self, now_ns: int) -> None:
        self._aligner.stale(now_ns)
        self._pass(self._aligner.advance(now_ns))

    def _pass(self, events: Iterable[Aligned]) -> None:
        for event in events:
            if self._stopped.is_set() or not self.sink(event):
                self._stopped.set()
                return
