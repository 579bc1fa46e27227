# SPDX-License-Identifier: Apache-2.0
"""An agent's seat in one job: whether it takes part, what it hears, and what it says of itself."""

import math
from collections.abc import Callable, Collection
from functools import partial

from fedmill_agent.cutter import MOST_FAULTS
from fedmill_agent.drift.told import DriftTold
from fedmill_agent.memory import return_memory
from fedmill_agent.outside import Outside
from fedmill_agent.sources.runner import SourceEnded
from fedmill_agent.streams import Fed
from fedmill_agent.training import protocol
from fedmill_agent.work import Work
from fedmill_shared.errors import FedmillError, FrameError
from fedmill_shared.job_check import job_from_canonical
from fedmill_shared.link.blocks import Block
from fedmill_shared.log import Logger
from fedmill_shared.messages import (
    BlobRequest,
    JobNotice,
    JobPhase,
    Join,
    Phase,
    Receipt,
    Refusal,
    ReleaseNotice,
    RoundNotice,
    VersionNotice,
    Wait,
)
from fedmill_shared.selector import labels_of, parse

TRAINER_TRIES = 3
LOOK_SECONDS = 5.0
"""How often an agent whose windows have no label yet looks whether one has come."""
LOSS_SECONDS = 60.0
"""How often it is told that windows are lost."""
LONGEST_SPREAD = 60.0
MOST_TEXT = 2000
"""Characters of a reason that messages have room for."""
ENDED = ("finished", "stopped")


