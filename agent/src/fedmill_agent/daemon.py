# SPDX-License-Identifier: Apache-2.0
"""The agent daemon: one loop that takes what network, trainer and sources hand in."""

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from fedmill_agent.audited import AuditDesk
from fedmill_agent.background import Background
from fedmill_agent.changes import Change, touches
from fedmill_agent.config import AgentConfig
from fedmill_agent.guard import guarded
from fedmill_agent.heartbeat import Heartbeat
from fedmill_agent.identity.opening import open_keeper
from fedmill_agent.inference.installing.gates import Unsigned
from fedmill_agent.line import Connect, Line, read
from fedmill_agent.outside import Outside
from fedmill_agent.plant import Plant
from fedmill_agent.reloading import ConfigFile
from fedmill_agent.seats import Seats
from fedmill_agent.service import Service, in_words
from fedmill_agent.skew import SkewWatch
from fedmill_agent.streams import Fed
from fedmill_agent.training.child import TrainerAnswered, TrainerDied
from fedmill_agent.training.governed import GovernedTrainer
from fedmill_shared import __version__
from fedmill_shared.audit import DAEMON
from fedmill_shared.clock import Clock
from fedmill_shared.errors import FedmillError
from fedmill_shared.files import make_folder
from fedmill_shared.inbox import Inbox
from fedmill_shared.link.base import Connected, Disconnected, LinkEvent, Message, Unheard
from fedmill_shared.log import Logger
from fedmill_shared.messages import AgentState, BlobRequest, Echo, RenewalAnswer, RoundNotice
from fedmill_shared.protocol import NEWEST
from fedmill_shared.topics import is_trust

if TYPE_CHECKING:
    from fedmill_agent.identity.keeper import Keeper
    from fedmill_agent.publishing.outlet import Outlet
    from fedmill_agent.trust.desk import TrustDesk

TICK_SECONDS = 1.0
POLL_SECONDS = 0.1
CONTROL, NETWORK, SOURCES = range(3)
LANES = (0, 64, 16)
"""Events that wait in each lane at most. What the trainer says is bounded by what it was asked."""


@dataclass(frozen=True, slots=True)
class Due:
    """Work of another thread has come to its end: this is to be called on the loop."""

    call: Callable[[], object]


Event = LinkEvent | TrainerAnswered | TrainerDied | Fed | Due


