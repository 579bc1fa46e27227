# SPDX-License-Identifier: Apache-2.0
"""Records what live sources bring, one ring of raw readings each, written once a second."""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from fedmill_agent.sources.guard import Guard
from fedmill_agent.sources.live import Readings
from fedmill_agent.store.samples import SampleStore
from fedmill_shared.clock import Clock
from fedmill_shared.errors import StoreError
from fedmill_shared.log import Logger

COMMIT_SECONDS = 1.0
REPEAT_SECONDS = 600.0
"""How often one recording's failure is told again."""

Recording = Callable[[str], SampleStore | None]
"""Opens the ring of the source with a name; None where nothing is to be recorded."""


def no_recording(_source: str) -> None:
    """Record nothing."""


@dataclass(slots=True)
class _Ring:
    store: SampleStore
    told_at: float | None = None
    set_aside: Path | None = None
    gate: threading.Lock = field(default_factory=threading.Lock)
    over: bool = False


class Recorder:
    """Owns the rings, and the thread that writes what was appended to them.

    A disk that fails costs the recording, and nothing else: it is told, and tried again.

    Attributes:
        recording: opens a ring.
    """

    def __init__(self, recording: Recording, clock: Clock, log: Logger) -> None:
        """Nothing is recorded yet."""
        self.recording = recording
        self._clock = clock
        self._log = log
        self._rings: dict[str, _Ring] = {}
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, source: str) -> None:
        """Record ``source`` from now on, if it is to be recorded."""
        if source in self._rings:
            return
        ring = self._opened(source)
        if ring is None:
            return
        # Replaced whole: other threads go through it.
        self._rings = {**self._rings, source: ring}
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="samples", daemon=True)
            self._thread.start()

    def renew(self, recording: Recording) -> None:
        """Open all rings anew, as ``recording`` says; what comes meanwhile is in the old or new."""
        self.recording = recording
        before = self._rings
        opened = {source: self._opened(source) for source in before}
        self._rings = {source: ring for source, ring in opened.items() if ring is not None}
        for source, ring in before.items():
            self._close(source, ring)

    def store(self, source: str) -> SampleStore | None:
        """The ring of ``source``; None where it is not recorded."""
        ring = self._rings.get(source)
        return None if ring is None else ring.store

    def take(self, source: str, readings: Sequence[Readings]) -> bool:
        """Have ``readings`` written with the next commit; False where nothing is recorded."""
        while (ring := self._rings.get(source)) is not None:
            with ring.gate:
                if not ring.over:
                    ring.store.append(readings)
                    return True
        return False

    def tick(self) -> None:
        """Write what waits."""
        for source, ring in self._rings.items():
            with Guard() as guard:  # one ring's fault costs no other
                ring.store.commit()
            if guard.fault is not None:
                if ring.over:
                    continue
                self._tell(source, ring, guard.fault)
            if ring.store.set_aside != ring.set_aside:
                ring.set_aside = ring.store.set_aside
                self._log.error(
                    "store.set_aside",
                    path=str(ring.set_aside),
                    remedy="raw samples in it no longer count; check the disk",
                )

    def end(self, source: str) -> None:
        """Record ``source`` no longer."""
        ring = self._rings.get(source)
        self._rings = {name: each for name, each in self._rings.items() if name != source}
        if ring is not None:
            self._close(source, ring)

    def close(self) -> None:
        """Write what waits and close the files."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
        for source in list(self._rings):
            self.end(source)

    def _opened(self, source: str) -> _Ring | None:
        try:
            store = self.recording(source)
        except StoreError as error:
            self._log.error("samples.unrecorded", source=source, error=str(error))
            return None
        return None if store is None else _Ring(store)

    def _close(self, source: str, ring: _Ring) -> None:
        with ring.gate:
            ring.over = True
        try:
            ring.store.close()
        except StoreError as error:
            self._log.error("samples.unrecorded", source=source, error=str(error))

    def _run(self) -> None:
        while not self._stopped.wait(COMMIT_SECONDS):
            self.tick()

    def _tell(self, source: str, ring: _Ring, error: Exception) -> None:
        now = self._clock.monotonic()
        if ring.told_at is None or now - ring.told_at >= REPEAT_SECONDS:
            ring.told_at = now
            self._log.error("samples.unrecorded", source=source, error=str(error))


def settled(store: SampleStore) -> None:
    """Have all that was appended be readable; where the disk fails, what is there already is."""
    with suppress(StoreError):
        store.commit()
