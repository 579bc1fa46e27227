# SPDX-License-Identifier: Apache-2.0
"""The coordinator daemon: one loop over what agents say and what time says."""

import os
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from fedmill_coordinator.assembly import assemble
from fedmill_coordinator.config import CoordinatorConfig
from fedmill_coordinator.connection import Connection
from fedmill_coordinator.denial import Denial
from fedmill_coordinator.hearing import receive
from fedmill_coordinator.jobs import read_jobs, take_up
from fedmill_coordinator.ledger import Ledger
from fedmill_coordinator.orders import Orders
from fedmill_coordinator.pki.making import make_door
from fedmill_coordinator.pki.terms import Terms
from fedmill_coordinator.resting import Rests
from fedmill_coordinator.rounds.conductor import Conductor
from fedmill_coordinator.store.base import Store
from fedmill_shared import __version__, topics
from fedmill_shared.audit import DAEMON, Audit, NoAudit
from fedmill_shared.clock import Clock
from fedmill_shared.errors import BrokerError, FrameError, StoreError
from fedmill_shared.inbox import Inbox
from fedmill_shared.job import Job
from fedmill_shared.link.base import (
    Connected,
    Disconnected,
    Link,
    LinkEvent,
    Message,
    Sink,
    Unheard,
)
from fedmill_shared.log import Logger
from fedmill_shared.notify import Notifier
from fedmill_shared.vigil import Vigil

POLL_SECONDS = 0.1
CONTROL, MESSAGES = 0, 1
LANES = (0, 128)
"""The network waits when 128 messages, 16 MiB if they are blocks, are still to be dealt with."""
BACKLOG = 16
"""Blocks are handed to the link while fewer messages than this wait for the broker."""
BACKLOG_SECONDS = 0.005
BLOCKS_AT_ONCE = 8
LONGEST_TOLD = 200
SUBSCRIPTIONS = [f"{topics.ROOT}/+/up/#"]


