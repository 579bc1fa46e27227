# SPDX-License-Identifier: Apache-2.0
"""One agent's part in one job: statistics, rounds, evaluation, and updates that are not lost."""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from msgspec import Struct

from fedmill_agent.inference.deployment import Deployment
from fedmill_agent.residual import Residual
from fedmill_agent.training import protocol
from fedmill_shared.clock import Clock
from fedmill_shared.codec.frame import prefix
from fedmill_shared.errors import FedmillError
from fedmill_shared.files import sha256
from fedmill_shared.job import Job
from fedmill_shared.link.blocks import blocks_of
from fedmill_shared.link.outbox import Outbox, Parcel
from fedmill_shared.log import Logger
from fedmill_shared.messages import (
    EvaluationReport,
    MomentsReport,
    Receipt,
    Refusal,
    RoundNotice,
    UpdateOffer,
)

RESEND_SECONDS = 10.0
"""How long an update waits for its receipt before it is sent again."""


class _Task(TypedDict):
    number: int
    job: bytes
    store: str


@dataclass(frozen=True, slots=True)
class Ports:
    """What a participation may do to the outside; injected, so that tests can watch it.

    Attributes:
        send: publish a message or block of a kind.
        submit: hand work to the trainer.
        number: the next free task number.
    """

    send: Callable[[str, Struct | bytes], None]
    submit: Callable[[protocol.Request], None]
    number: Callable[[], int]


