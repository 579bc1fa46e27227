# SPDX-License-Identifier: Apache-2.0
"""All jobs that an agent was offered: who gets a seat, and which seat hears what."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from msgspec import Struct

from fedmill_agent.announcements import Announcements, Notice
from fedmill_agent.changes import ANEW, Change, named, touches
from fedmill_agent.drift.told import DriftTold
from fedmill_agent.guard import guarded
from fedmill_agent.inference.installing.around import nothing
from fedmill_agent.outside import Outside
from fedmill_agent.seat import Seat
from fedmill_agent.streams import Fed
from fedmill_agent.training import protocol
from fedmill_shared.errors import FedmillError, JobError, ProtocolError
from fedmill_shared.files import sha256
from fedmill_shared.job_check import job_from_canonical
from fedmill_shared.link.blocks import Block
from fedmill_shared.log import Logger
from fedmill_shared.messages import (
    BlobRequest,
    JobNotice,
    JobPhase,
    Receipt,
    Refusal,
    ReleaseNotice,
    RoundNotice,
    VersionNotice,
    Wait,
)
from fedmill_shared.protocol import common

SEAT_LIMIT = 256
COORDINATOR = "coordinator"
"""Who it was when a message asked for it."""


class Seats:
    """Owns one seat for each job."""

    def __init__(
        self,
        outside: Outside,
        log: Logger,
        *,
        hurry: Callable[[], None],
        opening: Callable[[], None] = nothing,
    ) -> None:
        """No seat is taken yet; ``hurry`` is called when one was: others should know soon.

        ``opening`` is called before each is: its store, of some GB, is read through.
        """
        self._outside = outside
        self._log = log
        self._hurry = hurry
        self._opening = opening
        self._seats: dict[str, Seat] = {}
        self._heard = Announcements()

    def resume(self, stopped: Callable[[], bool] = bool) -> None:
        """Take up the jobs that were known before a restart: scoring needs no broker.

        ``stopped`` is asked before each: whoever asks the agent to end waits for no more of them.
        """
        folder = Path(self._outside.config.agent.state)
        for path in sorted(folder.glob("jobs/*/job.json")):
            if stopped():
                return
            job = path.parent.name
            if not self.wants(job):
                continue
            try:
                self._seats[job] = self._open(job, path.read_bytes())
            except OSError as error:
                self._log.error("job.unreadable", path=str(path), error=str(error))

    def wants(self, job: str) -> bool:
        """Whether to take part in ``job``; a stranger cannot fill the memory with jobs."""
        wanted = self._outside.config.agent.jobs
        if wanted:
            return job in wanted
        return job in self._seats or len(self._seats) < SEAT_LIMIT

    def take(self, kind: str, said: Struct | Block, *, retained: bool) -> None:
        """The coordinator said something, or the broker had kept it (``retained``)."""
        match said:
            case Block():
                for seat in self._seats.values():
                    seat.block(said)
            case JobNotice() if self.wants(said.job):
                self._offer(said)
            case VersionNotice() | ReleaseNotice() | RoundNotice() if self.wants(said.job):
                self._heard.remember(kind, said, {*self._seats, *self._outside.config.agent.jobs})
                self._pass_on(said, retained=retained)
            case Receipt() | BlobRequest() | Wait() if said.job in self._seats:
                self._seats[said.job].reply(said)

    def text(self, job: str) -> bytes:
        """The canonical text of ``job`` as it is worked on; empty where there is no seat in it."""
        seat = self._seats.get(job)
        return seat.text if seat is not None else b""

    def feed(self, fed: Fed, *, more: bool = False) -> None:
        """A source delivered something, perhaps for a job that is gone.

        Where ``more`` waits, its windows may wait too, until ``settle``.
        """
        if fed.job in self._seats:
            self._seats[fed.job].feed(fed, more=more)

    def settle(self) -> None:
        """No more of the sources waits: score what does."""
        for seat in self._seats.values():
            seat.settle()

    def answer(self, answer: protocol.Answer) -> None:
        """The trainer answered one of the seats."""
        for seat in self._seats.values():
            if seat.answer(answer):
                break

    def trainer_died(self, numbers: tuple[int, ...]) -> None:
        """The trainer ended with these tasks in hand."""
        for seat in self._seats.values():
            seat.trainer_died(numbers)

    def reconnected(self) -> None:
        """The broker has us again."""
        for seat in self._seats.values():
            seat.reconnected()

    def tick(self) -> None:
        """Do what is due about once a second."""
        for seat in self._seats.values():
            guarded(self._log, seat.tick)

    def adopt(self, outside: Outside, found: Sequence[Change]) -> None:
        """Go on with a changed configuration; what ``found`` does not touch goes on as before."""
        self._outside = outside
        anew = touches(found, *ANEW)
        for name, seat in self._seats.items():
            if not anew:
                seat.adopt(outside, named(found, "sources"))
                continue
            self._opening()
            self._seats[name] = seat.renewed(outside, self._log.bind(job=name))
            self._remind(name)

    def phases(self) -> dict[str, JobPhase]:
        """Where the agent stands in each job."""
        return {name: seat.phase() for name, seat in self._seats.items()}

    def drifts(self) -> dict[str, DriftTold]:
        """Where drift stands in each job that watches for it."""
        told = {name: seat.drift() for name, seat in self._seats.items()}
        return {name: each for name, each in told.items() if each is not None}

    def close(self) -> None:
        """Stop the sources and close the stores."""
        for seat in self._seats.values():
            seat.close()

    def _pass_on(self, notice: Notice, *, retained: bool) -> None:
        seat = self._seats.get(notice.job)
        if seat is None:
            return
        if isinstance(notice, VersionNotice):
            seat.version(notice, retained=retained)
        elif isinstance(notice, ReleaseNotice):
            seat.release(notice, retained=retained)
        else:
            seat.round(notice)

    def _remind(self, job: str) -> None:
        """A new seat: what is said of its job came before it, and is not said again."""
        for each in self._heard.of(job):
            guarded(self._log, partial(self._pass_on, each, retained=True))

    def _offer(self, notice: JobNotice) -> None:
        try:
            protocol_number = common(notice.protocol, notice.newest, who="the coordinator")
        except ProtocolError as error:
            self._refuse(notice.job, error)
            return
        seat = self._seats.get(notice.job)
        if seat is not None and seat.text == notice.text:
            seat.hear(notice, protocol_number)
            return
        if seat is not None:
            if not self._readable(notice):
                return
            seat.close()
        self._outside.audit.record(
            who=COORDINATOR,
            what="job.offered",
            subject=notice.job,
            before=sha256(seat.text) if seat is not None else "",
            after=sha256(notice.text),
        )
        self._seats[notice.job] = self._open(notice.job, notice.text)
        self._seats[notice.job].hear(notice, protocol_number)
        self._hurry()
        self._remind(notice.job)

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
        self._outside.send("refusal", Refusal(job=job, reason=kind, text=text[:2000]))

    def _open(self, job: str, text: bytes) -> Seat:
        self._opening()
        return Seat(job, text, self._outside, self._log.bind(job=job))
