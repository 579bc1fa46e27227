# SPDX-License-Identifier: Apache-2.0
"""The rounds of one job: which is open, until when, whom it asks, and how the last one ended.

Everything is durable before it is told. Deadlines are kept on the monotonic clock while the process
runs, so that a jump of the wall clock changes none; a restart takes what the wall clock leaves of
one, at most the whole.
"""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from msgspec import json, structs

from fedmill_coordinator.registry.golden import GoldenSet
from fedmill_coordinator.registry.releases import Releases
from fedmill_coordinator.rounds.admission import Standing
from fedmill_coordinator.rounds.judging import in_quarantine, judge
from fedmill_coordinator.rounds.ladder import codecs_of
from fedmill_coordinator.rounds.pace import Estimate, deadline_seconds, slow
from fedmill_coordinator.rounds.quarantine import Quarantine
from fedmill_coordinator.rounds.results import (
    Aggregate,
    Harvest,
    Past,
    SpoiltUpdateError,
    Tally,
    aggregate,
    closed_record,
    harvest,
    heaviest,
    newest_of,
    past_of,
    round_notice,
)
from fedmill_coordinator.rounds.selection import choose, cohort_size, times_asked
from fedmill_coordinator.store.base import KEPT_REFUSALS, Store
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.store.records import (
    UPDATE_REFUSED,
    RefusalRecord,
    RoundRecord,
    UpdateRecord,
)
from fedmill_coordinator.traffic import Traffic
from fedmill_shared.clock import Clock
from fedmill_shared.errors import StoreError
from fedmill_shared.job import Job
from fedmill_shared.job.combinations import uplinks
from fedmill_shared.log import Logger
from fedmill_shared.messages import Reason, RoundNotice

RECENT_UPDATES = 1024
RECENT_ROUNDS = 256
"""What a start learns from; a job that runs for years has more."""


