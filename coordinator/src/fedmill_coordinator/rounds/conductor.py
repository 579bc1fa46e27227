# SPDX-License-Identifier: Apache-2.0
"""Carries one job from its statistics through its rounds to its last evaluation.

``machine.decide`` says what to do; this class does it, durably first and aloud afterwards, so that
a kill between any two lines leaves a state that the next start continues from.
"""

from collections.abc import Iterator

import numpy as np
from msgspec import Struct, json, msgpack

from fedmill_coordinator.aggregation import RULES, Report, State, Update
from fedmill_coordinator.fleet import Fleet
from fedmill_coordinator.registry.releases import Releases
from fedmill_coordinator.rounds.machine import Decision, View, decide
from fedmill_coordinator.rounds.reception import Reception
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.store.records import (
    EvaluationRecord,
    JobState,
    MomentsRecord,
    RefusalRecord,
    RoundRecord,
    UpdateRecord,
)
from fedmill_coordinator.traffic import Traffic
from fedmill_coordinator.voice import Voice
from fedmill_shared.clock import Clock
from fedmill_shared.codec.frame import decode_frame
from fedmill_shared.errors import ModelError
from fedmill_shared.job import Job
from fedmill_shared.link.blocks import BLOB_LIMIT, Block
from fedmill_shared.log import Logger
from fedmill_shared.messages import (
    BlobRequest,
    EvaluationReport,
    JobNotice,
    Join,
    MomentsReport,
    Receipt,
    Refusal,
    RoundNotice,
    UpdateOffer,
)
from fedmill_shared.schema import schema_hash
from fedmill_shared.signals import moments as statistics
from fedmill_shared.signals.agreement import normaliser_of

