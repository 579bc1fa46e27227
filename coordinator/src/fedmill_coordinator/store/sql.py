# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: D102  what every method promises is said once, in Store
"""The store in a database: rounds, updates, evaluations, refusals, and what keeps blobs alive."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Self

from msgspec import structs
from sqlalchemy import URL, Connection, delete, func, insert, select, union, update

from fedmill_coordinator.store import rules
from fedmill_coordinator.store.base import KEPT_REFUSALS
from fedmill_coordinator.store.database import add, find, found, key, save
from fedmill_coordinator.store.records import (
    Discarded,
    EvaluationRecord,
    JobChanges,
    JobRecord,
    JobState,
    RefusalRecord,
    RoundRecord,
    TrafficRecord,
    UpdateRecord,
    VersionRecord,
    checked,
)
from fedmill_coordinator.store.schema import (
    evaluations,
    jobs,
    refusals,
    rounds,
    traffic,
    updates,
    versions,
)
from fedmill_coordinator.store.sql_models import append_version, change_job, move_alias
from fedmill_coordinator.store.sql_pki import SqlPki
from fedmill_coordinator.store.sql_releases import SqlReleases
from fedmill_coordinator.store.sql_traffic import replace_traffic, sums_by_agent
from fedmill_coordinator.store.sql_wishes import SqlWishes


class SqlStore(SqlReleases, SqlWishes, SqlPki):
    """Rows in SQLite or, by its URL, in another database."""

    @classmethod
    def in_file(cls, path: Path) -> Self:
        """The store in the SQLite file ``path``, which the first use creates."""
        return cls(URL.create("sqlite", database=str(path)))

    def open_round(self, record: RoundRecord) -> None:
        with self._database.write(f"round {record.round} of job {record.job!r}") as connection:
            current = find(connection, rounds, RoundRecord, job=record.job, state="open")
            add(connection, rounds, rules.opening(record, current))

    def extend_round(
        self, job: str, number: int, deadline_ns: int, asked: Collection[str] = ()
    ) -> None:
        with self._database.write(f"deadline of round {number} of job {job!r}") as connection:
            stored = rules.still_open(_round(connection, job, number), job, number)
            extended = structs.replace(stored, deadline_ns=deadline_ns, asked=list(asked))
            save(connection, rounds, checked(extended))

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
        with self._database.write(f"end of round {number} of job {job!r}") as connection:
            stored = rules.still_open(_round(connection, job, number), job, number)
            abandoned = rules.abandoned(stored, closed_ns, report, traffic, published_bytes)
            if traffic:
                replace_traffic(connection, job, number, traffic)
            late = _discard_waiting(connection, job, rules.ABANDONED, rules.ABANDONED_REASON)
            save(connection, rounds, checked(structs.replace(abandoned, discarded=late)))

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
        with self._database.write(f"end of round {number} of job {job!r}") as connection:
            now_ns = rules.ended(closed, _round(connection, job, number))
            rules.adds_up(closed, traffic)
            save(connection, rounds, checked(closed))
            if traffic:
                replace_traffic(connection, job, number, traffic)
            waiting = _waiting(connection, job)
            for record in rules.decided(closed, included, discarded, waiting):
                save(connection, updates, record)
            if version is not None:
                alias = rules.candidate(version, closed, now_ns)
                append_version(connection, checked(version))
                move_alias(connection, alias)
            changes: JobChanges = {
                "rule_state": rule_state,
                "downlink_residual": downlink_residual,
                "state": job_state,
            }
            change_job(connection, job, now_ns, changes)

    def round(self, job: str, number: int) -> RoundRecord | None:
        with self._database.read() as connection:
            return _round(connection, job, number)

    def current_round(self, job: str) -> RoundRecord | None:
        with self._database.read() as connection:
            return find(connection, rounds, RoundRecord, job=job, state="open")

    def rounds(self, job: str, *, last: int | None = None) -> list[RoundRecord]:
        query = select(rounds).where(key(rounds, job=job)).order_by(rounds.c.round.desc())
        return self._database.rows(query.limit(last), RoundRecord)[::-1]

    def save_traffic(self, job: str, number: int, records: Sequence[TrafficRecord]) -> None:
        with self._database.write(f"bytes of round {number} of job {job!r}") as connection:
            if find(connection, jobs, JobRecord, name=job) is None:
                raise rules.unknown(f"job {job!r}")
            replace_traffic(connection, job, number, records)

    def traffic(self, job: str, number: int) -> list[TrafficRecord]:
        query = select(traffic).where(key(traffic, job=job, round=number)).order_by("agent")
        return self._database.rows(query, TrafficRecord)

    def traffic_by_agent(self, job: str) -> dict[str, tuple[int, int]]:
        with self._database.read() as connection:
            return sums_by_agent(connection, job)

    def add_update(self, record: UpdateRecord) -> bool:
        record = checked(record)
        job, number = record.job, record.round
        with self._database.write(rules.update_name(record)) as connection:
            stored = _update(connection, job, number, record.agent, record.base)
            if rules.is_repeat(record, stored):
                return False
            if _round(connection, job, number) is None:
                raise rules.unknown(f"round {number} of job {job!r}")
            state = select(jobs.c.state).where(key(jobs, name=job))
            rules.may_wait(record, connection.execute(state).scalar_one())
            add(connection, updates, record)
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
        with self._database.write(what) as connection:
            stored = _update(connection, job, number, agent, base)
            late = rules.discarded_update(what, stored, state, code=code, reason=reason)
            save(connection, updates, late)

    def discard_waiting(self, job: str, *, code: str, reason: str) -> int:
        with self._database.write(f"updates of job {job!r} that wait") as connection:
            return _discard_waiting(connection, job, code, reason)

    def update(self, job: str, number: int, agent: str, base: str) -> UpdateRecord | None:
        with self._database.read() as connection:
            return _update(connection, job, number, agent, base)

    def pending(self, job: str) -> list[UpdateRecord]:
        with self._database.read() as connection:
            return _waiting(connection, job)

    def recent_updates(self, job: str, limit: int) -> list[UpdateRecord]:
        newest = (updates.c.received_ns.desc(), "agent", "round", "base")
        query = select(updates).where(key(updates, job=job)).order_by(*newest).limit(limit)
        return self._database.rows(query, UpdateRecord)

    def updates(self, job: str, number: int) -> list[UpdateRecord]:
        query = select(updates).where(key(updates, job=job, round=number))
        return self._database.rows(query.order_by("received_ns", "agent", "base"), UpdateRecord)

    def save_evaluation(self, record: EvaluationRecord) -> None:
        record = checked(record)
        what = f"evaluation of agent {record.agent!r} for job {record.job!r}"
        with self._database.write(what) as connection:
            save(connection, evaluations, record)

    def evaluations(self, job: str, version: str | None = None) -> list[EvaluationRecord]:
        query = select(evaluations).join(versions).where(key(evaluations, job=job))
        if version is not None:
            query = query.where(key(evaluations, version=version))
        order = (versions.c.number, evaluations.c.agent, evaluations.c.split)
        return self._database.rows(query.order_by(*order), EvaluationRecord)

    def add_refusal(self, record: RefusalRecord) -> None:
        values = structs.asdict(checked(record))
        with self._database.write(f"refusal of agent {record.agent!r}") as connection:
            connection.execute(insert(refusals).values(values))
            newest = select(func.max(refusals.c.id)).scalar_subquery()
            connection.execute(delete(refusals).where(refusals.c.id <= newest - KEPT_REFUSALS))

    def refusals(self, job: str | None = None, *, limit: int = 100) -> list[RefusalRecord]:
        query = select(refusals).order_by(refusals.c.id.desc()).limit(limit)
        if job is not None:
            query = query.where(key(refusals, job=job))
        return self._database.rows(query, RefusalRecord)

    def live_blobs(self) -> set[str]:
        held = union(
            select(jobs.c.template),
            select(jobs.c.canary_inputs),
            select(jobs.c.downlink_residual),
            select(jobs.c.quantised),
            select(versions.c.weights),
            select(versions.c.delta),
            select(updates.c.blob).where(key(updates, state="received")),
        )
        with self._database.read() as connection:
            return {name for name in connection.execute(held).scalars() if name is not None}


def _round(connection: Connection, job: str, number: int) -> RoundRecord | None:
    return find(connection, rounds, RoundRecord, job=job, round=number)


def _update(
    connection: Connection, job: str, number: int, agent: str, base: str
) -> UpdateRecord | None:
    return find(connection, updates, UpdateRecord, job=job, round=number, agent=agent, base=base)


def _waiting(connection: Connection, job: str) -> list[UpdateRecord]:
    query = select(updates).where(key(updates, job=job, state="received"))
    return found(connection, query.order_by("agent", "round", "base"), UpdateRecord)


def _discard_waiting(connection: Connection, job: str, code: str, reason: str) -> int:
    waiting = key(updates, job=job, state="received")
    late = update(updates).where(waiting).values(state="late", code=code, reason=reason)
    return connection.execute(late).rowcount