class Daemon:
    """Owns the link and one conductor for each job.

    Attributes:
        counts: what happened that no row remembers.
    """

    def __init__(
        self,
        config: CoordinatorConfig,
        connect: Callable[[Sink], Link],
        store: Store,
        clock: Clock,
        log: Logger,
        *,
        audit: Audit | None = None,
        vigil: Vigil | None = None,
    ) -> None:
        """Load and add the jobs; ``connect(sink)`` makes the link, ``audit`` raises nothing.

        ``vigil`` tells the service manager that the daemon is ready, and that it advances.

        Raises:
            JobError: a job file is wrong, or differs from the one this job was started with.
            IdentityError: the authority's files are missing, damaged, or open to others.
            StoreError: the state folder cannot be used.
            TrustError: keys of ``[trust]`` are missing or wrong, or a job file is not signed.
        """
        self._config = config
        self._log = log
        self._vigil = vigil or Vigil(Notifier(), clock, log)
        self._inbox: Inbox[LinkEvent] = Inbox(LANES)
        self._link = connect(self._hand_in)
        self._audit: Audit = NoAudit() if audit is None else audit
        self._services = assemble(config, store, self._link, clock, log, audit=self._audit)
        self._services.blobs.reading = self._vigil.step
        self.counts = self._services.counts
        self._denial = Denial(make_door(config, self._services), self._services)
        self._terms = Terms(config, store, clock, log)
        state, traffic = Path(config.coordinator.state), self._services.traffic
        self._ledger = Ledger(traffic, store, clock, self.counts, state)
        self._orders = Orders(self._services)
        self._connection = Connection(config.broker, clock, log, self._link)
        self._held = Rests(clock, log, StoreError)
        self._unserved = Rests(clock, log, StoreError, FrameError)
        self._stopping = False
        self._conductors = self._taken_up()

    @property
    def connected(self) -> bool:
        """Whether the broker is there."""
        return self._connection.up

    def stop(self) -> None:
        """Ask the loop to end; safe inside a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Work until ``stop``.

        Raises:
            BrokerError: no broker answered within ``broker.connect_seconds`` of the start.
        """
        self._log.info(
            "coordinator.started",
            software=__version__,
            pid=os.getpid(),
            jobs=",".join(self._conductors),
        )
        self._note("coordinator.started", f"{__version__}, jobs {', '.join(self._conductors)}")
        self._connection.begin()
        self._link.start()
        self._vigil.begin()
        try:
            while not self._stopping:
                self.step(POLL_SECONDS)
                self._tell()
                self._connection.check()
        finally:
            self._vigil.end()
            self._inbox.close()
            self._link.stop()
            self._save(self._ledger.save)
            self._note("coordinator.stopped", __version__)
            self._log.info("coordinator.stopped")

    def step(self, timeout: float) -> None:
        """Take one event, or wait ``timeout`` seconds for none; then do what is due."""
        event = self._inbox.get(self._serve(timeout) if self._connection.up else timeout)
        if event is not None:
            self._attempt(event)
        self._orders.obey(self._conductors)
        self._denial.step(self._conductors)
        self._terms.tick()
        self._save(self._ledger.save_due)
        if self._connection.up:
            self._services.trust.tick()
            for name, conductor in self._conductors.items():
                if self._held.over(name):
                    with self._held.after_failure(name):
                        conductor.step()
                    self._tell()  # the rounds of each may close, which takes its time

    def _tell(self) -> None:
        """Let the service manager know."""
        self._vigil.turn(self._words, self._late)

    def _words(self) -> str:
        jobs, agents = len(self._conductors), len(self._services.fleet.online())
        connected = "connected" if self._connection.up else "not connected"
        return f"jobs: {jobs}; agents online: {agents}; broker {connected}"

    def _late(self) -> dict[str, float]:
        return {"link": self._link.late} if self._link.late else {}

    def _serve(self, timeout: float) -> float:
        """Hand blocks to the link while it keeps up; how long to wait for an event then."""
        if self._link.backlog >= BACKLOG:
            return min(timeout, BACKLOG_SECONDS)
        served = 0
        for name, conductor in self._conductors.items():
            if self._unserved.over(name):
                with self._unserved.after_failure(name):  # a blob is gone or cut off: rounds go on
                    served += conductor.serve(BLOCKS_AT_ONCE)
        return 0.0 if served else timeout

    def _hand_in(self, event: LinkEvent) -> None:
        self._inbox.put(event, MESSAGES if isinstance(event, Message) else CONTROL)

    def _attempt(self, event: LinkEvent) -> None:
        topic = event.topic[:LONGEST_TOLD] if isinstance(event, Message) else ""
        try:
            self._take(event)
        except (FrameError, BrokerError) as error:
            text = str(error)[: 2 * LONGEST_TOLD]
            self._log.warning("message.refused", topic=topic, error=text)
            self.counts.add("messages_refused")
        except StoreError as error:  # its sender tells it again until it has an answer
            self._log.error("store.failed", topic=topic, error=str(error))
            self.counts.add("store_failures")

    def _take(self, event: LinkEvent) -> None:
        match event:
            case Connected():
                self._greet(event)
            case Unheard():
                self._connection.unheard(event)
            case Disconnected():
                self._connection.lost(event)
            case Message():
                if not self._denial.take(event):
                    receive(event, self._conductors, self._services)

    def _greet(self, event: Connected) -> None:
        """The broker is there: say what agents may have missed."""
        self._connection.made(event)
        self._services.fleet.unsettle()
        self._denial.greet()
        if not event.session_present:  # it has lost those of the agents as well
            self._services.traffic.forgotten()
        self._services.trust.announce()
        for name, conductor in self._conductors.items():
            with self._held.after_failure(name):
                conductor.announce()

    def _note(self, what: str, after: str) -> None:
        self._audit.record(who=DAEMON, what=what, subject=self._config.coordinator.id, after=after)

    def _save(self, save: Callable[[Collection[str]], None]) -> None:
        try:
            save(self._conductors)
        except StoreError as error:
            self._log.error("store.failed", error=str(error))

    def _taken_up(self) -> dict[str, Conductor]:
        jobs = read_jobs(map(Path, self._config.coordinator.jobs))
        conductors = [self._conductor(*item) for item in jobs]
        return {each.job.name: each for each in conductors}

    def _conductor(self, path: Path, job: Job) -> Conductor:
        golden = self._config.coordinator.golden.get(job.name, "")
        self._services.trust.check_job(path)
        taken = take_up(path, job, golden, self._services)
        self._services.trust.check_text(path, taken.job.name, taken.text)
        self._ledger.resume(job.name)
        services = replace(self._services, log=self._log.bind(job=job.name))
        return Conductor(taken.job, taken.text, services, taken.golden)