ABANDONED_IN_A_ROW = 3


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
        self._schema = schema_hash(job)
        self._joined: set[str] = set()
        self._abandoned = 0
        self._result: tuple[int, dict[str, str]] = (0, {})
        self._deadline = clock.monotonic() + job.federation.deadline_seconds
        record = store.job(job.name)
        self._state: JobState = record.state if record is not None else "waiting"
        self._round = store.current_round(job.name)
        self._last_closed = max(
            (r.round for r in store.rounds(job.name) if r.state != "open"), default=0
        )
        self._done = self._delivered()
        if self._state in ("running", "finished"):
            self._releases.restore()
        if self._round is not None:
            self._deadline = clock.monotonic() + self._left(self._round)

    @property
    def finished(self) -> bool:
        """Whether the job has ended."""
        return self._state in ("finished", "stopped")

    def announce(self) -> None:
        """Say everything that agents may have missed; retained, so that each hears it."""
        self._voice.broadcast(self.job.name, "job", self._job_notice())
        if self._releases.ready:
            self._releases.announce(
                evaluate=self._evaluate_after(self._last_closed), with_delta=False
            )
            self._announce_round()

    # What agents say

    def join(self, agent: str, join: Join) -> None:
        """An agent has windows and wants to take part."""
        if join.schema != self._schema:
            self._voice_refusal(agent, "schema", "signals, units or classes differ from the job's")
            return
        self._joined.add(agent)
        self._log.info("agent.joined", agent=agent, windows=json.encode(join.windows).decode())

    def refuse(self, agent: str, refusal: Refusal) -> None:
        """An agent cannot take part, or its training failed."""
        record = RefusalRecord(
            job=self.job.name,
            agent=agent,
            reason=refusal.reason,
            text=refusal.text,
            received_ns=self._clock.now_ns(),
        )
        self._store.add_refusal(record)
        self._joined.discard(agent)
        self._log.warning("agent.refused", agent=agent, reason=refusal.reason, text=refusal.text)

    def moments(self, agent: str, report: MomentsReport) -> None:
        """An agent's statistics arrived.

        Raises:
            FrameError: they are impossible.
        """
        statistics.validate(
            report.moments, signals=len(self.job.signals), regimes=len(self._regimes)
        )
        if self._state not in ("waiting", "statistics"):
            return
        record = MomentsRecord(
            job=self.job.name,
            agent=agent,
            payload=msgpack.encode(report.moments),
            received_ns=self._clock.now_ns(),
        )
        self._store.save_moments(record)
        self._done.add(agent)
        if self._state == "waiting":
            self._enter("statistics")
            self._deadline = self._clock.monotonic() + self.job.federation.deadline_seconds
        self._log.info("moments.received", agent=agent, agents=len(self._done))

    def offer(self, agent: str, offer: UpdateOffer) -> None:
        """An agent announces an update."""
        if self._releases.ready:
            self._answer(
                agent, self._reception.offer(agent, offer, self._round, self._releases.learned)
            )

    def block(self, agent: str, block: Block) -> None:
        """A piece of an update arrived."""
        if self._releases.ready:
            receipt = self._reception.block(
                agent, block, self._round, self._releases.learned, self._releases.layout
            )
            self._answer(agent, receipt)

    def evaluation(self, agent: str, report: EvaluationReport) -> None:
        """An agent scored a version on its held-out windows."""
        if self._store.version(self.job.name, report.version) is None:
            return
        for split, statistic in (("test", report.statistic), ("test-last", report.last)):
            record = EvaluationRecord(
                job=self.job.name,
                version=report.version,
                agent=agent,
                split=split,
                statistic=msgpack.encode(statistic),
                windows=statistic.count,
                received_ns=self._clock.now_ns(),
            )
            self._store.save_evaluation(record)
        if self._round is None and report.version == self._releases.version:
            self._done.add(agent)

    def request(self, agent: str, request: BlobRequest) -> None:
        """An agent lacks blocks of the current version."""
        for block in self._releases.blocks(request):
            self._voice.tell(self.job.name, agent, "block", block)

    # What time says

    def step(self) -> None:
        """Do whatever is due, until nothing is."""
        while True:
            decision = decide(self._view())
            if decision is Decision.WAIT:
                return
            try:
                self._carry_out(decision)
            except ModelError as error:
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
        present = self._fleet.on_job(self.job.name)
        ready = present & self._joined
        expected = present if self._state in ("waiting", "statistics") else ready
        return View(
            state=self._state,
            minimum=federation.minimum,
            goal=federation.goal,
            done=len(self._done),
            expected=len(expected - self._done),
            ready=len(ready),
            round_open=self._round is not None,
            rounds_left=federation.rounds - self._last_closed,
            now=self._clock.monotonic(),
            deadline=self._deadline,
            quiet_since=self._fleet.changed_at,
        )

    def _agree(self) -> None:
        """Merge the statistics and make version 0 of them."""
        told = [
            msgpack.decode(record.payload, type=statistics.Moments)
            for record in self._store.moments(self.job.name)
        ]
        normaliser = normaliser_of(self.job, told)
        self._releases.create(normaliser)
        self._store.update_job(
            self.job.name,
            updated_ns=self._clock.now_ns(),
            normaliser=msgpack.encode(normaliser),
            state="running",
        )
        self._state = "running"
        self._log.info("statistics.agreed", agents=len(self._done), regimes=len(normaliser.mean))
        self._done = set()
        self._voice.broadcast(self.job.name, "job", self._job_notice())
        self._releases.announce(evaluate=self.job.evaluation.every > 0, with_delta=False)

    def _open_round(self) -> None:
        number = self._last_closed + 1
        now = self._clock.now_ns()
        seconds = self.job.federation.deadline_seconds
        record = RoundRecord(
            job=self.job.name,
            round=number,
            base=self._releases.version,
            state="open",
            opened_ns=now,
            deadline_ns=now + round(seconds * 1e9),
        )
        self._store.open_round(record)
        self._round = record
        self._done = set()
        self._deadline = self._clock.monotonic() + seconds
        self._announce_round()
        self._log.debug("round.opened", round=number, base=record.base[:12])

    def _extend_round(self) -> None:
        if self._round is None:
            return
        seconds = self.job.federation.deadline_seconds
        deadline_ns = self._clock.now_ns() + round(seconds * 1e9)
        self._store.extend_round(self.job.name, self._round.round, deadline_ns)
        self._deadline = self._clock.monotonic() + seconds
        self._log.warning(
            "round.extended",
            round=self._round.round,
            updates=len(self._done),
            minimum=self.job.federation.minimum,
        )
        self._announce_round()

    def _close_round(self) -> None:
        current = self._round
        if current is None:
            return
        received = self._received(current)
        record = self._store.job(self.job.name)
        rule = RULES[self.job.federation.rule]
        state = rule.init(self._releases.learned)
        if record is not None and record.rule_state:
            state = msgpack.decode(record.rule_state, type=State)
        delta, state, report = rule.step(state, self._stream(received), self.job.federation)
        closed = self._closed(current, received, report)
        included = {update.agent: update.sha256 for update in received}
        made = self._releases.advance(delta, closed, rule_state=msgpack.encode(state))
        self._round, self._last_closed, self._abandoned = None, current.round, 0
        self._done = set()
        self._deadline = self._clock.monotonic() + self.job.federation.deadline_seconds
        self._log.info(
            "round.closed",
            round=current.round,
            updates=len(received),
            examples=report.examples,
            seconds=closed.seconds,
            uplink_bytes=closed.uplink_bytes,
            downlink_bytes=closed.downlink_bytes,
        )
        evaluate = self._evaluate_after(current.round)
        self._releases.announce(evaluate=evaluate, with_delta=made)
        self._result = current.round, included
        if self._last_closed < self.job.federation.rounds:
            self._open_round()
        else:
            self._announce_round()

    def _abandon(self, error: ModelError) -> None:
        """A round whose result is no model is ended without one; three in a row stop the job."""
        self._log.error("round.abandoned", error=str(error))
        self._abandoned += 1
        if self._round is not None:
            report = json.encode({"error": str(error)}).decode()
            self._store.abandon_round(
                self.job.name, self._round.round, closed_ns=self._clock.now_ns(), report=report
            )
            self._last_closed, self._round = self._round.round, None
        if self._abandoned >= ABANDONED_IN_A_ROW or not self._releases.ready:
            self._enter("stopped")
            self._announce_round()

    def _finish(self) -> None:
        self._releases.promote()
        self._enter("finished")
        self._announce_round()
        self._log.info(
            "job.finished", rounds=self._last_closed, version=self._releases.version[:12]
        )

    # Parts

    @property
    def _regimes(self) -> list[int]:
        return self.job.regimes if self.job.window.normalise == "regime" else []

    def _received(self, current: RoundRecord) -> list[UpdateRecord]:
        updates = self._store.updates(self.job.name, current.round)
        mine = [u for u in updates if u.state == "received" and u.base == current.base]
        return sorted(mine, key=lambda update: update.agent)

    def _stream(self, received: list[UpdateRecord]) -> Iterator[Update]:
        for update in received:
            frame = self._blobs.get(update.blob, BLOB_LIMIT)
            _, delta = decode_frame(frame, elements=self._releases.learned)
            yield Update(update.agent, update.examples, delta)

    def _closed(
        self, current: RoundRecord, received: list[UpdateRecord], report: Report
    ) -> RoundRecord:
        now = self._clock.now_ns()
        up, down = self._traffic.take(self.job.name)
        losses = np.array([u.loss for u in received])
        weights = np.array([u.examples for u in received], np.float64)
        finite = np.isfinite(losses)
        loss = float(np.average(losses[finite], weights=weights[finite])) if finite.any() else None
        details = {"report": report, "loss": loss}
        return RoundRecord(
            job=current.job,
            round=current.round,
            base=current.base,
            state="closed",
            opened_ns=current.opened_ns,
            deadline_ns=current.deadline_ns,
            closed_ns=now,
            seconds=max(0.0, (now - current.opened_ns) / 1e9),
            included=[update.agent for update in received],
            uplink_bytes=up,
            downlink_bytes=down,
            report=json.encode(details).decode(),
        )

    def _evaluate_after(self, round_: int) -> bool:
        every = self.job.evaluation.every
        return round_ >= self.job.federation.rounds or (every > 0 and round_ % every == 0)

    def _delivered(self) -> set[str]:
        if self._state in ("waiting", "statistics"):
            return {record.agent for record in self._store.moments(self.job.name)}
        if self._round is not None:
            return {update.agent for update in self._received(self._round)}
        return set()

    def _answer(self, agent: str, receipt: Receipt | None) -> None:
        if receipt is None:
            return
        if receipt.fate == "received" and self._round is not None:
            self._done.add(agent)
        elif receipt.fate == "refused":
            self._voice_refusal(agent, "update", receipt.reason)
        self._voice.tell(self.job.name, agent, "receipt", receipt)

    def _voice_refusal(self, agent: str, reason: str, text: str) -> None:
        record = RefusalRecord(
            job=self.job.name,
            agent=agent,
            reason=reason,
            text=text,
            received_ns=self._clock.now_ns(),
        )
        self._store.add_refusal(record)
        self._log.warning("update.refused", agent=agent, reason=reason, text=text)

    def _enter(self, state: JobState) -> None:
        self._state = state
        self._store.update_job(self.job.name, updated_ns=self._clock.now_ns(), state=state)
        self._voice.broadcast(self.job.name, "job", self._job_notice())

    def _job_notice(self) -> JobNotice:
        return JobNotice(job=self.job.name, text=self._text, state=self._state)

    def _announce_round(self) -> None:
        closed, included = self._result
        notice = RoundNotice(
            job=self.job.name,
            round=self._round.round if self._round is not None else 0,
            base=self._round.base if self._round is not None else "",
            deadline_ns=self._round.deadline_ns if self._round is not None else 0,
            closed=closed,
            included=included,
        )
        self._voice.broadcast(self.job.name, "round", notice)

    def _left(self, current: RoundRecord) -> float:
        left = (current.deadline_ns - self._clock.now_ns()) / 1e9
        return min(max(0.0, left), self.job.federation.deadline_seconds)
