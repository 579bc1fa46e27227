# SPDX-License-Identifier: Apache-2.0
"""The agent daemon: one loop that takes what network, trainer and sources hand in."""

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from msgspec import Struct, structs

from fedmill_agent.announcements import Announcements
from fedmill_agent.changes import ANEW, Change, named, touches
from fedmill_agent.config import AgentConfig
from fedmill_agent.governor import INTERVAL, Gauge, Governor
from fedmill_agent.memory import return_memory
from fedmill_agent.plant import Plant
from fedmill_agent.reloading import ConfigFile, Reloaded
from fedmill_agent.seat import Seat
from fedmill_agent.skew import SkewWatch
from fedmill_agent.status import resident_bytes, write_status
from fedmill_agent.streams import Fed
from fedmill_agent.training.child import TrainerAnswered, TrainerDied, TrainerProcess
from fedmill_agent.work import Outside
from fedmill_shared import __version__, topics
from fedmill_shared.clock import Clock
from fedmill_shared.errors import BrokerError, FedmillError, FrameError, JobError, ProtocolError
from fedmill_shared.files import make_folder
from fedmill_shared.inbox import Inbox
from fedmill_shared.job_check import job_from_canonical
from fedmill_shared.link.base import Connected, Disconnected, Link, LinkEvent, Message, Sink
from fedmill_shared.link.blocks import parse_block
from fedmill_shared.log import Logger
from fedmill_shared.messages import (
    ALL,
    DOWN,
    AgentState,
    BlobRequest,
    JobNotice,
    Receipt,
    Refusal,
    RoundNotice,
    VersionNotice,
    Wait,
    decode,
    encode,
)
from fedmill_shared.protocol import NEWEST, common

HEARTBEAT_SECONDS = 5.0
TICK_SECONDS = 1.0
POLL_SECONDS = 0.1
CONTROL, NETWORK, SOURCES = range(3)
LANES = (0, 64, 16)
"""Events that wait in each lane at most. What the trainer says is bounded by what it was asked."""
SEAT_LIMIT = 256
BACKLOG_LIMIT = 16
"""Messages on their way out before requests for blocks pass by; the coordinator asks again."""
ASKED_AGAIN = ("update", "block", "request")
"""What is sent anew after a reconnection, and must not pile up in a queue until then."""

Event = LinkEvent | TrainerAnswered | TrainerDied | Fed
Connect = Callable[[Sink, Message], Link]


def subscriptions(agent: str) -> list[str]:
    """Topics an agent listens to."""
    return [topics.down(agent, "#"), topics.broadcast("#", "").rstrip("/")]