class Rounds:
    """Owns the open round of one job and what is remembered of those before it.

    Attributes:
        current: the open round.
        past: how the rounds before it ended.
        deadline: when the phase ends at the latest, monotonic s.
        earliest: when the open round may close at the soonest, monotonic s.
        tally: why updates were not used since the open round opened.
        ended: whether the job is finished or stopped.
    """

    def __init__(
        self,
        job: Job,
        *,
        store: Store,
        blobs: Blobs,
        releases: Releases,
        traffic: Traffic,
        clock: Clock,
        log: Logger,
        golden: GoldenSet | None = None,
    ) -> None:
        """Continue from what ``store`` holds; ``golden`` is what the rule ``trust`` measures by."""
        self._job = job
        self._golden = golden
        self._store = store
        self._blobs = blobs
        self._releases = releases
        self._traffic = traffic
        self._clock = clock
        self._log = log
        self._attempt = 0
        self._chosen = False
        self._asked = Counter(times_asked(store.rounds(job.name, last=RECENT_ROUNDS)))
        self.current = store.current_round(job.name)
        self.past = past_of(store, job)
        self._quarantined = {each.agent for each in in_quarantine(store, job)}
        self.tally = Tally()
        self.deadline = self.earliest = 0.0
        self.ended = False
        self.begin_phase()
        if self.current is not None:
            self._resume(self.current)

    @property
    def left(self) -> int:
        """Rounds that have not ended yet."""
        return self._job.federation.rounds - self.past.last

    @property
    def cohort(self) -> list[str] | None:
        """Agents that the open round asks; None for every agent."""
        return (self.current.asked or None) if self.current is not None else None

    @property
    def quarantined(self) -> set[str]:
        """Agents whose updates count for nothing in the open round."""
        return self._quarantined if self.current is not None else set()

    def standing(self) -> Standing:
        """What the job takes at present."""
        number = self.current.round if self.current is not None else self.past.last + 1
        return Standing(
            elements=self._releases.learned,
            layout=self._releases.layout,
            round=number,
            most=self._job.federation.max_staleness,
            over=self.ended or (self.current is None and self.left <= 0),
            codecs=frozenset(uplinks(self._job)),
        )

    def waiting(self) -> list[UpdateRecord]:
        """Updates that the close of the open round would use."""
        if self.current is None:
            return []
        return harvest(self._store, self._job, self.current.round).used

    def notice(self, *, paused: bool) -> RoundNotice:
        """What agents are told."""
        return round_notice(
            self._job.name,
            None if paused else self.current,
            self.past,
            now_ns=self._clock.now_ns(),
            left=self.deadline - self._clock.monotonic(),
            attempt=self._attempt,
        )

    def begin_phase(self) -> None:
        """Something is to be collected until a new deadline."""
        self.deadline = self._clock.monotonic() + self._job.federation.deadline_seconds

    def open(
        self, ready: Collection[str], known: Mapping[str, Estimate], silent: Collection[str] = ()
    ) -> RoundRecord:
        """Open the next round for those ``ready``; it does not wait for the ``silent``."""
        number, now = self.past.last + 1, self._clock.now_ns()
        asked = self._choose(ready, known, number, silent)
        heard = set(asked or ready).difference(silent)
        seconds = deadline_seconds(self._job.federation, heard, known)
        record = RoundRecord(
            job=self._job.name,
            round=number,
            base=self._releases.version,
            state="open",
            opened_ns=now,
            deadline_ns=now + round(seconds * 1e9),
            asked=asked,
            uplink=codecs_of(self._store, self._job, number)[0],
        )
        self._store.open_round(record)
        self.current, self.tally, self._attempt = record, Tally(), 0
        self._asked.update(asked)
        self._set_timers(seconds)
        return record

    def extend(self, ready: Collection[str], known: Mapping[str, Estimate]) -> RoundRecord | None:
        """Give the open round another deadline, and ask others beside those it asked."""
        if self.current is None:
            return None
        seconds = self._job.federation.deadline_seconds
        more: list[str] = []
        if self.current.asked:
            unasked = set(ready).difference(self.current.asked)
            more = self._choose(unasked, known, self.current.round) or sorted(unasked)
        asked = sorted({*self.current.asked, *more})
        deadline_ns = self._clock.now_ns() + round(seconds * 1e9)
        self._store.extend_round(self._job.name, self.current.round, deadline_ns, asked)
        self.current = structs.replace(self.current, deadline_ns=deadline_ns, asked=asked)
        self._asked.update(more)
        self._attempt += 1
        self.deadline = self._clock.monotonic() + seconds
        return self.current

    def close(self) -> tuple[RoundRecord, bool] | None:
        """End the open round: its record, and whether there is a new version.

        None if an update turned out to be unreadable, which is then taken out.

        Raises:
            ModelError: what the updates lead to is no model; nothing has changed.
            StoreError: the result cannot be stored; nothing has changed.
        """
        current = self.current
        if current is None:
            return None
        found = harvest(self._store, self._job, current.round)
        standing = in_quarantine(self._store, self._job)
        result = self._aggregate(found.used, current.round, {each.agent for each in standing})
        if result is None:
            return None
        after = judge(
            self._store,
            self._job,
            current.round,
            result.report,
            standing=standing,
            used=found.used,
        )
        closed, made = self._conclude(current, found, result, after)
        self.current, self.past = None, Past(closed.round, newest_of(found.used))
        self._quarantined = {each.agent for each in after}
        self._tell_quarantine(standing, after)
        return closed, made

    def _conclude(
        self,
        current: RoundRecord,
        found: Harvest,
        result: Aggregate,
        quarantine: Sequence[Quarantine],
    ) -> tuple[RoundRecord, bool]:
        """Store the round as it ends, with its version and its traffic."""
        overdue = Counter(update.code for update in found.overdue)
        closed = closed_record(
            current,
            found.used,
            result.report,
            now_ns=self._clock.now_ns(),
            traffic=self._traffic,
            tally=Tally(self.tally.rejected, self.tally.discarded + overdue),
            quarantine=quarantine,
            excluded=self._quarantined,
        )
        made = self._releases.advance(
            result.delta,
            closed,
            rule_state=result.rule_state,
            included=found.used,
            discarded=found.overdue,
            traffic=self._traffic.records(self._job.name, closed.round),
            codec=codecs_of(self._store, self._job, closed.round)[1],
        )
        self._traffic.clear(self._job.name)
        return closed, made

    def leave_out_worst(self, why: str) -> UpdateRecord | None:
        """Refuse the update that moves the model most, if enough agents remain without it.

        None, and nothing is done, if they do not.
        """
        if self.current is None:
            return None
        waiting = harvest(self._store, self._job, self.current.round).used
        used = [update for update in waiting if update.agent not in self.quarantined]
        worst = heaviest(used, self._blobs, elements=self._releases.learned)
        others = {update.agent for update in used if worst and update.agent != worst.agent}
        if worst is None or len(others) < self._job.federation.minimum:
            return None
        self._store.discard_update(
            self._job.name,
            worst.round,
            worst.agent,
            worst.base,
            state="refused",
            code=Reason.IMPLAUSIBLE.value,
            reason=f"with it the round makes no model: {why}"[:2000],
        )
        self.tally.rejected[Reason.IMPLAUSIBLE.value] += 1
        return worst

    def abandon(self, why: str) -> None:
        """End the open round without a result."""
        if self.current is None:
            return
        number = self.current.round
        report = json.encode({"error": why}).decode()
        now_ns = self._clock.now_ns()
        self._store.abandon_round(
            self._job.name,
            number,
            closed_ns=now_ns,
            report=report,
            traffic=self._traffic.records(self._job.name, number),
            published_bytes=self._traffic.published(self._job.name),
        )
        self._traffic.clear(self._job.name)
        self.current, self.past = None, Past(number, abandoned=self.past.abandoned + 1)

    def _choose(
        self,
        ready: Collection[str],
        known: Mapping[str, Estimate],
        number: int,
        silent: Collection[str] = (),
    ) -> list[str]:
        """Whom to ask by name; nobody where all are asked."""
        size = cohort_size(self._job.federation)
        # A newcomer joins the queue where it stands, and has no past to catch up with. Who is there
        # at a start may have waited for its first turn since before it.
        least = min((self._asked[agent] for agent in ready if agent in self._asked), default=0)
        new = set(ready) - self._asked.keys()
        self._asked.update(dict.fromkeys(new, least if self._chosen else 0))
        self._chosen = True
        if not 0 < size < len(ready):
            return []
        return choose(
            ready,
            size,
            asked=self._asked,
            slow={*slow(self._job.federation, known), *silent},
            seed=(self._job.name, number),
        )

    def _tell_quarantine(self, before: Sequence[Quarantine], after: Sequence[Quarantine]) -> None:
        inside = {each.agent for each in before}
        for each in after:
            if each.agent in inside:
                continue
            self._log.warning(
                "agent.quarantined", agent=each.agent, round=each.since_round, reason=each.reason
            )
            record = RefusalRecord(
                job=self._job.name,
                agent=each.agent,
                reason="quarantine",
                text=each.reason,
                received_ns=self._clock.now_ns(),
            )
            with suppress(StoreError):  # the round has closed, and its report says it too
                self._store.add_refusal(record)
        for agent in sorted(inside - {each.agent for each in after}):
            self._log.info("agent.released", agent=agent)

    def _aggregate(
        self, used: Sequence[UpdateRecord], number: int, quarantined: Collection[str]
    ) -> Aggregate | None:
        """What the job's rule makes of ``used``; None if one is unreadable, which is taken out."""
        job, golden = self._store.job(self._job.name), self._golden
        try:
            return aggregate(
                self._job,
                job.rule_state if job is not None else b"",
                used,
                self._blobs,
                elements=self._releases.learned,
                round_=number,
                golden=self._releases.reference(golden, number) if golden else None,
                quarantined=quarantined,
            )
        except SpoiltUpdateError as error:
            self._take_out(error)
            return None

    def _take_out(self, error: SpoiltUpdateError) -> None:
        update = error.update
        self._store.discard_update(
            self._job.name,
            update.round,
            update.agent,
            update.base,
            state="late",
            code=Reason.DAMAGED.value,
            reason="it was received, and can no longer be read",
        )
        self.tally.discarded[Reason.DAMAGED.value] += 1
        self._log.error("update.spoilt", agent=update.agent, round=update.round, error=str(error))

    def _set_timers(self, seconds: float) -> None:
        now = self._clock.monotonic()
        self.deadline = now + seconds
        self.earliest = now + self._job.federation.earliest_seconds

    def _resume(self, current: RoundRecord) -> None:
        now_ns, longest = self._clock.now_ns(), self._job.federation.deadline_seconds
        left = min(max(0.0, (current.deadline_ns - now_ns) / 1e9), longest)
        gone = min(max(0.0, (now_ns - current.opened_ns) / 1e9), longest)
        self._set_timers(left)
        self.earliest -= gone
        # An agent whose update was refused trains again for an attempt that is new to it. Where
        # extensions came before their deadlines this is fewer than there were, until the next.
        whole = (current.deadline_ns - current.opened_ns) / 1e9
        self._attempt = max(0, math.ceil(round(whole / longest, 6)) - 1)
        for refusal in self._store.refusals(self._job.name, limit=KEPT_REFUSALS):
            kind, _, code = refusal.reason.partition(":")
            if kind == UPDATE_REFUSED and refusal.received_ns >= current.opened_ns:
                self.tally.rejected[code] += 1
        for update in self._store.recent_updates(self._job.name, RECENT_UPDATES):
            if update.state == "late" and update.received_ns >= current.opened_ns:
                self.tally.discarded[update.code] += 1
