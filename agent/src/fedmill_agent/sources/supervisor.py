# SPDX-License-Identifier: Apache-2.0
"""Keeps one live source alive: opens it, notices that it broke or fell silent, opens it again."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fedmill_agent.sources.live import Delivered, Live, LiveOptions, Readings, Session
from fedmill_agent.sources.standing import Standing, Tally
from fedmill_shared.clock import Clock
from fedmill_shared.errors import ConfigError, FedmillError, SourceError
from fedmill_shared.link.backoff import Backoff
from fedmill_shared.log import Logger

READ_SECONDS = 0.25
PROBE_SECONDS = 10.0
"""Time in which a good value must come where ``startup`` is ``probe``."""
REPEAT_SECONDS = 600.0
"""How often one and the same error is told again."""
JUMP_NS = 60 * 10**9
JUMP_READINGS = 5
"""A clock was set if as many batches in a row are that far ahead of where it was before."""

FAULTS = (
    FedmillError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    EOFError,
)
"""What libraries for other people's protocols raise; one source's fault ends no other's data."""


@dataclass(frozen=True, slots=True)
class Listener:
    """What a supervisor tells, always on its own thread.

    Attributes:
        deliver: what came.
        advance: a read is done, at this wall clock (ns UTC); samples may be due.
        lost: the connection ended, at this wall clock.
        failed: it could not be opened, and the agent is to end with this error.
    """

    deliver: Callable[[Sequence[Delivered]], None]
    advance: Callable[[int], None]
    lost: Callable[[int], None]
    failed: Callable[[FedmillError], None]


class Supervisor:
    """Owns the thread of one live source.

    It begins with the first tags that are to be watched. Until it has worked once, ``startup`` says
    what a failure means; after that it is always tried again, with back-off and jitter.
    """

    def __init__(
        self,
        live: Live,
        options: LiveOptions,
        listener: Listener,
        *,
        clock: Clock,
        log: Logger,
        backoff: Backoff | None = None,
    ) -> None:
        """Prepare; ``start`` begins."""
        self._live = live
        self._options = options
        self._listener = listener
        self._clock = clock
        self._log = log.bind(source=options.name)
        self._backoff = backoff or Backoff()
        self._tags: tuple[str, ...] = ()
        self._changed = threading.Event()
        self._stopped = threading.Event()
        self._tally = Tally()
        self._told: tuple[str, float] = ("", 0.0)
        self._ahead = 0
        self._offset_ns = 0
        self._opened_ns = 0
        self._seen: set[str] = set()
        self._begun = False
        self._thread = threading.Thread(target=self._run, name=f"source-{options.name}")
        self._thread.daemon = True

    @property
    def standing(self) -> Standing:
        """How it is."""
        return self._tally.standing()

    def watch(self, tags: Sequence[str]) -> None:
        """Read these tags from now on: the connection is made anew if they are others."""
        wanted = tuple(tags)
        if wanted == self._tags:
            return
        self._tags = wanted
        self._changed.set()
        if not self._begun:
            self._begun = True
            self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stopped.set()
        self._changed.set()

    def join(self, timeout: float) -> None:
        """Wait until the thread has ended, at most ``timeout`` seconds."""
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._changed.clear()
            begun = self._clock.monotonic()
            try:
                self._serve()
            except FAULTS as fault:
                if not self._goes_on(fault):
                    return
                lasted = self._clock.monotonic() - begun if self._tally.phase == "running" else 0.0
                if self._tally.phase != "silent":
                    self._tally.phase = "waiting"
                self._changed.wait(self._backoff.wait(lasted))
        self._tally.phase = "stopped"

    def _serve(self) -> None:
        """Read one connection until it breaks or others are wanted.

        Raises:
            FedmillError: or another of ``FAULTS``: it broke.
        """
        session = self._live.open(self._options, self._tags, self._clock)
        self._seen, self._opened_ns = set(), self._clock.now_ns()
        try:
            self._tally.opened(session.counts, session.problems)
            self._read(session)
        finally:
            session.close()
            self._tally.closed()
            self._listener.lost(self._clock.now_ns())

    def _read(self, session: Session) -> None:
        heard = self._clock.monotonic()
        while not self._changed.is_set():
            delivered = session.read(READ_SECONDS)
            self._tally.problems = session.problems
            now = self._clock.monotonic()
            kept = [each for each in map(self._timed, delivered) if each is not None]
            if self._tally.take([each for each in kept if isinstance(each, Readings)]):
                heard = now
                self._recover()
            if kept:
                self._listener.deliver(kept)
            self._listener.advance(self._clock.now_ns())
            if self._options.startup == "probe" and self._new and now - heard > PROBE_SECONDS:
                raise self._silent("answers, and no good value came", "check its tags")
            if 0 < self._options.silence_seconds < now - heard:
                self._tally.phase = "silent"
                self._tally.dropped["silence"] += 1
                told = f"no good value for {self._options.silence_seconds:g} s"
                raise self._silent(told, "look at the device, or raise `silence_seconds`")

    def _silent(self, what: str, remedy: str) -> SourceError:
        return SourceError(f"source {self._options.name!r}: {what}", remedy=remedy)

    def _recover(self) -> None:
        if self._tally.phase != "running":
            self._tally.phase = "running"
            self._told = ("", 0.0)
            self._log.info("source.running", connections=self._tally.connections)

    def _timed(self, delivered: Delivered) -> Delivered | None:
        """``delivered`` in the times that count; None where its clock made a leap ahead."""
        if not isinstance(delivered, Readings) or not len(delivered):
            return delivered
        offset = int(delivered.times_ns[-1]) - delivered.arrived_ns
        fresh = delivered.tag not in self._seen
        self._seen.add(delivered.tag)
        if self._options.clock == "arrival":
            return replace(delivered, times_ns=delivered.times_ns - np.int64(offset))
        if offset > self._offset_ns + JUMP_NS:
            self._ahead += 1
            if self._ahead < JUMP_READINGS:
                self._tally.dropped["clock"] += len(delivered)
                return None
        self._ahead = 0
        if offset > -JUMP_NS:
            self._offset_ns = max(0, offset)
        if fresh and self._live.snapshot and len(delivered) == 1:
            opened = np.array([self._opened_ns], np.int64)
            return replace(delivered, times_ns=np.maximum(delivered.times_ns, opened))
        return delivered

    @property
    def _new(self) -> bool:
        """Whether what happens now happens at the start, where ``startup`` counts."""
        if self._options.startup == "probe":
            return self._tally.last_ns == 0
        return self._tally.connections == 0

    def _goes_on(self, fault: Exception) -> bool:
        """Tell ``fault``; whether to try again."""
        if isinstance(fault, FedmillError):
            error = fault
        else:
            error = SourceError(
                f"source {self._options.name!r}: {type(fault).__name__}: {fault}",
                remedy="it is connected anew",
            )
        self._tally.error = str(error)
        startup = self._options.startup if self._new else "retry"
        if isinstance(error, ConfigError) and startup != "error":
            startup = "ignore"
        if startup == "retry":
            self._tell(str(error))
            return True
        self._tally.phase = "left out"
        self._log.error("source.left_out", error=str(error), startup=startup)
        if startup == "error":
            self._listener.failed(error)
        return False

    def _tell(self, error: str) -> None:
        """Log ``error``, unless it is the one that was just told."""
        now = self._clock.monotonic()
        text, told = self._told
        if error != text or now - told >= REPEAT_SECONDS:
            self._told = (error, now)
            self._log.error("source.failed", error=error)