class Seat:
    """Owns everything the agent has for one job; a job it cannot serve is refused."""

    def __init__(self, name: str, text: bytes, outside: Outside, log: Logger) -> None:
        """Take the seat, or refuse it; ``hear`` and ``reconnected`` tell the coordinator."""
        self.name = name
        self.text = text
        self._outside = outside
        self._log = log
        self._learns = outside.config.training.enabled
        self._refusal: FedmillError | None = None
        self._work: Work | None = None
        self._job_state = "waiting"
        self._heard: tuple[JobNotice, int] | None = None
        self._ready = False
        self._round: RoundNotice | None = None
        self._deaths = 0
        self._look_due = 0.0
        self._loss_due = 0.0
        self._present_due = math.inf
        self._unselected = ""
        try:
            job = job_from_canonical(text)
            own = outside.config.agent
            labels = labels_of(own.id, own.labels)
            self._unselected = parse(job.federation.select).unmet(labels)
            if self._unselected:
                log.info("job.not_selected", reason=self._unselected)
            else:
                self._work = Work(name, text, outside, log, arrived=self._installed)
        except FedmillError as error:
            self._refuse(error)

    def renewed(self, outside: Outside, log: Logger) -> "Seat":
        """The same seat with a changed configuration; this one is closed.

        It knows where the job stands, and must be told of versions and rounds.
        """
        self.close()
        seat = Seat(self.name, self.text, outside, log)
        if self._heard is not None:
            seat.hear(*self._heard)
        return seat

    def adopt(self, outside: Outside, names: Collection[str]) -> None:
        """Go on with a changed configuration, of which the sources called ``names`` are others."""
        self._outside = outside
        if self._work is None:
            return
        try:
            self._work.adopt(outside, names)
        except FedmillError as error:
            self._log.error("source.refused", kind=type(error).__name__, error=str(error))

    def hear(self, notice: JobNotice, protocol: int) -> None:
        """The coordinator says where the job stands, and what ``protocol`` we have in common.

        It may have just started, and not know of us: what it must be told is told again, not by
        all agents in the same moment.
        """
        self._job_state = notice.state
        self._heard = notice, protocol
        if self._work is not None:
            self._work.participation.delivery.protocol = protocol
            self._work.participation.election.over = notice.state in ENDED
        now = self._outside.clock.monotonic()
        self._present_due = now + self._outside.jitter(min(notice.spread, LONGEST_SPREAD))
        if not notice.spread:
            self._introduce()

    def version(self, notice: VersionNotice, *, retained: bool) -> None:
        """A version was announced."""
        work = self._work
        if work is None:
            return
        work.deployment.announce(notice, retained=retained)
        self._want_form(work, notice)

    def release(self, notice: ReleaseNotice, *, retained: bool) -> None:
        """A version is to be served, by us if our ring is open."""
        if notice.agents is not None and self._outside.config.agent.id not in notice.agents:
            return
        if self._work is not None:
            self._work.deployment.release(notice, retained=retained)
            if self._outside.verifier.signed:  # the version came before what permits its form
                self._want_form(self._work, notice.notice)

    def block(self, block: Block) -> None:
        """A piece of a blob arrived; it may complete a version."""
        work = self._work
        if work is None:
            return
        try:
            work.deployment.receive(block)
            if work.equipment.int8 is not None:
                work.equipment.int8.form.receive(block)
        except FrameError as error:
            self._log.warning("block.refused", error=str(error))

    def round(self, notice: RoundNotice) -> None:
        """A round opened or closed."""
        if self._work is not None and self._ready:
            self._work.participation.announce_round(notice)
        self._round = notice

    def reply(self, reply: Receipt | BlobRequest | Wait) -> None:
        """The coordinator has an update, refuses it, lacks blocks of it, or is busy."""
        if self._work is None:
            return
        delivery = self._work.participation.delivery
        match reply:
            case Receipt():
                delivery.receipt(reply)
            case BlobRequest():
                delivery.request(reply)
            case Wait():
                delivery.wait(reply)

    def answer(self, answer: protocol.Answer) -> bool:
        """The trainer answered; False if another seat had asked."""
        if self._work is None or not self._work.participation.answer(answer):
            return False
        if not isinstance(answer, protocol.Failed):
            self._deaths = 0
        return True

    def trainer_died(self, numbers: tuple[int, ...]) -> None:
        """The trainer ended with these tasks in hand; ours are tried again a few times."""
        work = self._work
        if work is None or not work.participation.trainer_died(numbers):
            return
        self._deaths += 1
        if self._deaths >= TRAINER_TRIES:
            self._tell_refusal("TrainerError", f"the training process died {self._deaths} times")
            return
        self._prepare(work)
        self._installed()

    def feed(self, fed: Fed, *, more: bool = False) -> None:
        """A source delivered something, perhaps before the job was changed.

        Where ``more`` of the sources waits, its windows may wait too, until ``settle``.
        """
        work = self._work
        if work is None or fed.ticket != work.streams.ticket(fed.event.source):
            return
        self._keep(partial(work.intake.accept, fed.event, handed=fed.handed, more=more))
        if isinstance(fed.event, SourceEnded):
            work.streams.start_next(fed.event.source)
            self._look_for_windows(work)

    def settle(self) -> None:
        """Score and store the windows that wait."""
        if self._work is not None:
            self._keep(self._work.intake.settle)

    def reconnected(self) -> None:
        """The broker has us again."""
        self._introduce()

    def tick(self) -> None:
        """Do what is due about once a second."""
        work = self._work
        if self._outside.clock.monotonic() >= self._present_due:
            self._introduce()
        if work is not None:
            work.tick()
            if self._outside.clock.monotonic() >= self._look_due:
                self._look_for_windows(work)

    def phase(self) -> JobPhase:
        """Where the agent stands in this job, for people and for the coordinator."""
        work = self._work
        if work is None:
            return JobPhase(phase="refused", ineligible=self._unselected or self._refused())
        phase: Phase = "joined" if self._ready else "waiting"
        if self._refusal is not None:
            phase = "refused"
        elif work.participation.training:
            phase = "training"
        elif work.intake.replaying:
            phase = "replaying"
        followed, choice = work.deployment.followed, work.deployment.serving.choice
        int8 = work.equipment.int8
        return JobPhase(
            phase=phase,
            version=followed.version if followed is not None else "",
            windows=_counts(work),
            windows_scored=work.scorer.scored,
            windows_bad=work.intake.bad_windows,
            windows_skipped=work.intake.skipped_windows,
            faults=dict(work.intake.faults.most_common(MOST_FAULTS)),
            ineligible=self._ineligible(work) or self._refused(),
            served=choice.candidate if choice is not None else "",
            scores=choice.scores if choice is not None else {},
            install=work.deployment.installer.report(),
            int8=int8.figures if int8 is not None else {},
            updates_waiting=work.participation.delivery.waiting,
            alarms_raised=work.equipment.alarms_raised,
            drift=work.equipment.drift.told().standing if work.equipment.drift is not None else "",
        )

    def drift(self) -> DriftTold | None:
        """Where drift stands; None where nothing is watched."""
        watch = self._work.equipment.drift if self._work is not None else None
        return None if watch is None else watch.told()

    def close(self) -> None:
        """Stop the sources and close the store."""
        if self._work is not None:
            self.settle()
            self._work.close()

    def _want_form(self, work: Work, notice: VersionNotice) -> None:
        """Fetch the int8 form of a version, if it is one that may score here."""
        if work.equipment.int8 is not None:
            form = notice.quantised
            known = form is None or self._outside.verifier.permits(self.name, form.sha256)
            work.equipment.int8.form.want(form if known else None)

    def _keep(self, windows: Callable[[], None]) -> None:
        try:
            windows()
        except FedmillError as error:
            if self._work is not None:
                self._work.deployment.installer.faulted(error)
            now = self._outside.clock.monotonic()
            if now >= self._loss_due:  # a full disk fails a million windows
                self._loss_due = now + LOSS_SECONDS
                self._log.error("windows.lost", kind=type(error).__name__, error=str(error))

    def _installed(self) -> None:
        # Before all recordings are read, a version would be scored on some held-out windows only.
        if self._ready and self._work is not None:
            self._work.participation.installed()

    def _look_for_windows(self, work: Work) -> None:
        """Once all recordings are read: join, or say why there is nothing to join with."""
        if self._ready or not self._learns or work.intake.replaying:
            return
        if work.learnable() >= work.job.federation.min_examples:
            self._refusal = None
            self._ready = True
            return_memory()
            self._log.info("job.joined", windows=_counts(work))
            self._present()
            if self._round is not None:
                work.participation.announce_round(self._round)
            self._installed()
            return
        self._look_due = self._outside.clock.monotonic() + LOOK_SECONDS
        if work.intake.exhausted and self._refusal is None:
            self._refuse(work.nothing_to_learn(), told=work.intake.complained)
            self._present()

    def _ineligible(self, work: Work) -> str:
        """Why the agent does not train at present; empty if it would."""
        if not self._learns:
            return "training is switched off below [training]"
        wanted = work.job.federation.min_examples
        if not self._ready and wanted > 1 and not work.intake.replaying:
            return f"{work.learnable()} {work.job.learns_from}, {wanted} wanted"
        return work.participation.delivery.obstacle or self._outside.obstacle()

    def _refused(self) -> str:
        """Why the job was refused; empty if it was not."""
        return str(self._refusal)[:MOST_TEXT] if self._refusal is not None else ""

    def _introduce(self) -> None:
        """Tell a coordinator that may not know us all that it must know."""
        self._present_due = math.inf
        self._present()
        if self._work is not None:
            self._work.participation.delivery.reconnected()

    def _present(self) -> None:
        """Tell the coordinator that the agent takes part, or why it does not."""
        work = self._work
        if self._refusal is not None:
            self._tell_refusal(type(self._refusal).__name__, str(self._refusal))
        elif work is not None and self._ready:
            join = Join(job=self.name, schema=work.schema, windows=_counts(work))
            self._outside.send("join", join)
            self._prepare(work)

    def _prepare(self, work: Work) -> None:
        """Have the trainer do what the state of the job asks for."""
        if self._job_state in ("waiting", "statistics"):
            work.participation.report_moments()
        elif self._job_state == "running":
            work.participation.warm()

    def _refuse(self, error: FedmillError, *, told: bool = False) -> None:
        """``told``: the cause is an error in the log already, this is only what follows from it."""
        log = self._log.warning if told else self._log.error
        log("job.refused", kind=type(error).__name__, error=str(error))
        self._refusal = error

    def _tell_refusal(self, reason: str, text: str) -> None:
        self._outside.send("refusal", Refusal(job=self.name, reason=reason, text=text[:MOST_TEXT]))


def _counts(work: Work) -> dict[str, int]:
    return {str(split): count for split, count in work.store.counts().items()}
