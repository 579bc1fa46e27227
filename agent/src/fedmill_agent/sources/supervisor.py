# SPDX-License-Identifier: Apache-2.0
"""Keeps one live source alive: opens it, notices that it broke or fell silent, opens it again."""

import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

from msgspec import structs

from fedmill_agent.sources.guard import Guard
from fedmill_agent.sources.live import (
    Delivered,
    Live,
    LiveOptions,
    Readings,
    Session,
    legible,
)
from fedmill_agent.sources.source_clock import SourceClock
from fedmill_agent.sources.standing import Tally
from fedmill_agent.sources.state import Standing
from fedmill_shared.clock import Clock
from fedmill_shared.errors import ConfigError, FedmillError, SourceError
from fedmill_shared.link.backoff import Backoff
from fedmill_shared.log import Logger
from fedmill_shared.pulse import Pulse

READ_SECONDS = 0.25
PROBE_SECONDS = 10.0
"""Time in which a good value must come where ``startup`` is ``probe``."""
REPEAT_SECONDS = 600.0
"""How often one and the same error is told again."""
HUNG_SECONDS = 60.0
"""Time after which a read that has not returned is told."""
STUCK_SECONDS = 300.0
"""Time after which one that hangs is overdue: only another process helps then."""
LONGEST_ERROR = 1000
"""Characters of one: a library may put a whole message in it."""
LEAVE_SECONDS = 10.0
"""Time that an earlier connection to the same device has to end."""


