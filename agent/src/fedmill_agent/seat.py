# SPDX-License-Identifier: Apache-2.0
"""An agent's seat in one job: its sources, windows, model and part in the rounds, held together."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from msgspec import Struct

from fedmill_agent.config import AgentConfig
from fedmill_agent.inference.deployment import Deployment
from fedmill_agent.inference.scorer import Scorer
from fedmill_agent.inference.shelf import VersionShelf
from fedmill_agent.intake import Intake
from fedmill_agent.participation import Participation, Ports
from fedmill_agent.sources import kinds
from fedmill_agent.sources.runner import SourceEnded, SourceEvent, SourceRunner
from fedmill_agent.store.windows import WindowStore
from fedmill_agent.training import protocol
from fedmill_shared.clock import Clock
from fedmill_shared.errors import DataError, FedmillError, FrameError
from fedmill_shared.files import make_folder, write_atomic
from fedmill_shared.job import Job
from fedmill_shared.job_check import job_from_canonical
from fedmill_shared.link.blocks import Block
from fedmill_shared.log import Logger
from fedmill_shared.messages import (
    JobPhase,
    Join,
    Phase,
    Receipt,
    Refusal,
    RoundNotice,
    VersionNotice,
)
from fedmill_shared.schema import schema_hash

TRAINER_TRIES = 3


@dataclass(frozen=True, slots=True)
class Fed:
    """Something a source delivered to one job."""

    job: str
    event: SourceEvent | SourceEnded


@dataclass(frozen=True, slots=True)
class Outside:
    """What a seat reaches the world with; shared by all seats of an agent."""

    config: AgentConfig
    send: Callable[[str, Struct | bytes], None]
    submit: Callable[[protocol.Request], None]
    number: Callable[[], int]
    feed: Callable[[Fed], bool]
    clock: Clock


class Seat:
    """Owns everything the agent has for one job; a job it cannot serve is refused, once."""

    def __init__(self, name: str, text: bytes, outside: Outside, log: Logger) -> None:
        """Take the seat, or refuse it and say why."""
        self.name = name
        self.text = text
        self._outside = outside
        self._log = log
        self._refusal: FedmillError | None = None
        self._work: _Work | None = None
        self._job_state = "waiting"
        self._ready = False
        self._deaths = 0
        try:
            self._work = _Work(text, outside, log)
        except FedmillError as error:
            self._refuse(error)

    def state(self, state: str) -> None:
        """The coordinator says where the job stands."""
        self._job_state = state
        if self._refusal is not None:
            self._refuse(self._refusal)
        elif self._ready:
            self._join()

    def version(self, notice: VersionNotice, *, retained: bool) -> None:
        """A version was announced."""
        if self._work is not None and self._work.deployment.announce(notice, retained=retained):
            self._work.participation.installed()

    def block(self, block: Block) -> None:
        """A piece of a blob arrived; it may complete a version."""
        if self._work is None:
            return
        try:
            installed = self._work.deployment.receive(block)
        except FrameError as error:
            self._log.warning("block.refused", error=str(error))
            return
        if installed:
            self._work.participation.installed()

    def round(self, notice: RoundNotice) -> None:
        """A round opened or closed."""
        if self._work is not None and self._ready:
            self._work.participation.announce_round(notice)
        elif self._work is not None:
            self._work.round_in_waiting = notice

    def receipt(self, receipt: Receipt) -> None:
        """The coordinator has, or refuses, an update."""
        if self._work is not None:
            self._work.participation.receipt(receipt)

    def answer(self, answer: protocol.Answer) -> bool:
        """The trainer answered; False if another seat had asked."""
        if self._work is None or not self._work.participation.answer(answer):
            return False
        if isinstance(answer, protocol.Failed):
            self._tell_refusal(answer.error, answer.message)
        else:
            self._deaths = 0
        return True

    def trainer_died(self) -> None:
        """The trainer ended with work in hand; it is tried again a few times."""
        if self._work is None or not self._work.participation.trainer_died():
            return
        self._deaths += 1
        if self._deaths >= TRAINER_TRIES:
            self._tell_refusal("TrainerError", f"the training process died {self._deaths} times")
            return
        self._work.participation.installed()

    def feed(self, event: SourceEvent | SourceEnded) -> None:
        """A source delivered something."""
        work = self._work
        if work is None:
            return
        work.intake.accept(event)
        if not self._ready and not work.intake.replaying:
            self._windows_are_there(work)

    def reconnected(self) -> None:
        """The broker has us again."""
        if self._refusal is not None:
            self._refuse(self._refusal)
        if self._work is not None:
            if self._ready:
                self._join()
            self._work.participation.reconnected()

    def tick(self) -> None:
        """Do what is due about once a second."""
        if self._work is not None:
            self._work.deployment.tick()
            self._work.participation.tick()
            if not self._ready and not self._work.intake.replaying:
                self._windows_are_there(self._work)

    def phase(self) -> JobPhase:
        """Where the agent stands in this job, for people and for the coordinator."""
        work = self._work
        if work is None:
            return JobPhase(phase="refused")
        phase: Phase = "joined" if self._ready else "waiting"
        if self._refusal is not None:
            phase = "refused"
        elif work.participation.training:
            phase = "training"
        elif work.intake.replaying:
            phase = "replaying"
        return JobPhase(
            phase=phase,
            version=work.scorer.version,
            windows=_counts(work),
            windows_scored=work.scorer.scored,
            windows_bad=work.intake.bad_windows,
        )

    def close(self) -> None:
        """Stop the sources and close the store."""
        if self._work is not None:
            self._work.close()

    def _windows_are_there(self, work: "_Work") -> None:
        """All that is replayed has been read: join, or say why there is nothing to join with."""
        if work.store.counts().get("train", 0) == 0:
            error = work.intake.failure() or DataError(
                f"agent has no training window for job {self.name}",
                remedy="check the sources with `fedmill-agent check`",
            )
            if self._refusal is None:
                self._refuse(error)
            return
        self._refusal = None
        self._ready = True
        self._log.info("job.joined", windows=_counts(work))
        self._join()
        if work.round_in_waiting is not None:
            work.participation.announce_round(work.round_in_waiting)

    def _join(self) -> None:
        work = self._work
        if work is None or not self._outside.config.training.enabled:
            return
        windows = _counts(work)
        self._outside.send("join", Join(job=self.name, schema=work.schema, windows=windows))
        if self._job_state in ("waiting", "statistics"):
            work.participation.report_moments()
        elif self._job_state == "running":
            work.participation.warm()

    def _refuse(self, error: FedmillError) -> None:
        if self._refusal is None:
            self._log.error("job.refused", kind=type(error).__name__, error=str(error))
        self._refusal = error
        self._tell_refusal(type(error).__name__, str(error))

    def _tell_refusal(self, reason: str, text: str) -> None:
        self._outside.send("refusal", Refusal(job=self.name, reason=reason, text=text[:2000]))


def _counts(work: "_Work") -> dict[str, int]:
    return {str(split): count for split, count in work.store.counts().items()}


class _Work:
    """The parts of a seat that exist once its job is accepted."""

    def __init__(self, text: bytes, outside: Outside, log: Logger) -> None:
        self.job: Job = job_from_canonical(text)
        self.schema = schema_hash(self.job)
        self.round_in_waiting: RoundNotice | None = None
        config, clock = outside.config, outside.clock
        folder = make_folder(Path(config.agent.state) / "jobs" / self.job.name)
        write_atomic(folder / "job.json", text)
        self.store = WindowStore(
            folder / "windows.sqlite",
            clock=clock,
            max_bytes=config.store.max_bytes,
            max_age_seconds=config.store.max_age_days * 86400.0,
        )
        try:
            self.scorer = Scorer(clock)
            self.intake = Intake(self.job, config, self.store, self.scorer, log)
            self.deployment = Deployment(
                VersionShelf(folder / "versions"),
                self.scorer,
                request=lambda request: outside.send("request", request),
                clock=clock,
                log=log,
            )
            ports = Ports(send=outside.send, submit=outside.submit, number=outside.number)
            self.participation = Participation(
                self.job,
                text,
                folder,
                self.deployment,
                ports,
                agent=config.agent.id,
                clock=clock,
                log=log,
            )
            self.deployment.resume()
            self._runners = [self._runner(source.name, outside) for source in config.sources]
        except FedmillError:
            self.store.close()
            raise
        for runner in self._runners:
            runner.start()

    def close(self) -> None:
        for runner in self._runners:
            runner.stop()
        for runner in self._runners:
            runner.join(0.5)
        self.store.close()

    def _runner(self, name: str, outside: Outside) -> SourceRunner:
        source = next(s for s in outside.config.sources if s.name == name)
        kind = next(k for k in kinds().values() if isinstance(source, k.options))
        job = self.job.name
        return SourceRunner(
            kind,
            source,
            self.intake.tags(name),
            self.job.signals[0].rate_hz,
            sink=lambda event: outside.feed(Fed(job, event)),
            clock=outside.clock,
        )
