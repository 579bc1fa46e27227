# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: D102  what every method promises is said once, in Store
"""The store in memory: the twin of the database for tests of what stands above it."""

from collections import deque
from collections.abc import Collection, Sequence
from typing import Unpack

from msgspec import structs

from fedmill_coordinator.store import rules
from fedmill_coordinator.store.base import KEPT_REFUSALS
from fedmill_coordinator.store.memory_pki import MemoryPki
from fedmill_coordinator.store.memory_releases import MemoryReleases
from fedmill_coordinator.store.memory_wishes import MemoryWishes
from fedmill_coordinator.store.records import (
    AgentRecord,
    Alias,
    AliasRecord,
    Discarded,
    EvaluationRecord,
    JobChanges,
    JobRecord,
    JobState,
    MomentsRecord,
    OrderRecord,
    RefusalRecord,
    RoundRecord,
    TrafficRecord,
    UpdateRecord,
    Verb,
    VersionRecord,
    checked,
)


class MemoryStore(MemoryReleases, MemoryWishes, MemoryPki):
    """Rows in dictionaries by their key; nothing survives the process."""

    def __init__(self) -> None:
        """An empty store."""
        super().__init__()
        self._jobs: dict[str, JobRecord] = {}
        self._agents: dict[str, AgentRecord] = {}
        self._moments: dict[tuple[str, str], MomentsRecord] = {}
        self._versions: dict[tuple[str, str], VersionRecord] = {}
        self._rounds: dict[tuple[str, int], RoundRecord] = {}
        self._traffic: dict[tuple[str, int], list[TrafficRecord]] = {}
        self._updates: dict[tuple[str, int, str, str], UpdateRecord] = {}
        self._orders: dict[int, OrderRecord] = {}
        self._evaluations: dict[tuple[str, str, str, str], EvaluationRecord] = {}
        self._refusals: deque[RefusalRecord] = deque(maxlen=KEPT_REFUSALS)

    def close(self) -> None:
        pass

    def add_job(self, record: JobRecord) -> None:
        self._jobs[record.name] = rules.new_job(record, self.job(record.name))

    def update_job(self, name: str, *, updated_ns: int, **changes: Unpack[JobChanges]) -> None:
        self._jobs[name] = self._changed(name, updated_ns, changes)

    def job(self, name: str) -> JobRecord | None:
        return self._jobs.get(name)

    def jobs(self) -> list[JobRecord]:
        return [record for _, record in sorted(self._jobs.items())]

    def give_order(
        self, job: str, verb: Verb, by: str, given_ns: int, *, argument: str = ""
    ) -> int:
        number = len(self._orders) + 1
        record = OrderRecord(
            id=number, job=job, verb=verb, by=by, given_ns=given_ns, argument=argument
        )
        self._known_job(job)
        self._orders[number] = checked(record)
        return number

    def open_orders(self) -> list[OrderRecord]:
        return [record for record in self._orders.values() if record.done_ns is None]

    def finish_order(self, number: int, *, done_ns: int, outcome: str) -> None:
        stored = self._orders.get(number)
        self._orders[number] = rules.finished(stored, number, done_ns, outcome)

    def order(self, number: int) -> OrderRecord | None:
        return self._orders.get(number)

    def save_agent(self, record: AgentRecord) -> None:
        self._agents[record.agent] = checked(record)

    def agent(self, agent: str) -> AgentRecord | None:
        return self._agents.get(agent)

    def agents(self) -> list[AgentRecord]:
        return [record for _, record in sorted(self._agents.items())]

    def save_moments(self, record: MomentsRecord) -> None:
        self._known_job(record.job)
        self._moments[record.job, record.agent] = checked(record)

    def moments(self, job: str) -> list[MomentsRecord]:
        return [record for key, record in sorted(self._moments.items()) if key[0] == job]

    def add_version(self, record: VersionRecord) -> None:
        self._versions[record.job, record.version] = self._new_version(record)

    def version(self, job: str, version: str) -> VersionRecord | None:
        return self._versions.get((job, version))

    def versions(self, job: str) -> list[VersionRecord]:
        records = [record for record in self._versions.values() if record.job == job]
        return sorted(records, key=lambda record: record.number)

    def forget_weights(self, job: str, keep: Collection[str]) -> int:
        current = self.current_round(job)
        kept = {*keep, *(alias.version for alias in self.aliases(job))}
        kept |= {current.base} if current else set()
        forgotten = [
            record
            for record in self.versions(job)
            if record.weights is not None and record.version not in kept
        ]
        for record in forgotten:
            emptied = structs.replace(record, weights=None, delta=None)
            self._versions[job, record.version] = emptied
        return len(forgotten)

    def set_alias(self, job: str, alias: Alias, version: str, *, updated_ns: int) -> None:
        record = checked(AliasRecord(job=job, alias=alias, version=version, updated_ns=updated_ns))
        self._known_version(job, version)
        previous = rules.previous(self.alias(job, "stable"), record)
        if previous is not None:
            self._aliases[job, "previous"] = previous
        self._aliases[job, alias] = record

    def alias(self, job: str, alias: Alias) -> AliasRecord | None:
        return self._aliases.get((job, alias))

    def aliases(self, job: str) -> list[AliasRecord]:
        return [record for key, record in sorted(self._aliases.items()) if key[0] == job]

    def open_round(self, record: RoundRecord) -> None:
        opened = rules.opening(record, self.current_round(record.job))
        self._known_version(record.job, record.base)
        if self.round(record.job, record.round) is not None:
            raise rules.conflict(f"round {record.round} of job {record.job!r}", "it is there")
        self._rounds[record.job, record.round] = opened

    def extend_round(
        self, job: str, number: int, deadline_ns: int, asked: Collection[str] = ()
    ) -> None:
        stored = rules.still_open(self.round(job, number), job, number)
        extended = structs.replace(stored, deadline_ns=deadline_ns, asked=list(asked))
        self._rounds[job, number] = checked(extended)

    def abandon_round(
        self,
        job: str,
        number: int,
        *,
        closed_ns: int,
        report: str,
        traffic: Sequence[TrafficRecord] = (),
        published_bytes: int = 0,
    ) -> None:
        stored = rules.still_open(self.round(job, number), job, number)
        abandoned = rules.abandoned(stored, closed_ns, report, traffic, published_bytes)
        ended = checked(structs.replace(abandoned, discarded=len(self.pending(job))))
        if traffic:
            self.save_traffic(job, number, traffic)
        self.discard_waiting(job, code=rules.ABANDONED, reason=rules.ABANDONED_REASON)
        self._rounds[job, number] = ended

    def close_round(
        self,
        closed: RoundRecord,
        version: VersionRecord | None,
        *,
        included: Sequence[UpdateRecord],
        discarded: Sequence[UpdateRecord] = (),
        traffic: Sequence[TrafficRecord] = (),
        rule_state: bytes,
        downlink_residual: str | None,
        job_state: JobState,
    ) -> None:
        job, number = closed.job, closed.round
        now_ns = rules.ended(closed, self.round(job, number))
        decided = list(rules.decided(closed, included, discarded, self.pending(job)))
        changes: JobChanges = {
            "rule_state": rule_state,
            "downlink_residual": downlink_residual,
            "state": job_state,
        }
        # Whatever can fail comes first: nothing may have changed when it does.
        rules.adds_up(closed, traffic)
        rules.counted(job, number, traffic)
        changed, ended = self._changed(job, now_ns, changes), checked(closed)
        if version is not None:
            alias = rules.candidate(version, closed, now_ns)
            self.add_version(version)
            self._aliases[job, "candidate"] = alias
        self._updates.update({rules.update_key(record): record for record in decided})
        if traffic:
            self.save_traffic(job, number, traffic)
        self._rounds[job, number] = ended
        self._jobs[job] = changed

    def round(self, job: str, number: int) -> RoundRecord | None:
        return self._rounds.get((job, number))

    def current_round(self, job: str) -> RoundRecord | None:
        return next((record for record in self.rounds(job) if record.state == "open"), None)

    def rounds(self, job: str, *, last: int | None = None) -> list[RoundRecord]:
        found = [record for key, record in sorted(self._rounds.items()) if key[0] == job]
        return found if last is None else found[max(0, len(found) - last) :]

    def save_traffic(self, job: str, number: int, records: Sequence[TrafficRecord]) -> None:
        self._known_job(job)
        kept = rules.counted(job, number, records)
        self._traffic[job, number] = sorted(kept, key=lambda record: record.agent)
        last = rules.last_folded(number)
        if any((job, old) in self._traffic for old in range(1, last + 1)):
            self._traffic[job, 0] = rules.folded(
                job, [r for old in range(last + 1) for r in self._traffic.pop((job, old), [])]
            )

    def traffic(self, job: str, number: int) -> list[TrafficRecord]:
        return list(self._traffic.get((job, number), []))

    def traffic_by_agent(self, job: str) -> dict[str, tuple[int, int]]:
        of_job = (rows for key, rows in self._traffic.items() if key[0] == job)
        summed = rules.folded(job, [record for rows in of_job for record in rows])
        return {r.agent: (r.uplink_bytes, r.downlink_bytes) for r in summed}

    def add_update(self, record: UpdateRecord) -> bool:
        record = checked(record)
        key = rules.update_key(record)
        if rules.is_repeat(record, self._updates.get(key)):
            return False
        if self.round(record.job, record.round) is None:
            raise rules.unknown(f"round {record.round} of job {record.job!r}")
        rules.may_wait(record, self._known_job(record.job).state)
        self._updates[key] = record
        return True

    def discard_update(
        self,
        job: str,
        number: int,
        agent: str,
        base: str,
        *,
        state: Discarded,
        reason: str,
        code: str = "",
    ) -> None:
        what = f"update of agent {agent!r} for round {number} of job {job!r}"
        stored = self.update(job, number, agent, base)
        late = rules.discarded_update(what, stored, state, code=code, reason=reason)
        self._updates[job, number, agent, base] = late

    def discard_waiting(self, job: str, *, code: str, reason: str) -> int:
        waiting = self.pending(job)
        for record in waiting:
            late = structs.replace(record, state="late", code=code, reason=reason)
            self._updates[rules.update_key(record)] = late
        return len(waiting)

    def update(self, job: str, number: int, agent: str, base: str) -> UpdateRecord | None:
        return self._updates.get((job, number, agent, base))

    def pending(self, job: str) -> list[UpdateRecord]:
        waiting = [
            record
            for key, record in self._updates.items()
            if key[0] == job and record.state == "received"
        ]
        return sorted(waiting, key=lambda record: (record.agent, record.round, record.base))

    def recent_updates(self, job: str, limit: int) -> list[UpdateRecord]:
        records = [record for key, record in self._updates.items() if key[0] == job]
        records.sort(key=lambda record: (record.agent, record.round, record.base))
        records.sort(key=lambda record: record.received_ns, reverse=True)
        return records[:limit]

    def updates(self, job: str, number: int) -> list[UpdateRecord]:
        records = [record for key, record in self._updates.items() if key[:2] == (job, number)]
        return sorted(records, key=lambda record: (record.received_ns, record.agent, record.base))

    def save_evaluation(self, record: EvaluationRecord) -> None:
        self._known_version(record.job, record.version)
        key = (record.job, record.version, record.agent, record.split)
        self._evaluations[key] = checked(record)

    def evaluations(self, job: str, version: str | None = None) -> list[EvaluationRecord]:
        numbers = {record.version: record.number for record in self.versions(job)}
        records = [
            record
            for record in self._evaluations.values()
            if record.job == job and version in (None, record.version)
        ]
        return sorted(
            records, key=lambda record: (numbers[record.version], record.agent, record.split)
        )

    def add_refusal(self, record: RefusalRecord) -> None:
        self._refusals.append(checked(record))

    def refusals(self, job: str | None = None, *, limit: int = 100) -> list[RefusalRecord]:
        records = [record for record in reversed(self._refusals) if job in (None, record.job)]
        return records[:limit]

    def live_blobs(self) -> set[str]:
        held: set[str | None] = set()
        for job in self._jobs.values():
            held |= {job.template, job.canary_inputs, job.downlink_residual, job.quantised}
        for version in self._versions.values():
            held |= {version.weights, version.delta}
        held |= {update.blob for update in self._updates.values() if update.state == "received"}
        return {name for name in held if name is not None}

    def _known_job(self, name: str) -> JobRecord:
        stored = self.job(name)
        if stored is None:
            raise rules.unknown(f"job {name!r}")
        return stored

    def _known_version(self, job: str, version: str) -> None:
        if self.version(job, version) is None:
            raise rules.unknown(f"version {version} of job {job!r}")

    def _changed(self, name: str, updated_ns: int, changes: JobChanges) -> JobRecord:
        stored = self._known_job(name)
        return checked(structs.replace(stored, updated_ns=updated_ns, **changes))

    def _new_version(self, record: VersionRecord) -> VersionRecord:
        self._known_job(record.job)
        if record.base is not None:
            self._known_version(record.job, record.base)
        for stored in self.versions(record.job):
            if stored.number == record.number or stored.version == record.version:
                raise rules.conflict(
                    f"version {record.number} of job {record.job!r}", "it is there"
                )
        return checked(record)
