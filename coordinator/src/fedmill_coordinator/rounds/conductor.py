# SPDX-License-Identifier: Apache-2.0
"""Carries one job from its statistics through its rounds to its last evaluation.

``machine.decide`` says what to do; this class does it, durably first and aloud afterwards, so that
a kill between any two lines leaves a state that the next start continues from.
"""

from msgspec import json, structs

from fedmill_coordinator.fleet import Fleet
from fedmill_coordinator.registry.releases import Releases
from fedmill_coordinator.rounds.machine import Decision, View, decide
from fedmill_coordinator.rounds.reception import Reception, receipt_for
from fedmill_coordinator.rounds.results import (
    Past,
    aggregate,
    closed_record,
    evaluation_records,
    past_of,
    received_for,
    round_notice,
)
from fedmill_coordinator.rounds.statistics import Statistics
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.store.records import UPDATE_REFUSED, JobState, RefusalRecord, RoundRecord
from fedmill_coordinator.traffic import Traffic
from fedmill_coordinator.voice import Voice
from fedmill_shared.clock import Clock
from fedmill_shared.errors import DataError, FrameError, ModelError
from fedmill_shared.job import Job
from fedmill_shared.link.blocks import Block
from fedmill_shared.log import Logger
from fedmill_shared.messages import (
    BlobRequest,
    EvaluationReport,
    JobNotice,
    Join,
    MomentsReport,
    Receipt,
    Refusal,
    UpdateOffer,
)
from fedmill_shared.schema import schema_hash

ABANDONED_IN_A_ROW = 3
FOREIGN_SCHEMA = "signals, units or classes differ from the job's"


