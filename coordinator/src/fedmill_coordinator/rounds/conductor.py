# SPDX-License-Identifier: Apache-2.0
"""Carries one job from its statistics through its rounds to its last evaluation.

``machine.decide`` says what to do; this class does it, durably first and aloud afterwards, so that
a kill between any two lines leaves a state that the next start continues from.
"""

from functools import partial

from fedmill_coordinator.registry.golden import GoldenSet
from fedmill_coordinator.rounds import commands, denial, phases
from fedmill_coordinator.rounds.agenda import Agenda
from fedmill_coordinator.rounds.desk import Desk
from fedmill_coordinator.rounds.herald import Herald
from fedmill_coordinator.rounds.machine import Decision, decide
from fedmill_coordinator.rounds.outlook import asked_and_ready, view_of
from fedmill_coordinator.rounds.parts import parts_of
from fedmill_coordinator.services import Services
from fedmill_coordinator.store.records import JobState, OrderRecord
from fedmill_shared.errors import DataError, ModelError, StoreError
from fedmill_shared.job import Job

ABANDONED_IN_A_ROW = 3


class Conductor:
    """Owns one job's progress; ``desk`` is where agents hand in what they have to say."""

    def __init__(
        self, job: Job, text: bytes, services: Services, golden: GoldenSet | None = None
    ) -> None:
        """Continue ``job`` from what the store holds; ``text`` is its canonical form."""
        self.job = job
        self._parts = parts_of(job, services, golden)
        self._stage = self._parts.stage
        self._agents = self._parts.agents
        self._rounds = self._parts.rounds
        self._versions = self._parts.versions
        self._rollout = self._parts.rollout
        self._clock = services.clock
        self._log = services.log
        self._agenda = Agenda()
        self._herald = Herald(self._parts, text)
        self.desk = Desk(self._parts)
        phases.begin(self._parts)

    def announce(self) -> None:
        """Say everything that agents may have missed; retained, so that each hears it."""
        self._herald.job(anew=True)
        if self._versions.ready:
            told = partial(self._herald.version, with_delta=False)
            self._agenda.follow(told, self._herald.round, self._rollout.announce)

    def serve(self, budget: int) -> int:
        """Send at most ``budget`` blocks that agents asked for; how many were sent."""
        return self._versions.offers.serve(budget)

    def deny(self, agent: str) -> int:
        """``agent`` is none of the plant any more: refuse its updates that wait; how many.

        Raises:
            StoreError: the disk fails; it may be denied again.
        """
        return denial.deny(self._parts, agent)

    def obey(self, order: OrderRecord) -> str:
        """Carry out what the operator orders; what came of it.

        Raises:
            StoreError: the disk fails; the order may be given again.
        """
        return commands.carry_out(order, self._parts, self._herald, self.step)

    def step(self) -> None:
        """Do whatever is due, until nothing is.

        Raises:
            StoreError: the disk fails; what is due is done in a later step.
        """
        self._agenda.follow()
        if self._stage.state == "waiting" and self._agents.done:
            self._enter("statistics")
            self._rounds.begin_phase()
        if self._parts.wishes.grant():
            self._agenda.follow(self._begin_phase, self._herald.job, self._parts.wishes.settle)
        while (
            decision := decide(view_of(self._parts, self._herald.spread_until))
        ) is not Decision.WAIT:
            try:
                self._carry_out(decision)
            except (ModelError, DataError) as error:
                self._abandon(error)
        self._herald.remind()
        self.desk.tick()
        self._rollout.step()

    def _carry_out(self, decision: Decision) -> None:
        match decision:
            case Decision.AGREE:
                self._agree()
            case Decision.OPEN_ROUND:
                self._agenda.follow(self._open, self._begin_phase, self._herald.round)
            case Decision.CLOSE_ROUND:
                self._close()
            case Decision.EXTEND_ROUND:
                self._extend()
            case Decision.FINISH:
                self._finish()
            case Decision.WAIT:
                return

    def _agree(self) -> None:
        """Merge the statistics and make version 0 of them."""
        normaliser = self._parts.statistics.agree()
        self._versions.create(normaliser)
        self._enter("running")
        agents = len(self._agents.done)
        self._log.info("statistics.agreed", agents=agents, regimes=normaliser.regimes)
        told = partial(self._herald.version, with_delta=True)
        self._agenda.follow(self._begin_phase, told)

    def _open(self) -> None:
        """Open the next round, if there is to be one and none is open."""
        rounds, agents = self._rounds, self._agents
        if self._stage.state != "running" or rounds.left <= 0 or rounds.current is not None:
            return
        record = rounds.open(agents.ready(), agents.known, agents.silent())
        self._log.debug(
            "round.opened", round=record.round, base=record.base[:12], asked=len(record.asked)
        )

    def _extend(self) -> None:
        extended = phases.extend(self._parts)
        if extended is None:
            return
        self._log.warning(
            "round.extended",
            round=extended.round,
            updates=len(self._agents.done),
            minimum=self.job.federation.minimum,
        )
        self._herald.round()

    def _close(self) -> None:
        rounds = self._rounds
        in_vain = self._clock.monotonic() >= rounds.limits.deadline and not rounds.hurried
        awaited = asked_and_ready(self._agents, rounds) if in_vain else ()
        ended = rounds.close()
        if ended is None:
            phases.collect_updates(self._parts)
            return
        closed = ended.record
        self._agents.give_up(awaited)
        self._log.info(
            "round.closed",
            round=closed.round,
            updates=closed.accepted,
            agents=len(closed.included),
            rejected=closed.rejected,
            discarded=closed.discarded,
            seconds=closed.seconds,
            uplink_bytes=closed.uplink_bytes,
            downlink_bytes=closed.downlink_bytes,
            published_bytes=closed.published_bytes,
        )
        self._go_on(with_delta=ended.made)

    def _abandon(self, error: ModelError | DataError) -> None:
        """Nothing sound came of a round: go on without the update that moves the model most.

        Where too few would be left the round is abandoned; three in a row stop the job.
        """
        worst = self._rounds.leave_out_worst(str(error))
        if worst is not None:
            self._log.error("update.left_out", agent=worst.agent, error=str(error))
            phases.collect_updates(self._parts)
            self._agents.excused.add(worst.agent)
            return
        self._log.error("round.abandoned", error=str(error))
        if self._rounds.current is None:
            self._enter("stopped")
            return
        self._parts.services.counts.add("rounds_abandoned", self.job.name)
        self._rounds.abandon(str(error))
        self._go_on(with_delta=False)

    def _go_on(self, *, with_delta: bool) -> None:
        """The open round has ended: tell what became of it, and open the next."""
        self._agenda.follow(
            self._stop_if_hopeless,
            partial(self._herald.version, with_delta=with_delta),
            self._open,
            self._begin_phase,
            self._herald.round,
            self._rollout.versions_changed,
            self._tidy,
        )

    def _begin_phase(self) -> None:
        phases.begin(self._parts)

    def _tidy(self) -> None:
        """Make room; no round waits for that."""
        try:
            self._parts.reception.tidy()
            self._versions.tidy()
        except (StoreError, OSError) as error:
            self._log.warning("store.untidy", error=str(error))

    def _stop_if_hopeless(self) -> None:
        if self._stage.state == "running" and self._rounds.past.abandoned >= ABANDONED_IN_A_ROW:
            self._enter("stopped")

    def _finish(self) -> None:
        self._rollout.finish()
        self._enter("finished")
        self._herald.round()
        rounds, version = self._rounds.past.last, self._versions.version
        self._log.info("job.finished", rounds=rounds, version=version[:12])

    def _enter(self, state: JobState) -> None:
        self._stage.enter(state)
        self._herald.job()