@dataclass(frozen=True, slots=True)
class Listener:
    """What a supervisor tells, always on its own thread.

    Times are ns of a clock that begins at the wall clock's and never jumps.

    Attributes:
        deliver: what came, and when.
        advance: a read is done, at this time; samples may be due.
        lost: the connection ended, at this time.
        failed: it could not be opened, and the agent is to end with this error.
    """

    deliver: Callable[[Sequence[Delivered], int], None]
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
        after: "Supervisor | None" = None,
    ) -> None:
        """Prepare; ``after`` has the connection before this one, which must end first."""
        self._live = live
        self._options = options
        self._listener = listener
        self._clock = clock
        self._log = log.bind(source=options.name)
        self._backoff = backoff or Backoff()
        self._after = after
        self._zero_ns = clock.now_ns() - round(1e9 * clock.monotonic())
        self._tags: tuple[str, ...] = ()
        self._asked: frozenset[str] = frozenset()  # the tags of the session
        self._proven: Collection[str] = {*options.tags.values(), options.run_tag}
        self._refused: dict[str, str] = {}
        self._changed = threading.Event()
        self._stopped = threading.Event()
        self._tally = Tally()
        self._source_clock = SourceClock(options.clock, live.snapshot, self._tally.dropped)
        self._told: tuple[str, float] = ("", 0.0)
        self._heard = 0.0
        self._round = 0.0  # when the last read was asked for
        self._pulse = Pulse(clock, STUCK_SECONDS)
        self._thread = threading.Thread(target=self._run, name=f"source-{options.name}")
        self._thread.daemon = True
        self._begun = False

    @property
    def standing(self) -> Standing:
        """How it is."""
        found = self._tally.standing()
        hangs = self._clock.monotonic() - self._round
        if found.phase != "running" or hangs <= HUNG_SECONDS:
            return found
        error = f"no read has returned for {hangs:.0f} s: its library hangs, or the agent is slow"
        return structs.replace(found, phase="silent", error=error)

    @property
    def late(self) -> float:
        """Seconds for which the thread has been overdue; 0 while it reads, waits or is left out."""
        return self._pulse.late

    @property
    def tags(self) -> Sequence[str]:
        """What is to be read."""
        return self._tags

    def watch(self, tags: Sequence[str]) -> None:
        """Read these tags from now on; the connection is made anew if it lacks one of them."""
        self._tags = tuple(tags)
        if not self._begun:
            self._begun = True
            self._thread.start()
        elif not self._asked.issuperset(tags):
            self._changed.set()

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stopped.set()
        self._changed.set()

    def join(self, timeout: float) -> bool:
        """Wait until the thread has ended, at most ``timeout`` seconds; whether it has."""
        if self._begun:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        if self._after is not None:
            self._after.join(LEAVE_SECONDS)
            self._after = None
        while not self._stopped.is_set():
            self._changed.clear()
            if self._stopped.is_set():
                break
            begun = self._heard = self._clock.monotonic()
            self._pulse.beat()
            with Guard() as guard:
                self._serve()
            if guard.fault is None or self._stopped.is_set():
                continue
            match self._judge(guard.fault):
                case "end":
                    self._pulse.end()
                    return
                case "wait":
                    self._pulse.end()
                    self._changed.wait()
                    self._tally.phase = "waiting"
                case "again":
                    wait = self._backoff.wait(self._heard - begun)
                    self._pulse.beat(rest=wait)
                    self._changed.wait(wait)
        self._pulse.end()
        self._tally.phase = "stopped"

    def _serve(self) -> None:
        """Read one connection until it breaks or others are wanted.

        Raises:
            Exception: it broke.
        """
        session = self._open()
        self._source_clock.opened(self._clock.now_ns())
        self._tally.connections += 1
        if self._tally.phase == "waiting":  # it is reached, whatever comes
            self._tally.phase = "starting"
        with ExitStack() as leaving:  # all of it, whichever part fails
            leaving.callback(self._lost)
            leaving.callback(session.close)
            leaving.callback(self._count, session)
            self._read(session)

    def _lost(self) -> None:
        self._tally.closed()
        self._listener.lost(self._now_ns())

    def _open(self) -> Session:
        """A session for the tags that are wanted; without new ones that can never work.

        Raises:
            Exception: there is none.
        """
        tags = self._tags
        self._asked, self._refused = frozenset(tags), {}
        try:
            session = self._live.open(self._options, tags, self._clock)
        except ConfigError as error:
            kept = [tag for tag in tags if tag in self._proven]
            if not kept or len(kept) == len(tags):
                raise
            session = self._live.open(self._options, kept, self._clock)
            self._refused = {tag: str(error) for tag in tags if tag not in kept}
            self._log.error("source.tags_refused", tags=sorted(self._refused), error=str(error))
            return session
        self._proven = self._asked
        return session

    def _read(self, session: Session) -> None:
        while not self._changed.is_set() and self._asked.issuperset(self._tags):
            self._round = self._clock.monotonic()
            self._pulse.beat()
            delivered = session.read(READ_SECONDS)
            self._count(session)
            kept = [each for each in map(self._timed, delivered) if each is not None]
            readings = [each for each in kept if isinstance(each, Readings)]
            if self._tally.take(readings):
                self._heard = self._clock.monotonic()
                self._recover()
            elif any(each.historical for each in readings):
                self._heard = self._clock.monotonic()  # what is kept may come before the present
            if kept:
                self._listener.deliver(kept, self._now_ns())
            self._listener.advance(self._now_ns())
            self._check_silence()

    def _count(self, session: Session) -> None:
        # Copies, made here: whoever asks how the source is does so on another thread.
        self._tally.session = dict(session.counts)
        self._tally.problems = {**session.problems, **self._refused}

    def _check_silence(self) -> None:
        """Give up a connection that brings nothing.

        Raises:
            SourceError: it does.
        """
        silent, longest = self._clock.monotonic() - self._heard, self._options.silence_seconds
        told, remedy = "", "look at the device, or raise `silence_seconds`"
        if self._options.startup == "probe" and self._new and silent > PROBE_SECONDS:
            told, remedy = "answers, and no good value came", "check its tags"
        elif 0 < longest < silent:
            told = f"no good value for {longest:g} s"
            self._tally.dropped["silence"] += 1
        if told:
            self._tally.phase = "silent"
            raise SourceError(f"source {self._options.name!r}: {told}", remedy=remedy)

    def _recover(self) -> None:
        if self._tally.phase != "running":
            self._tally.phase = "running"
            self._told = ("", 0.0)
            self._log.info("source.running", connections=self._tally.connections)

    def _timed(self, delivered: Delivered) -> Delivered | None:
        if isinstance(delivered, Readings):
            return self._source_clock.timed(legible(delivered))
        return delivered

    def _now_ns(self) -> int:
        return self._zero_ns + round(1e9 * self._clock.monotonic())

    @property
    def _new(self) -> bool:
        """Whether what happens now happens at the start, where ``startup`` counts."""
        if self._options.startup == "probe":
            return self._tally.last_ns == 0
        return self._tally.connections == 0

    def _judge(self, fault: Exception) -> Literal["again", "wait", "end"]:
        """Tell ``fault``; whether to try again, for other tags only, or never."""
        if isinstance(fault, FedmillError):
            error = fault
        else:
            error = SourceError(
                f"source {self._options.name!r}: {type(fault).__name__}: {fault}",
                remedy="it is connected anew",
            )
        told = str(error)[:LONGEST_ERROR]
        self._tally.error = told
        startup = self._options.startup if self._new else "retry"
        hopeless = isinstance(error, ConfigError)
        if startup == "retry" and not hopeless:
            if self._tally.phase != "silent":
                self._tally.phase = "waiting"
            self._tell(told)
            return "again"
        self._tally.phase = "left out"
        self._log.error("source.left_out", error=told, startup=startup)
        if startup == "error":
            self._listener.failed(error)
            return "end"
        return "wait" if hopeless else "end"

    def _tell(self, error: str) -> None:
        """Log ``error``, unless it is the one that was just told."""
        now = self._clock.monotonic()
        text, told = self._told
        if error != text or now - told >= REPEAT_SECONDS:
            self._told = (error, now)
            self._log.error("source.failed", error=error)