class Daemon:
    """Owns the link, the trainer and one seat for each job."""

    def __init__(
        self,
        config: AgentConfig,
        connect: Connect,
        clock: Clock,
        log: Logger,
        *,
        file: ConfigFile | None = None,
    ) -> None:
        """Prepare; ``connect(sink, will)`` makes the link, ``file`` is what ``reload`` reads."""
        self._config = config
        self._agent = config.agent.id
        self._clock = clock
        self._log = log
        self._folder = make_folder(Path(config.agent.state))
        self._inbox: Inbox[Event] = Inbox(LANES)
        self._trainer = TrainerProcess(config.training, self._hear, clock)
        self._governor = Governor(config.training, Gauge(), clock)
        self._plant = Plant(config, clock, log, failed=self._fail)
        self._fault: FedmillError | None = None
        self._obstacle = ""
        self._outside = self._ways_out()
        self._seats: dict[str, Seat] = {}
        self._heard = Announcements()
        self._beat_due = 0.0
        self._tick_due = 0.0
        self._look_due = 0.0
        self._connected = False
        self._skew = SkewWatch(clock, log)
        self._stopping = False
        self._file = file
        self._reloading = False
        will = Message(
            topics.up(self._agent, "state"), encode(AgentState(online=False, newest=NEWEST))
        )
        self._link = connect(self._hear, will)

    def _ways_out(self) -> Outside:
        numbers = itertools.count(1)
        return Outside(
            config=self._config,
            send=self._send,
            submit=self._trainer.submit,
            number=lambda: next(numbers),
            feed=lambda event: self._inbox.put(event, SOURCES),
            clock=self._clock,
            obstacle=self._governor.reason,
            level=self._plant.disk.level,
            hub=self._plant.hub,
            labels=self._plant.labels,
        )

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
        self._log.info("agent.started", agent=self._agent, software=__version__, pid=os.getpid())
        try:
            self._resume()
            self._plant.start()
            self._link.start()
            while not self._stopping:
                self.step(POLL_SECONDS)
        finally:
            self._close()
        if self._fault is not None:
            raise self._fault

    def _fail(self, error: FedmillError) -> None:
        """End with ``error``."""
        self._fault = error
        self._stopping = True

    def step(self, timeout: float) -> None:
        """Take one event, or wait ``timeout`` seconds for none; then do what is due."""
        event = self._inbox.get(timeout)
        if event is not None:
            self._attempt(partial(self._take, event))
        if self._reloading and self._file is not None:
            self._reloading, self._beat_due = False, 0.0
            self._attempt(partial(self._file.reload, self._config, self._log, self._adopt))
        now = self._clock.monotonic()
        if now >= self._tick_due:
            self._tick_due = now + TICK_SECONDS
            self._attempt(self._plant.tick)
            for seat in self._seats.values():
                self._attempt(seat.tick)
            self._trainer.tick()
        if now >= self._look_due:
            self._look_due = now + INTERVAL
            self._govern()
        if now >= self._beat_due:
            self._attempt(self._beat)

    def _adopt(self, config: AgentConfig, found: Sequence[Change]) -> None:
        """Take what changed; sources and jobs that it does not touch go on undisturbed."""
        self._config = config
        if touches(found, "training"):
            self._trainer.adopt(config.training)
            self._governor.adopt(config.training)
        self._plant.adopt(config, found)
        self._outside = replace(
            self._outside, config=config, hub=self._plant.hub, labels=self._plant.labels
        )
        anew = touches(found, *ANEW)
        for name, seat in self._seats.items():
            if anew:
                self._seats[name] = seat.renewed(self._outside, self._log.bind(job=name))
            else:
                seat.adopt(self._outside, named(found, "sources"))

    def _govern(self) -> None:
        """Look at the machine; training in hand makes way within a second, and goes on after."""
        obstacle = self._governor.reason()
        if bool(obstacle) != bool(self._obstacle):  # its numbers change each time
            self._turn_to(obstacle)
        pressing = self._governor.pressing()
        change = self._trainer.hold(wanted=bool(pressing))
        if change == "paused":
            self._log.info("training.paused", reason=pressing)
        elif change == "resumed":
            self._log.info("training.resumed")

    def _turn_to(self, obstacle: str) -> None:
        """Whether this machine may train has changed: say so at once."""
        self._obstacle = obstacle
        self._beat_due = 0.0
        self._log.info("training.held" if obstacle else "training.allowed", reason=obstacle)

    def _hear(self, event: LinkEvent | TrainerAnswered | TrainerDied) -> None:
        """Hand in what network and trainer say; a network thread waits while much is waiting."""
        self._inbox.put(event, NETWORK if isinstance(event, Message) else CONTROL)

    def _attempt(self, what: Callable[[], None]) -> None:
        """Do ``what``; no fault of one message, job or disk ends the scoring of the others."""
        try:
            what()
        except (FrameError, BrokerError) as error:
            self._log.warning("message.refused", error=str(error))
        except FedmillError as error:
            self._log.error("event.failed", kind=type(error).__name__, error=str(error))

    def _take(self, event: Event) -> None:
        match event:
            case Message():
                self._receive(event)
            case Fed() if event.job in self._seats:
                self._seats[event.job].feed(event)
            case TrainerAnswered(answer):
                for seat in self._seats.values():
                    if seat.answer(answer):
                        break
            case TrainerDied(code, numbers):
                self._log.error("trainer.died", exit_code=code, tasks=len(numbers))
                for seat in self._seats.values():
                    seat.trainer_died(numbers)
            case Connected() | Disconnected():
                self._turn(event)

    def _turn(self, event: Connected | Disconnected) -> None:
        self._connected = isinstance(event, Connected)
        if isinstance(event, Connected):
            self._log.info("broker.connected", session_present=event.session_present)
            self._beat()
            for seat in self._seats.values():
                seat.reconnected()
            return
        remedy = f"{event.remedy}; " if event.remedy else ""
        self._log.error(
            "broker.unreachable",
            reason=event.reason,
            broker=f"{self._config.broker.host}:{self._config.broker.port}",
            remedy=f"{remedy}scoring goes on, and the agent keeps trying",
        )

    def _receive(self, message: Message) -> None:
        kind = topics.kind_of(message.topic)
        if kind == "block":
            block = parse_block(message.payload)
            for seat in self._seats.values():
                seat.block(block)
            return
        known = DOWN if "/down/" in message.topic else ALL
        if kind not in known:
            raise FrameError(f"topic {message.topic!r} is of an unknown kind")
        match decode(message.payload, known[kind]):
            case JobNotice() as notice:
                self._offer(notice)
            case VersionNotice() | RoundNotice() as notice if self._wants(notice.job):
                self._heard.remember(kind, notice, {*self._seats, *self._config.agent.jobs})
                if isinstance(notice, RoundNotice) and not message.retained:
                    self._skew.compare(notice.sent_ns)
                self._pass_on(notice, retained=message.retained)
            case BlobRequest() if self._link.backlog >= BACKLOG_LIMIT:
                return  # each asks for a hundred thousand times its own size
            case Receipt() | BlobRequest() | Wait() as reply if reply.job in self._seats:
                self._seats[reply.job].reply(reply)

    def _wants(self, job: str) -> bool:
        """Whether to take part in ``job``; a stranger cannot fill the memory with jobs."""
        wanted = self._config.agent.jobs
        if wanted:
            return job in wanted
        return job in self._seats or len(self._seats) < SEAT_LIMIT

    def _pass_on(self, notice: VersionNotice | RoundNotice, *, retained: bool) -> None:
        seat = self._seats.get(notice.job)
        if seat is None:
            return
        if isinstance(notice, VersionNotice):
            seat.version(notice, retained=retained)
        else:
            seat.round(notice)

    def _offer(self, notice: JobNotice) -> None:
        if not self._wants(notice.job):
            return
        try:
            protocol = common(notice.protocol, notice.newest, who="the coordinator")
        except ProtocolError as error:
            self._refuse(notice.job, error)
            return
        seat = self._seats.get(notice.job)
        if seat is not None and seat.text == notice.text:
            seat.hear(notice, protocol)
            return
        if seat is not None:
            if not self._readable(notice):
                return
            seat.close()
        self._seats[notice.job] = self._open(notice.job, notice.text)
        self._seats[notice.job].hear(notice, protocol)
        self._beat_due = 0.0
        for each in self._heard.of(notice.job):  # they may have come before the job
            self._pass_on(each, retained=True)

    def _readable(self, notice: JobNotice) -> bool:
        """Whether the new text of a job is one; if not, the seat that works goes on."""
        try:
            job_from_canonical(notice.text)
        except JobError as error:
            self._refuse(notice.job, error)
            return False
        return True

    def _refuse(self, job: str, error: FedmillError) -> None:
        kind, text = type(error).__name__, str(error)
        self._log.error("job.refused", job=job, kind=kind, error=text)
        self._send("refusal", Refusal(job=job, reason=kind, text=text[:2000]))

    def _open(self, job: str, text: bytes) -> Seat:
        return Seat(job, text, self._outside, self._log.bind(job=job))

    def _send(self, kind: str, message: Struct | bytes) -> None:
        if kind in ASKED_AGAIN and not self._connected:
            return
        payload = message if isinstance(message, bytes) else encode(message)
        try:
            self._link.publish(topics.up(self._agent, kind), payload, retain=kind == "state")
        except BrokerError as error:
            self._log.warning("message.unsent", kind=kind, error=str(error))

    def _resume(self) -> None:
        """Take up the jobs that were known before a restart: scoring needs no broker."""
        for path in sorted(self._folder.glob("jobs/*/job.json")):
            job = path.parent.name
            if not self._wants(job):
                continue
            try:
                self._seats[job] = self._open(job, path.read_bytes())
            except OSError as error:
                self._log.error("job.unreadable", path=str(path), error=str(error))

    def _beat(self) -> None:
        self._beat_due = self._clock.monotonic() + HEARTBEAT_SECONDS
        return_memory()
        state = self._state()
        if self._connected:
            self._send("state", state)
        write_status(
            self._folder,
            state,
            connected=self._connected,
            trainer_pid=self._trainer.pid,
            disk=self._plant.disk.status(),
            sources=self._plant.standings(),
            config=self._file.outcome if self._file is not None else Reloaded(),
        )

    def _state(self) -> AgentState:
        return AgentState(
            online=True,
            software=__version__,
            newest=NEWEST,
            labels=self._config.agent.labels,
            sent_ns=self._clock.now_ns(),
            resident_bytes=resident_bytes(),
            jobs={name: seat.phase() for name, seat in self._seats.items()},
        )

    def _close(self) -> None:
        self._inbox.close()
        self._trainer.stop()
        self._attempt(self._leave)
        for seat in self._seats.values():
            seat.close()
        self._plant.close()
        self._log.info("agent.stopped", agent=self._agent)

    def _leave(self) -> None:
        state = AgentState(online=False, newest=NEWEST)
        try:
            state = structs.replace(self._state(), online=False)
        finally:  # a broken store keeps nobody from leaving
            self._link.stop(Message(topics.up(self._agent, "state"), encode(state)))