class Conductor:
    """Owns one job's progress."""

    def __init__(
        self,
        job: Job,
        text: bytes,
        *,
        store: Store,
        blobs: Blobs,
        fleet: Fleet,
        traffic: Traffic,
        voice: Voice,
        clock: Clock,
        log: Logger,
    ) -> None:
        """Continue the job from what the store holds."""
        self.job = job
        self._text = text
        self._store = store
        self._blobs = blobs
        self._fleet = fleet
        self._traffic = traffic
        self._voice = voice
        self._clock = clock
        self._log = log
        self._reception = Reception(job.name, store, blobs, clock)
        self._releases = Releases(job, store, blobs, voice, clock)
        self._statistics = Statistics(job, store, clock)
        self._schema = schema_hash(job)
        self._state: JobState = "waiting"
        self._round: RoundRecord | None = None
        self._past = Past()
        self._deadline = 0.0
        self._joined: set[str] = set()
        self._done: set[str] = set()
        self._excused: set[str] = set()  # agents that cannot deliver in this phase
        self._foreign: set[str] = set()  # agents whose signals are not the job's
        self._restore()

    def announce(self) -> None:
        """Say everything that agents may have missed; retained, so that each hears it."""
        self._voice.broadcast(self.job.name, "job", self._job_notice())
        if self._releases.ready:
            evaluate = self._evaluate_after(self._past.last)
            self._releases.announce(evaluate=evaluate, with_delta=False)
            self._announce_round()

    # What agents say

    def join(self, agent: str, join: Join) -> None:
        """An agent has windows and wants to take part."""
        if join.schema != self._schema:
            self._foreign.add(agent)
            self._joined.discard(agent)
            self._note(agent, "schema", FOREIGN_SCHEMA)
            return
        self._foreign.discard(agent)
        self._excused.discard(agent)
        self._joined.add(agent)
        self._log.info("agent.joined", agent=agent, windows=json.encode(join.windows).decode())

    def refuse(self, agent: str, refusal: Refusal) -> None:
        """An agent cannot take part, or its training failed."""
        self._joined.discard(agent)
        self._excused.add(agent)
        self._note(agent, refusal.reason, refusal.text)

    def moments(self, agent: str, report: MomentsReport) -> None:
        """An agent's statistics arrived.

        Raises:
            FrameError: they are impossible.
        """
        if self._state not in ("waiting", "statistics") or agent in self._foreign:
            return
        try:
            self._statistics.take(agent, report)
        except FrameError as error:
            self._excused.add(agent)
            self._note(agent, "moments", str(error))
            raise
        self._done.add(agent)
        if self._state == "waiting":
            self._enter("statistics")
            self._deadline = self._clock.monotonic() + self.job.federation.deadline_seconds
        self._log.info("moments.received", agent=agent, agents=len(self._done))

    def offer(self, agent: str, offer: UpdateOffer) -> None:
        """An agent announces an update."""
        if agent in self._foreign:
            self._answer(agent, receipt_for(offer, "refused", FOREIGN_SCHEMA), attempt=False)
        elif self._releases.ready:
            receipt = self._reception.offer(agent, offer, self._round, self._releases.learned)
            if receipt is not None:
                fits = self._round is not None and offer.base == self._round.base
                self._answer(agent, receipt, attempt=fits)

    def block(self, agent: str, block: Block) -> bool:
        """A piece of an update arrived; False if it belongs to no update of this job."""
        if not self._reception.expects(agent, block.blob):
            return False
        receipt = self._reception.block(
            agent, block, self._round, self._releases.learned, self._releases.layout
        )
        if receipt is not None:
            self._answer(agent, receipt, attempt=True)
        return True

    def evaluation(self, agent: str, report: EvaluationReport) -> None:
        """An agent scored a version on its held-out windows.

        Raises:
            FrameError: what it reports does not fit the job.
        """
        unknown = self._store.version(self.job.name, report.version) is None
        if unknown or agent in self._foreign:
            return
        for record in evaluation_records(self.job, agent, report, self._clock.now_ns()):
            self._store.save_evaluation(record)
        if self._round is None and report.version == self._releases.version:
            self._done.add(agent)

    def request(self, agent: str, request: BlobRequest) -> None:
        """An agent lacks blocks of the current version.

        Raises:
            FrameError: what it asks for is not on offer.
        """
        for block in self._releases.blocks(request):
            self._voice.tell(self.job.name, agent, "block", block)

    # What time says

    def step(self) -> None:
        """Do whatever is due, until nothing is."""
        while (decision := decide(self._view())) is not Decision.WAIT:
            try:
                self._carry_out(decision)
            except (ModelError, DataError) as error:
                self._abandon(error)

    def _carry_out(self, decision: Decision) -> None:
        match decision:
            case Decision.AGREE:
                self._agree()
            case Decision.OPEN_ROUND:
                self._open_round()
            case Decision.CLOSE_ROUND:
                self._close_round()
            case Decision.EXTEND_ROUND:
                self._extend_round()
            case Decision.FINISH:
                self._finish()
            case Decision.WAIT:
                return

    def _view(self) -> View:
        federation = self.job.federation
        present = self._fleet.on_job(self.job.name) - self._foreign
        ready = present & self._joined
        expected = present if self._state in ("waiting", "statistics") else ready
        return View(
            state=self._state,
            minimum=federation.minimum,
            goal=federation.goal,
            done=len(self._done),
            expected=len(expected - self._done - self._excused),
            ready=len(ready),
            round_open=self._round is not None,
            rounds_left=federation.rounds - self._past.last,
            now=self._clock.monotonic(),
            deadline=self._deadline,
            quiet_since=self._fleet.changed_at,
        )

    def _agree(self) -> None:
        """Merge the statistics and make version 0 of them."""
        normaliser = self._statistics.agree()
        self._releases.create(normaliser)
        self._enter("running")
        self._log.info("statistics.agreed", agents=len(self._done), regimes=normaliser.regimes)
        self._begin_phase()
        self._releases.announce(evaluate=self._evaluate_after(0), with_delta=False)

    def _open_round(self) -> None:
        number = self._past.last + 1
        now = self._clock.now_ns()
        record = RoundRecord(
            job=self.job.name,
            round=number,
            base=self._releases.version,
            state="open",
            opened_ns=now,
            deadline_ns=now + round(self.job.federation.deadline_seconds * 1e9),
        )
        self._store.open_round(record)
        self._round = record
        self._begin_phase()
        self._announce_round()
        self._log.debug("round.opened", round=number, base=record.base[:12])

    def _extend_round(self) -> None:
        if self._round is None:
            return
        seconds = self.job.federation.deadline_seconds
        deadline_ns = self._clock.now_ns() + round(seconds * 1e9)
        self._store.extend_round(self.job.name, self._round.round, deadline_ns)
        self._round = structs.replace(self._round, deadline_ns=deadline_ns)
        self._deadline = self._clock.monotonic() + seconds
        self._log.warning(
            "round.extended",
            round=self._round.round,
            updates=len(self._done),
            minimum=self.job.federation.minimum,
        )
        self._announce_round()

    def _close_round(self) -> None:
        if self._round is None:
            return
        received = received_for(self._store, self._round)
        job = self._store.job(self.job.name)
        rule_state = job.rule_state if job is not None else b""
        result = aggregate(self.job, rule_state, received, self._blobs, self._releases.learned)
        closed = closed_record(
            self._round,
            received,
            result.report,
            now_ns=self._clock.now_ns(),
            traffic=self._traffic.so_far(self.job.name),
        )
        made = self._releases.advance(result.delta, closed, rule_state=result.rule_state)
        self._traffic.clear(self.job.name)
        past = Past(closed.round, {update.agent: update.sha256 for update in received})
        self._log.info(
            "round.closed",
            round=closed.round,
            updates=len(received),
            examples=result.report.examples,
            seconds=closed.seconds,
            uplink_bytes=closed.uplink_bytes,
            downlink_bytes=closed.downlink_bytes,
        )
        self._go_on(past, with_delta=made)

    def _abandon(self, error: ModelError | DataError) -> None:
        """A round whose result is no model is ended without one; three in a row stop the job."""
        self._log.error("round.abandoned", error=str(error))
        if self._round is None:
            self._enter("stopped")
            return
        report = json.encode({"error": str(error)}).decode()
        self._store.abandon_round(
            self.job.name, self._round.round, closed_ns=self._clock.now_ns(), report=report
        )
        past = Past(self._round.round, abandoned=self._past.abandoned + 1)
        if past.abandoned >= ABANDONED_IN_A_ROW:
            self._enter("stopped")
        self._go_on(past, with_delta=False)

    def _go_on(self, past: Past, *, with_delta: bool) -> None:
        """The open round has ended: tell what became of it, and open the next."""
        self._round, self._past = None, past
        evaluate = self._evaluate_after(past.last)
        self._releases.announce(evaluate=evaluate, with_delta=with_delta)
        if self._state == "running" and past.last < self.job.federation.rounds:
            self._open_round()
        else:
            self._begin_phase()
            self._announce_round()

    def _finish(self) -> None:
        self._releases.promote()
        self._enter("finished")
        self._announce_round()
        self._log.info("job.finished", rounds=self._past.last, version=self._releases.version[:12])

    # Parts

    def _restore(self) -> None:
        record = self._store.job(self.job.name)
        self._state = record.state if record is not None else "waiting"
        stopped_later = self._state == "stopped" and self._store.versions(self.job.name)
        if self._state in ("running", "finished") or stopped_later:
            self._releases.restore()
        self._round = self._store.current_round(self.job.name)
        self._past = past_of(self._store, self.job.name)
        self._begin_phase()
        if self._round is not None:
            left = (self._round.deadline_ns - self._clock.now_ns()) / 1e9
            left = min(max(0.0, left), self.job.federation.deadline_seconds)
            self._deadline = self._clock.monotonic() + left

    def _begin_phase(self) -> None:
        """Something new is to be collected, from everybody, until a new deadline."""
        self._done = self._delivered()
        self._excused.clear()
        self._deadline = self._clock.monotonic() + self.job.federation.deadline_seconds

    def _delivered(self) -> set[str]:
        if self._state in ("waiting", "statistics"):
            return self._statistics.agents()
        if self._round is not None:
            return {update.agent for update in received_for(self._store, self._round)}
        if not self._releases.ready:
            return set()
        return {e.agent for e in self._store.evaluations(self.job.name, self._releases.version)}

    def _evaluate_after(self, round_: int) -> bool:
        every = self.job.evaluation.every
        return round_ >= self.job.federation.rounds or (every > 0 and round_ % every == 0)

    def _answer(self, agent: str, receipt: Receipt, *, attempt: bool) -> None:
        """``attempt``: the update starts from the version that is asked for; there is no other."""
        if receipt.fate == "received":
            self._done.add(agent)
            self._joined.add(agent)
        elif receipt.fate == "refused":
            self._note(agent, UPDATE_REFUSED, receipt.reason)
            if attempt and self._round is not None and self._round.round == receipt.round:
                self._excused.add(agent)
        self._voice.tell(self.job.name, agent, "receipt", receipt)

    def _note(self, agent: str, reason: str, text: str) -> None:
        record = RefusalRecord(
            job=self.job.name,
            agent=agent,
            reason=reason,
            text=text,
            received_ns=self._clock.now_ns(),
        )
        self._store.add_refusal(record)
        self._log.warning("agent.refused", agent=agent, reason=reason, text=text)

    def _enter(self, state: JobState) -> None:
        self._state = state
        self._store.update_job(self.job.name, updated_ns=self._clock.now_ns(), state=state)
        self._voice.broadcast(self.job.name, "job", self._job_notice())

    def _job_notice(self) -> JobNotice:
        return JobNotice(job=self.job.name, text=self._text, state=self._state)

    def _announce_round(self) -> None:
        notice = round_notice(self.job.name, self._round, self._past)
        self._voice.broadcast(self.job.name, "round", notice)
