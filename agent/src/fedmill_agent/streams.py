# SPDX-License-Identifier: Apache-2.0
"""The sources as one job reads them: recordings of its own, live ones that it shares."""

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedmill_agent.intake import Intake
from fedmill_agent.sources import kind_of
from fedmill_agent.sources.base import ReplayOptions, SourceOptions, at_once
from fedmill_agent.sources.runner import SourceEnded, SourceEvent, SourceRunner
from fedmill_agent.sources.wanted import Wanted, wanted_of
from fedmill_shared.clock import Clock
from fedmill_shared.job import Job

if TYPE_CHECKING:
    from fedmill_agent.sources.hub import Hub

STOP_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Fed:
    """Something a source delivered to one job.

    Attributes:
        ticket: tells for which reading of the source.
        handed: when the source had it, in seconds of the monotonic clock; it may have waited since.
    """

    job: str
    ticket: int
    event: SourceEvent | SourceEnded
    handed: float | None = None


@dataclass(frozen=True, slots=True)
class Ways:
    """What streams reach the world with.

    Attributes:
        feed: hands an event to the daemon's loop; False when nobody listens any more.
        number: a number that was never given before.
        clock: for pacing.
        hub: has the live sources; None where there are none.
    """

    feed: Callable[[Fed], bool]
    number: Callable[[], int]
    clock: Clock
    hub: "Hub | None"


class Streams:
    """Owns the runners of a job's recordings and its subscriptions of live sources.

    Recordings that are read as fast as possible go one after another: a gateway has memory for one
    of them, and windows come in the same order every time.
    """

    def __init__(
        self, job: Job, intake: Intake, sources: Sequence[SourceOptions], ways: Ways
    ) -> None:
        """Prepare; nothing is read yet.

        Raises:
            SchemaError: a source has a rate that the job cannot use.
        """
        self._job = job
        self._intake = intake
        self._ways = ways
        self._tickets: dict[str, int] = {}
        self._runners: dict[str, SourceRunner] = {}
        self._wanted: dict[str, Wanted] = {}
        self._waiting: deque[str] = deque()
        self._reading = ""
        for source in sources:
            self._prepare(source)

    def ticket(self, source: str) -> int:
        """What events of ``source`` carry that are to be taken; 0 where it is not read."""
        return self._tickets.get(source, 0)

    def start(self) -> None:
        """Begin to read."""
        self._begin(list(self._tickets))

    def start_next(self, ended: str = "") -> None:
        """Begin the next recording that waits for its turn, if ``ended`` was the one before it."""
        if ended == self._reading:
            self._reading = self._waiting.popleft() if self._waiting else ""
            if self._reading:
                self._runners[self._reading].start()

    def replace(self, names: Collection[str], sources: Sequence[SourceOptions], ways: Ways) -> None:
        """Read the sources called ``names`` anew as they are in ``sources``, or no longer.

        Raises:
            SchemaError: one of them does not fit the job; the others are read.
        """
        self._ways = ways
        for name in names:
            self._drop(name)
        fresh = [source for source in sources if source.name in names]
        try:
            for source in fresh:
                self._intake.take_up(source)
                self._prepare(source)
        finally:
            self._begin([source.name for source in fresh if source.name in self._tickets])

    def close(self) -> None:
        """Stop to read."""
        self._waiting.clear()
        for name, ticket in self._tickets.items():
            if name in self._wanted and self._ways.hub is not None:
                self._ways.hub.unsubscribe(ticket)
        for runner in self._runners.values():
            runner.stop()
        deadline = self._ways.clock.monotonic() + STOP_SECONDS
        for runner in self._runners.values():
            runner.join(max(0.0, deadline - self._ways.clock.monotonic()))

    def _prepare(self, source: SourceOptions) -> None:
        tags = self._intake.tags(source.name)
        if isinstance(source, ReplayOptions):
            ticket = self._ways.number()
            self._runners[source.name] = self._runner(source, tags, ticket)
            if at_once(source):
                self._waiting.append(source.name)
        else:
            self._wanted[source.name] = wanted_of(source, self._job.signals, tags)
            ticket = self._ways.number()
        self._tickets[source.name] = ticket

    def _begin(self, names: Sequence[str]) -> None:
        for name in names:
            if name in self._wanted:
                self._subscribe(name)
            elif name not in self._waiting:
                self._runners[name].start()
        self.start_next()

    def _drop(self, name: str) -> None:
        ticket = self._tickets.pop(name, 0)
        if self._wanted.pop(name, None) is not None and self._ways.hub is not None:
            self._ways.hub.unsubscribe(ticket)
        runner = self._runners.pop(name, None)
        if runner is not None:
            runner.stop()
            if name in self._waiting:
                self._waiting.remove(name)
            if name == self._reading:
                self._reading = ""
        self._intake.drop(name)

    def _subscribe(self, source: str) -> None:
        """Have a live source deliver what this job wants."""
        job, ticket, ways = self._job.name, self._tickets[source], self._ways
        if self._ways.hub is not None:
            self._ways.hub.subscribe(
                ticket,
                source,
                self._wanted[source],
                lambda event: ways.feed(Fed(job, ticket, event, ways.clock.monotonic())),
                backfill=self._intake.backfill(source),
            )

    def _runner(self, source: ReplayOptions, tags: Sequence[str], ticket: int) -> SourceRunner:
        job, ways = self._job.name, self._ways
        return SourceRunner(
            kind_of(source),
            source,
            tags,
            self._job.rate_hz,
            sink=lambda event: ways.feed(Fed(job, ticket, event, ways.clock.monotonic())),
            clock=self._ways.clock,
        )