class Participation:
    """Owns the outbox and the residual of one job; asks the trainer and tells the coordinator."""

    def __init__(
        self,
        job: Job,
        text: bytes,
        folder: Path,
        deployment: Deployment,
        ports: Ports,
        *,
        agent: str,
        store: Path,
        clock: Clock,
        log: Logger,
    ) -> None:
        """Continue from what ``folder`` holds; ``store`` is the file with the windows.

        Raises:
            StoreError: the folder cannot be read or written.
        """
        self._job = job
        self._text = text
        self._agent = agent
        self._deployment = deployment
        self._ports = ports
        self._clock = clock
        self._log = log
        self._store = str(store)
        self._outbox = Outbox(folder / "outbox")
        self._residual = Residual(folder)
        self._sent_at: dict[str, float] = {}
        self._trained_for: tuple[int, str] | None = None
        self._round: RoundNotice | None = None
        self._tasks: dict[int, protocol.Request] = {}
        self._evaluation: EvaluationReport | None = None
        self._verdicts: dict[str, bool] = {}
        if self._residual.set_aside is not None:
            log.error("residual.set_aside", path=str(self._residual.set_aside))
        for parcel in self._outbox.parcels():
            self._residual.sent(parcel)
            self._sent_at[parcel.offer.sha256] = -math.inf
            self._trained_for = parcel.offer.round, parcel.offer.base

    @property
    def training(self) -> bool:
        """Whether a round of local work is in hand."""
        return any(isinstance(task, protocol.Train) for task in self._tasks.values())

    def report_moments(self) -> None:
        """Have the statistics of the training windows collected and sent."""
        if not any(isinstance(task, protocol.CollectMoments) for task in self._tasks.values()):
            self._submit(protocol.CollectMoments(**self._task()))

    def warm(self) -> None:
        """Start the training process ahead of the first round."""
        self._submit(protocol.Warm(**self._task()))

    def installed(self) -> None:
        """A version is active: evaluate it if asked to, and train if its round is open."""
        notice = self._deployment.active
        if notice is not None and notice.evaluate:
            self._evaluate(notice.version)
        self._train_if_open()

    def announce_round(self, notice: RoundNotice) -> None:
        """A round opened, closed, or both."""
        if notice.closed:
            self._close(notice)
        self._round = notice
        self._train_if_open()

    def receipt(self, receipt: Receipt) -> None:
        """The coordinator has, or refuses, an update."""
        if receipt.sha256 not in self._outbox:
            return
        self._sent_at[receipt.sha256] = math.inf
        if receipt.fate == "refused":
            self._log.warning("update.refused", round=receipt.round, reason=receipt.reason)
        if receipt.fate != "received":
            # What was refused is unfit: sent again inside the next delta, it would spoil that too.
            self._settle(receipt.sha256, included=receipt.fate in ("included", "refused"))

    def answer(self, answer: protocol.Answer) -> bool:
        """Take what the trainer did; False if it was for somebody else."""
        task = self._tasks.pop(answer.number, None)
        if task is None:
            return False
        outdated = isinstance(answer, protocol.Failed) and self._outdated(task)
        match answer:
            case protocol.MomentsCollected():
                self._ports.send(
                    "moments", MomentsReport(job=self._job.name, moments=answer.moments)
                )
            case protocol.Trained():
                self._trained(task, answer)
            case protocol.Evaluated():
                self._evaluation = EvaluationReport(
                    job=self._job.name,
                    version=answer.version,
                    statistic=answer.statistic,
                    last=answer.last,
                )
                self._ports.send("evaluation", self._evaluation)
            case protocol.Failed() if outdated:
                self._log.info("training.outdated", kind=answer.error, error=answer.message)
            case protocol.Failed():
                self._log.error("training.failed", kind=answer.error, error=answer.message)
                text = answer.message[:2000]
                self._ports.send(
                    "refusal", Refusal(job=self._job.name, reason=answer.error, text=text)
                )
        self._settle_waiting()
        if outdated or isinstance(answer, protocol.Trained):
            self._train_if_open()  # a round may have opened meanwhile
        return True

    def trainer_died(self, numbers: Collection[int]) -> bool:
        """Forget the tasks with these ``numbers``; True if any was ours and is lost."""
        lost = [self._tasks.pop(number) for number in numbers if number in self._tasks]
        self._settle_waiting()
        return bool(lost)

    def reconnected(self) -> None:
        """Offer again whatever has no final receipt."""
        self._sent_at = dict.fromkeys(self._sent_at, -math.inf)
        self.tick()

    def tick(self) -> None:
        """Send again what has had no receipt for too long."""
        now = self._clock.monotonic()
        for digest, sent in list(self._sent_at.items()):
            if now - sent < RESEND_SECONDS:
                continue
            parcel = self._outbox.get(digest)
            if parcel is None:
                del self._sent_at[digest]
            else:
                self._send(parcel)

    def _outdated(self, task: protocol.Request) -> bool:
        """Whether ``task`` is for a version whose weights may have made room for newer ones."""
        match task:
            case protocol.Train():
                version = task.base
            case protocol.Evaluate():
                version = task.version
            case _:
                return False
        return self._deployment.active is None or self._deployment.active.version != version

    def _evaluate(self, version: str) -> None:
        told = self._evaluation
        if told is not None and told.version == version:
            # The coordinator asks again: it restarted, and what it was told may be lost.
            self._ports.send("evaluation", told)
            return
        tasks = self._tasks.values()
        if any(isinstance(task, protocol.Evaluate) and task.version == version for task in tasks):
            return
        self._submit(
            protocol.Evaluate(
                **self._task(),
                weights=self._deployment.weights_path(),
                regimes=self._deployment.regimes(),
                version=version,
            )
        )

    def _train_if_open(self) -> None:
        notice, active = self._round, self._deployment.active
        if notice is None or not notice.round or active is None or active.version != notice.base:
            return
        if self.training or self._trained_for == (notice.round, notice.base):
            return
        schema = self._deployment.manifest().digest
        self._submit(
            protocol.Train(
                **self._task(),
                weights=self._deployment.weights_path(),
                regimes=self._deployment.regimes(),
                base=notice.base,
                schema=schema,
                round=notice.round,
                agent=self._agent,
                residual=self._residual.path(prefix(schema)),
            )
        )

    def _trained(self, task: protocol.Request, answer: protocol.Trained) -> None:
        if not isinstance(task, protocol.Train):
            return
        offer = UpdateOffer(
            job=self._job.name,
            round=task.round,
            base=task.base,
            sha256=sha256(answer.frame),
            size=len(answer.frame),
            examples=answer.examples,
            loss=answer.loss,
            seconds=answer.seconds,
        )
        parcel = Parcel(offer, answer.frame, answer.residual)
        self._outbox.put(parcel)
        self._residual.sent(parcel)
        self._trained_for = offer.round, offer.base
        self._send(parcel)
        self._log.info(
            "update.sent",
            round=offer.round,
            examples=offer.examples,
            bytes=offer.size,
            loss=round(offer.loss, 5),
        )

    def _send(self, parcel: Parcel) -> None:
        self._sent_at[parcel.offer.sha256] = self._clock.monotonic()
        self._ports.send("update", parcel.offer)
        for block in blocks_of(parcel.frame):
            self._ports.send("block", block)

    def _close(self, notice: RoundNotice) -> None:
        """Settle the update of the round that closed; ask again about older ones."""
        for digest in list(self._sent_at):
            parcel = self._outbox.get(digest)
            if parcel is None or parcel.offer.round > notice.closed:
                continue
            if parcel.offer.round == notice.closed:
                included = notice.included.get(self._agent) == digest
                self._settle(digest, included=included)
            else:
                self._sent_at[digest] = -math.inf

    def _settle(self, digest: str, *, included: bool) -> None:
        if self.training:
            # The trainer may have read the residual already: what was added now would be lost.
            self._verdicts[digest] = included
            self._sent_at[digest] = math.inf
            return
        parcel = self._outbox.get(digest)
        if parcel is not None:
            self._residual.settle(parcel, included=included)
        self._outbox.take(digest)
        self._sent_at.pop(digest, None)

    def _settle_waiting(self) -> None:
        """Settle what had to wait for the end of a training."""
        if self.training:
            return
        verdicts, self._verdicts = self._verdicts, {}
        for digest, included in verdicts.items():
            self._settle(digest, included=included)

    def _task(self) -> _Task:
        return {"number": self._ports.number(), "job": self._text, "store": self._store}

    def _submit(self, request: protocol.Request) -> None:
        try:
            self._ports.submit(request)
        except FedmillError as error:
            self._log.error("trainer.unavailable", error=str(error))
            return
        self._tasks[request.number] = request
