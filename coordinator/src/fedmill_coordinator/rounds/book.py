# SPDX-License-Identifier: Apache-2.0
"""The rounds of one job: which is open, until when, whom it asks, and how the last one ended.

Everything is durable before it is told.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

from msgspec import structs

from fedmill_coordinator.rounds import closing, discarding
from fedmill_coordinator.rounds.admission import Standing
from fedmill_coordinator.rounds.harvest import harvest
from fedmill_coordinator.rounds.judging import in_quarantine
from fedmill_coordinator.rounds.ladder import codecs_of
from fedmill_coordinator.rounds.limits import Limits, attempts, limits_of, resumed
from fedmill_coordinator.rounds.means import Means
from fedmill_coordinator.rounds.notice import round_notice
from fedmill_coordinator.rounds.pace import Estimate, deadline_seconds
from fedmill_coordinator.rounds.past import RECENT_ROUNDS, Past, past_of
from fedmill_coordinator.rounds.selection import Cohorts
from fedmill_coordinator.rounds.stage import Stage
from fedmill_coordinator.rounds.tally import Tally, tally_of
from fedmill_coordinator.store.records import RoundRecord, UpdateRecord
from fedmill_shared.job.combinations import uplinks
from fedmill_shared.messages import RoundNotice


class Rounds:
    """Owns the open round of one job and what is remembered of those before it.

    Attributes:
        current: the open round.
        past: how the rounds before it ended.
        limits: when the phase ends at the latest, and when the open round may close at the soonest.
        tally: why updates were not used since the open round opened.
        hurried: whether the operator wants the open round closed with what there is.
    """

    def __init__(self, means: Means, stage: Stage) -> None:
        """Continue from what the store holds of the job."""
        self._means = means
        self._job = means.job
        self._stage = stage
        self._store = means.services.store
        self._clock = means.services.clock
        self._cohorts = Cohorts(self._job, self._store.rounds(self._job.name, last=RECENT_ROUNDS))
        self._attempt = 0
        self._quarantined = {each.agent for each in in_quarantine(self._store, self._job)}
        self.current = self._store.current_round(self._job.name)
        self.past = past_of(self._store, self._job)
        self.tally = Tally()
        self.hurried = False
        self.limits = Limits(self._clock.monotonic() + self._job.federation.deadline_seconds)
        if self.current is not None:
            settings = self._job.federation
            self.limits = resumed(settings, self.current, self._clock)
            self._attempt = attempts(settings, self.current)
            self.tally = tally_of(self._store, self.current)

    @property
    def total(self) -> int:
        """Rounds of the job, with those that agents wished for."""
        return self._job.federation.rounds + self._stage.further

    @property
    def left(self) -> int:
        """Rounds that have not ended yet."""
        return self.total - self.past.last

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
        versions = self._means.versions
        number = self.current.round if self.current is not None else self.past.last + 1
        return Standing(
            elements=versions.learned,
            layout=versions.layout,
            round=number,
            most=self._job.federation.max_staleness,
            over=self._stage.ended or (self.current is None and self.left <= 0),
            codecs=frozenset(uplinks(self._job)),
        )

    def waiting(self) -> list[UpdateRecord]:
        """Updates that the close of the open round would use."""
        if self.current is None:
            return []
        return harvest(self._store, self._job, self.current.round).used

    def notice(self) -> RoundNotice:
        """What agents are told; of a job that is paused, no round."""
        return round_notice(
            self._job.name,
            None if self._stage.paused else self.current,
            self.past,
            now_ns=self._clock.now_ns(),
            left=self.limits.deadline - self._clock.monotonic(),
            attempt=self._attempt,
        )

    def begin_phase(self) -> None:
        """Something is to be collected until a new deadline."""
        deadline = self._clock.monotonic() + self._job.federation.deadline_seconds
        self.limits = replace(self.limits, deadline=deadline)

    def open(
        self, ready: Collection[str], known: Mapping[str, Estimate], silent: Collection[str] = ()
    ) -> RoundRecord:
        """Open the next round for those ``ready``; it does not wait for the ``silent``.

        Raises:
            StoreError: it cannot be stored; no round is open.
        """
        number, now = self.past.last + 1, self._clock.now_ns()
        asked = self._cohorts.next(ready, known, number, silent)
        heard = set(asked or ready).difference(silent)
        seconds = deadline_seconds(self._job.federation, heard, known)
        record = RoundRecord(
            job=self._job.name,
            round=number,
            base=self._means.versions.version,
            state="open",
            opened_ns=now,
            deadline_ns=now + round(seconds * 1e9),
            asked=asked,
            uplink=codecs_of(self._store, self._job, number)[0],
        )
        self._store.open_round(record)
        self.current, self.tally, self._attempt = record, Tally(), 0
        self._cohorts.count(asked)
        self.limits = limits_of(self._job.federation, self._clock.monotonic(), seconds)
        return record

    def extend(self, ready: Collection[str], known: Mapping[str, Estimate]) -> RoundRecord | None:
        """Give the open round another deadline, and ask others beside those it asked.

        Raises:
            StoreError: that cannot be stored; nothing has changed.
        """
        if self.current is None:
            return None
        more: list[str] = []
        if self.current.asked:
            unasked = set(ready).difference(self.current.asked)
            more = self._cohorts.next(unasked, known, self.current.round) or sorted(unasked)
        asked = sorted({*self.current.asked, *more})
        seconds = self._job.federation.deadline_seconds
        deadline_ns = self._clock.now_ns() + round(seconds * 1e9)
        self._store.extend_round(self._job.name, self.current.round, deadline_ns, asked)
        self.current = structs.replace(self.current, deadline_ns=deadline_ns, asked=asked)
        self._cohorts.count(more)
        self._attempt += 1
        self.begin_phase()
        return self.current

    def close(self) -> closing.Closed | None:
        """End the open round; None if there is none, or an update of it had to be taken out.

        Raises:
            ModelError: what the updates lead to is no model; nothing has changed.
            StoreError: the result cannot be stored; nothing has changed.
        """
        if self.current is None:
            return None
        closed = closing.close(self._means, self.current, self.tally, self._quarantined)
        if closed is None:
            return None
        self.current, self.past, self.hurried = None, closed.past, False
        self._quarantined = {each.agent for each in closed.after}
        closing.tell_quarantine(self._means, closed)
        return closed

    def leave_out_worst(self, why: str) -> UpdateRecord | None:
        """Refuse the update that moves the model most, if enough agents remain without it.

        None, and nothing is done, if they do not, or if no round is open.

        Raises:
            SpoiltUpdateError: the blob of an update cannot be read.
            StoreError: the disk fails; nothing has changed.
        """
        if self.current is None:
            return None
        return discarding.leave_out_worst(
            self._means, self.current.round, self.quarantined, self.tally, why
        )

    def abandon(self, why: str) -> None:
        """End the open round, if there is one, without a result.

        Raises:
            StoreError: that cannot be stored; nothing has changed.
        """
        if self.current is None:
            return
        closing.abandon(self._means, self.current.round, why)
        self.past = Past(self.current.round, abandoned=self.past.abandoned + 1)
        self.current, self.hurried = None, False