class Daemon:
    """Owns the parts of an agent, and the one thread that they work in."""

    def __init__(
        self,
        config: AgentConfig,
        connect: Connect,
        clock: Clock,
        log: Logger,
        *,
        file: ConfigFile | None = None,
        service: Service | None = None,
        audit: AuditDesk | None = None,
    ) -> None:
        """Prepare; ``connect(sink, will)`` makes the link, ``file`` is what ``reload`` reads.

        ``service`` is told that the daemon is ready, what it does, and that all of it advances;
        ``audit`` records what it does.
        """
        self._config = config
        self._clock = clock
        self._log = log
        self._file = file
        self._service = service or Service(clock, log)
        make_folder(Path(config.agent.state))
        self._inbox: Inbox[Event] = Inbox(LANES)
        self._line = Line(config, connect, self._hear, log, clock)
        self._trainer = GovernedTrainer(config.training, self._hear, clock, log, turned=self._hurry)
        self._plant = Plant(config, clock, log, failed=self._fail)
        self._background, self._disk = (Background(self._soon, clock) for _ in range(2))
        self._audit = audit or AuditDesk(config.agent, clock, log)
        self._audit.through(self._disk)
        self._outlet = self._way_for_others()
        self._trust = self._desk_of_trust()
        self._identity = self._keeper_of_identity()
        self._outside = self._ways_out()
        self._seats = Seats(self._outside, log, hurry=self._hurry, opening=self._service.step)
        self._heartbeat = self._make_heartbeat()
        self._skew = SkewWatch(clock, log)
        self._fault: FedmillError | None = None
        self._tick_due, self._unsettled = 0.0, 0
        self._stopping = False
        self._reloading = False

    def _make_heartbeat(self) -> Heartbeat:
        return Heartbeat(
            self._config,
            self._clock,
            self._line,
            self._seats,
            trainer=self._trainer,
            plant=self._plant,
            file=self._file,
            disk=self._disk,
            trust=lambda: self._trust.word if self._trust is not None else "",
            identity=None if self._identity is None else self._identity.standing,
            audit=self._audit,
        )

    def _ways_out(self) -> Outside:
        numbers = itertools.count(1)
        trust = self._trust
        return Outside(
            config=self._config,
            send=self._line.send if trust is None else trust.send,
            submit=self._trainer.submit,
            number=lambda: next(numbers),
            feed=lambda event: self._inbox.put(event, SOURCES),
            clock=self._clock,
            obstacle=self._trainer.obstacle,
            level=self._plant.disk.level,
            hub=self._plant.hub,
            labels=self._plant.labels,
            background=self._background,
            disk=self._disk,
            hurry=self._tell_soon,
            outlet=self._outlet,
            verifier=Unsigned() if trust is None else trust,
            audit=self._audit,
        )

    def _desk_of_trust(self) -> "TrustDesk | None":
        """Where what comes waits until it is known who signed it; None where nobody need."""
        if self._config.trust is None:
            return None
        from fedmill_agent.trust.opening import open_desk  # noqa: PLC0415  few agents do

        return open_desk(
            self._config,
            self._clock,
            self._log,
            background=self._background,
            disk=self._disk,
            send=self._line.send,
            seats=lambda: self._seats,
            overlay=self.reload,
            hurry=self._hurry,
            audit=self._audit,
        )

    def _keeper_of_identity(self) -> "Keeper | None":
        return open_keeper(
            self._config,
            self._line,
            self._audit,
            background=self._background,
            hurry=self._hurry,
            clock=self._clock,
            log=self._log,
        )

    def _way_for_others(self) -> "Outlet | None":
        """Where predictions and alarms go out, if they do."""
        wanted = self._config.inference
        if wanted.publish == "off" and wanted.sparkplug is None:
            return None
        from fedmill_agent.publishing.opening import open_outlet  # noqa: PLC0415  few agents do

        return open_outlet(
            self._config,
            self._line,
            self._soon,
            self._clock,
            self._log,
        )

    def _soon(self, call: Callable[[], object]) -> None:
        """Have something called on the loop, from whatever thread."""
        self._inbox.put(Due(call), CONTROL)

    def stop(self) -> None:
        """Ask the loop to end; safe inside a signal handler."""
        self._stopping = True

    def reload(self) -> None:
        """Ask the loop to read the configuration again; safe inside a signal handler."""
        self._reloading = True

    def run(self) -> None:
        """Work until ``stop``; then leave nothing behind.

        Raises:
            FedmillError: a source with ``startup = "error"`` cannot be opened.
        """
        agent = self._config.agent.id
        self._log.info("agent.started", agent=agent, software=__version__, pid=os.getpid())
        self._audit.record(who=DAEMON, what="agent.started", subject=agent, after=__version__)
        try:
            self._seats.resume(lambda: self._stopping)
            self._plant.start()
            self._line.start()
            if self._outlet is not None:
                self._outlet.start()
            self._attempt(self._heartbeat.begin)
            self._service.begin()
            while not self._stopping:
                self.step(POLL_SECONDS)
        finally:
            self._close()
        if self._fault is not None:
            raise self._fault

    def step(self, timeout: float) -> None:
        """Take one event, or wait ``timeout`` seconds for none; then do what is due."""
        event = self._inbox.get(timeout)
        if event is not None:
            self._attempt(partial(self._take, event))
        if self._reloading and self._file is not None:
            self._reloading = False
            self._hurry()
            self._attempt(partial(self._file.reload, self._config, self._log, self._adopt))
        now = self._clock.monotonic()
        if now >= self._tick_due:
            self._tick_due = now + TICK_SECONDS
            self._attempt(self._plant.tick)
            self._seats.tick()
            self._trainer.tick()
            if self._identity is not None:
                self._attempt(self._identity.tick)
        self._trainer.look()
        if self._outlet is not None:
            self._outlet.pump()
        if self._trust is not None:
            self._attempt(self._trust.tick)
        if self._heartbeat.due():
            self._attempt(self._heartbeat.turn)
        self._service.turn(self._words, self._late)

    def _words(self) -> str:
        newest, connected = self._heartbeat.newest, self._line.connected
        return in_words(newest, self._plant.standings(), connected=connected)

    def _late(self) -> dict[str, float]:
        """Threads that hang, and for how many seconds they have been overdue."""
        late = self._plant.late() | {"link": self._line.late}
        late |= {"background": self._background.late, "disk": self._disk.late}
        return {name: seconds for name, seconds in late.items() if seconds}

    def _attempt(self, what: Callable[[], None]) -> None:
        guarded(self._log, what)

    def _hurry(self) -> None:
        """Let the next heartbeat come at once."""
        self._heartbeat.soon()

    def _tell_soon(self) -> None:
        """Let the coordinator hear at once."""
        self._heartbeat.news()

    def _fail(self, error: FedmillError) -> None:
        """End with ``error``."""
        self._fault = error
        self._stopping = True

    def _adopt(self, config: AgentConfig, found: Sequence[Change]) -> None:
        """Take what changed; sources and jobs that it does not touch go on undisturbed."""
        self._config = config
        self._heartbeat.adopt(config)
        if touches(found, "training"):
            self._trainer.adopt(config.training)
        self._plant.adopt(config, found)
        self._outlet = self._outlet or self._way_for_others()
        self._outside = replace(
            self._outside,
            config=config,
            hub=self._plant.hub,
            labels=self._plant.labels,
            outlet=self._outlet,
        )
        self._seats.adopt(self._outside, found)

    def _hear(self, event: LinkEvent | TrainerAnswered | TrainerDied) -> None:
        """Hand in what network and trainer say; a network thread waits while much is waiting."""
        self._inbox.put(event, NETWORK if isinstance(event, Message) else CONTROL)

    def _take(self, event: Event) -> None:
        match event:
            case Message():
                self._receive(event)
            case Due(call):
                call()
            case Fed():
                self._feed(event)
            case TrainerAnswered(answer):
                self._seats.answer(answer)
            case TrainerDied(code, numbers, reason):
                self._log.error("trainer.died", exit_code=code, reason=reason, tasks=len(numbers))
                self._seats.trainer_died(numbers)
            case Unheard():
                self._line.unheard(event)
            case Connected() | Disconnected():
                self._line.turn(event)
                if self._line.connected:
                    self._heartbeat.beat()
                    self._seats.reconnected()

    def _feed(self, fed: Fed) -> None:
        """Take what a source delivered; windows of events that wait are scored together."""
        self._unsettled += 1
        more = self._inbox.waiting(SOURCES) > 0 and self._unsettled < LANES[SOURCES]
        try:
            self._seats.feed(fed, more=more)
        finally:  # also where this event is of no use: windows of others wait
            if not more:
                self._unsettled = 0
                self._seats.settle()

    def _receive(self, message: Message) -> None:
        self._line.heard()
        if is_trust(message.topic):
            if self._trust is not None:
                self._trust.hear(message)
            return
        kind, said = read(message)
        match said:
            case BlobRequest() if self._line.crowded:
                return  # each asks for a hundred thousand times its own size
            case RoundNotice() if not message.retained and self._seats.wants(said.job):
                self._skew.compare(said.sent_ns)
            case Echo():
                self._line.echoed(said)
                return
            case RenewalAnswer():
                if self._identity is not None:
                    self._identity.hear(said)
                return
        if self._trust is None or self._trust.admits(said):
            self._seats.take(kind, said, retained=message.retained)

    def _close(self) -> None:
        self._service.end()
        self._inbox.close()
        self._trainer.stop()
        self._background.close()
        self._disk.close()
        self._attempt(self._leave)
        self._seats.close()
        if self._outlet is not None:
            self._outlet.close()
        self._plant.close()
        agent = self._config.agent.id
        self._audit.record(who=DAEMON, what="agent.stopped", subject=agent, after=__version__)
        self._audit.close()
        self._log.info("agent.stopped", agent=agent)

    def _leave(self) -> None:
        state = AgentState(online=False, newest=NEWEST)
        try:
            state = structs.replace(self._heartbeat.state(), online=False)
        finally:  # a broken store keeps nobody from leaving
            self._line.leave(state)
