# SPDX-License-Identifier: Apache-2.0
"""What agents tell one job, taken down: durably first, then answered."""

from msgspec import json

from fedmill_coordinator.rounds.admission import Fault, receipt_for
from fedmill_coordinator.rounds.evaluations import evaluation_records
from fedmill_coordinator.rounds.parts import Parts
from fedmill_coordinator.rounds.reception import Again, Answer
from fedmill_coordinator.store.records import UPDATE_REFUSED, RefusalRecord
from fedmill_shared.errors import FrameError
from fedmill_shared.link.blocks import Block
from fedmill_shared.messages import (
    BlobRequest,
    EvaluationReport,
    Join,
    MomentsReport,
    Reason,
    Receipt,
    Refusal,
    UpdateOffer,
    Wait,
    Wish,
)
from fedmill_shared.schema import schema_hash

LONGEST_REASON = 64
FOREIGN_SCHEMA = "signals, units or classes differ from the job's"
UNFIT = frozenset(
    {Reason.DAMAGED, Reason.EMPTY, Reason.IMPLAUSIBLE, Reason.TOO_LARGE, Reason.WRONG_SCHEMA}
)
"""What an agent would send again just so: it is not waited for in this round."""


class Desk:
    """Where everything that an agent says to a job is handed in."""

    def __init__(self, parts: Parts) -> None:
        """Take in for one job what its ``parts`` then work with."""
        self._job = parts.job
        self._store = parts.services.store
        self._voice = parts.services.voice
        self._clock = parts.services.clock
        self._log = parts.services.log
        self._counts = parts.services.counts
        self._stage = parts.stage
        self._agents = parts.agents
        self._rounds = parts.rounds
        self._reception = parts.reception
        self._versions = parts.versions
        self._rollout = parts.rollout
        self._statistics = parts.statistics
        self._wishes = parts.wishes
        self._schema = schema_hash(parts.job)

    @property
    def over(self) -> bool:
        """Whether the job is finished or stopped."""
        return self._stage.ended

    def join(self, agent: str, join: Join) -> None:
        """An agent has windows and wants to take part."""
        if join.schema != self._schema:
            self._agents.bar(agent)
            self._note(agent, "schema", FOREIGN_SCHEMA)
            return
        self._agents.admit(agent)
        self._log.info("agent.joined", agent=agent, windows=json.encode(join.windows).decode())

    def refuse(self, agent: str, refusal: Refusal) -> None:
        """An agent cannot take part, or its training failed: nobody waits for it in this phase.

        One that refuses the job as a whole says so in its state too.
        """
        self._agents.excused.add(agent)
        self._note(agent, refusal.reason.replace(":", " ")[:LONGEST_REASON], refusal.text)

    def moments(self, agent: str, report: MomentsReport) -> None:
        """An agent's statistics arrived.

        Raises:
            FrameError: they are impossible.
        """
        if self._versions.ready or agent in self._agents.foreign:
            return
        try:
            self._statistics.take(agent, report)
        except FrameError as error:
            self._agents.excused.add(agent)
            self._note(agent, "moments", str(error))
            raise
        self._agents.deliver(agent, fresh=True)
        self._log.info("moments.received", agent=agent, agents=len(self._agents.done))

    def offer(self, agent: str, offer: UpdateOffer) -> None:
        """An agent announces an update."""
        if agent in self._agents.foreign:
            fault: Fault = (Reason.WRONG_SCHEMA, FOREIGN_SCHEMA)
            self._answer(agent, receipt_for(offer, "refused", fault))
        elif self._versions.ready:
            self._answer(agent, self._reception.offer(agent, offer, self._rounds.standing()))

    def block(self, agent: str, block: Block) -> bool:
        """A piece of an update arrived; False if it belongs to no update of this job."""
        if not self._reception.expects(agent, block.blob):
            return False
        self._answer(agent, self._reception.block(agent, block, self._rounds.standing()))
        return True

    def evaluation(self, agent: str, report: EvaluationReport) -> None:
        """An agent scored a version on its held-out windows.

        Raises:
            FrameError: what it reports does not fit the job.
        """
        unknown = self._store.version(self._job.name, report.version) is None
        if unknown or agent in self._agents.foreign:
            return
        for record in evaluation_records(self._job, agent, report, self._clock.now_ns()):
            self._store.save_evaluation(record)
        if self._stage.state == "finished":  # before, the end of the round or the job looks at it
            self._rollout.versions_changed()
        if self._rounds.current is None and report.version == self._versions.version:
            self._agents.deliver(agent, fresh=True)

    def wish(self, agent: str, wish: Wish) -> None:
        """An agent's data has changed, and it asks for something."""
        self._wishes.hear(agent, wish)

    def request(self, agent: str, request: BlobRequest) -> None:
        """An agent lacks blocks of a version that is on offer.

        Raises:
            FrameError: what it asks for is not on offer.
        """
        if agent in self._agents.present():  # for the others the broker would keep it all
            self._versions.offers.request(agent, request)

    def tick(self) -> None:
        """Ask again for blocks that seem to be lost."""
        for agent, request in self._reception.tick(self._agents.present()):
            self._voice.tell(self._job.name, agent, "request", request)

    def _answer(self, agent: str, answer: Answer | None) -> None:
        match answer:
            case Receipt():
                self._settle(agent, answer)
                self._voice.tell(self._job.name, agent, "receipt", answer)
            case Again():
                self._voice.tell(self._job.name, agent, "receipt", answer.receipt)
            case BlobRequest():
                self._voice.tell(self._job.name, agent, "request", answer)
            case Wait():
                self._voice.tell(self._job.name, agent, "wait", answer)

    def _settle(self, agent: str, receipt: Receipt) -> None:
        """Take note of what became of an update, before the agent is told."""
        self._counts.add("updates", self._job.name, receipt.fate, receipt.code)
        current = self._rounds.current
        fresh = current is not None and current.round == receipt.round
        if receipt.fate in ("received", "late"):
            self._learn(agent, receipt.round)
        if receipt.fate == "received":
            self._agents.joined.add(agent)
            self._agents.deliver(agent, fresh=fresh)
        elif receipt.fate == "refused":
            self._rounds.tally.rejected[receipt.code] += 1
            self._note(agent, f"{UPDATE_REFUSED}:{receipt.code}", receipt.reason)
            if fresh and receipt.code in UNFIT:
                self._agents.excused.add(agent)
        elif receipt.fate == "late":
            self._rounds.tally.discarded[receipt.code] += 1
            self._log.info("update.late", agent=agent, round=receipt.round, code=receipt.code)

    def _learn(self, agent: str, number: int) -> None:
        """How long ``agent`` took for round ``number``, also where that has closed by now."""
        asked = self._rounds.current
        if asked is None or asked.round != number:
            asked = self._store.round(self._job.name, number)
        if asked is not None:
            seconds = (self._clock.now_ns() - asked.opened_ns) / 1e9
            self._agents.took(agent, max(0.0, seconds))

    def _note(self, agent: str, reason: str, text: str) -> None:
        record = RefusalRecord(
            job=self._job.name,
            agent=agent,
            reason=reason,
            text=text,
            received_ns=self._clock.now_ns(),
        )
        self._store.add_refusal(record)
        self._log.warning("agent.refused", agent=agent, reason=reason, text=text)
