# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: D102  what every method promises is said once, in Store
"""Jobs, orders, agents, statistics, versions and aliases in a database."""

from collections.abc import Collection
from typing import Unpack

from msgspec import structs
from sqlalchemy import URL, Connection, insert, select, update

from fedmill_coordinator.store import rules
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.database import Database, add, find, key, save
from fedmill_coordinator.store.records import (
    AgentRecord,
    Alias,
    AliasRecord,
    JobChanges,
    JobRecord,
    MomentsRecord,
    OrderRecord,
    Verb,
    VersionRecord,
    checked,
)
from fedmill_coordinator.store.schema import (
    agents,
    aliases,
    jobs,
    moments,
    orders,
    rounds,
    versions,
)


class SqlModels(Store):
    """The half of the SQL store that is about models rather than rounds."""

    def __init__(self, url: str | URL) -> None:
        """``url`` is SQLAlchemy's; ``sqlite://`` alone keeps everything in memory."""
        self._database = Database(url)

    def close(self) -> None:
        self._database.close()

    def add_job(self, record: JobRecord) -> None:
        with self._database.write(f"job {record.name!r}") as connection:
            stored = find(connection, jobs, JobRecord, name=record.name)
            add(connection, jobs, rules.new_job(record, stored))

    def update_job(self, name: str, *, updated_ns: int, **changes: Unpack[JobChanges]) -> None:
        with self._database.write(f"changes of job {name!r}") as connection:
            change_job(connection, name, updated_ns, changes)

    def job(self, name: str) -> JobRecord | None:
        with self._database.read() as connection:
            return find(connection, jobs, JobRecord, name=name)

    def jobs(self) -> list[JobRecord]:
        return self._database.rows(select(jobs).order_by("name"), JobRecord)

    def give_order(
        self, job: str, verb: Verb, by: str, given_ns: int, *, argument: str = ""
    ) -> int:
        record = checked(
            OrderRecord(id=0, job=job, verb=verb, by=by, given_ns=given_ns, argument=argument)
        )
        values = {field: value for field, value in structs.asdict(record).items() if field != "id"}
        with self._database.write(f"order to {verb} job {job!r}") as connection:
            if find(connection, jobs, JobRecord, name=job) is None:
                raise rules.unknown(f"job {job!r}")
            added = insert(orders).values(values).returning(orders.c.id)
            number: int = connection.execute(added).scalar_one()
            return number

    def open_orders(self) -> list[OrderRecord]:
        query = select(orders).where(orders.c.done_ns.is_(None)).order_by("id")
        return self._database.rows(query, OrderRecord)

    def finish_order(self, number: int, *, done_ns: int, outcome: str) -> None:
        with self._database.write(f"outcome of order {number}") as connection:
            stored = find(connection, orders, OrderRecord, id=number)
            save(connection, orders, rules.finished(stored, number, done_ns, outcome))

    def order(self, number: int) -> OrderRecord | None:
        with self._database.read() as connection:
            return find(connection, orders, OrderRecord, id=number)

    def save_agent(self, record: AgentRecord) -> None:
        record = checked(record)
        with self._database.write(f"agent {record.agent!r}") as connection:
            save(connection, agents, record)

    def agent(self, agent: str) -> AgentRecord | None:
        with self._database.read() as connection:
            return find(connection, agents, AgentRecord, agent=agent)

    def agents(self) -> list[AgentRecord]:
        return self._database.rows(select(agents).order_by("agent"), AgentRecord)

    def save_moments(self, record: MomentsRecord) -> None:
        record = checked(record)
        what = f"statistics of agent {record.agent!r} for job {record.job!r}"
        with self._database.write(what) as connection:
            save(connection, moments, record)

    def moments(self, job: str) -> list[MomentsRecord]:
        query = select(moments).where(key(moments, job=job)).order_by("agent")
        return self._database.rows(query, MomentsRecord)

    def add_version(self, record: VersionRecord) -> None:
        record = checked(record)
        with self._database.write(f"version {record.number} of job {record.job!r}") as connection:
            append_version(connection, record)

    def version(self, job: str, version: str) -> VersionRecord | None:
        with self._database.read() as connection:
            return find(connection, versions, VersionRecord, job=job, version=version)

    def versions(self, job: str) -> list[VersionRecord]:
        query = select(versions).where(key(versions, job=job)).order_by("number")
        return self._database.rows(query, VersionRecord)

    def forget_weights(self, job: str, keep: Collection[str]) -> int:
        aliased = select(aliases.c.version).where(key(aliases, job=job))
        in_use = select(rounds.c.base).where(key(rounds, job=job, state="open"))
        forget = (
            update(versions)
            .where(
                key(versions, job=job),
                versions.c.weights.is_not(None),
                versions.c.version.not_in(list(keep)),
                versions.c.version.not_in(aliased),
                versions.c.version.not_in(in_use),
            )
            .values(weights=None, delta=None)
        )
        with self._database.write(f"versions of job {job!r}") as connection:
            return connection.execute(forget).rowcount

    def set_alias(self, job: str, alias: Alias, version: str, *, updated_ns: int) -> None:
        record = AliasRecord(job=job, alias=alias, version=version, updated_ns=updated_ns)
        with self._database.write(f"alias {alias} of job {job!r}") as connection:
            move_alias(connection, checked(record))

    def alias(self, job: str, alias: Alias) -> AliasRecord | None:
        with self._database.read() as connection:
            return find(connection, aliases, AliasRecord, job=job, alias=alias)

    def aliases(self, job: str) -> list[AliasRecord]:
        query = select(aliases).where(key(aliases, job=job)).order_by("alias")
        return self._database.rows(query, AliasRecord)


def change_job(connection: Connection, name: str, updated_ns: int, changes: JobChanges) -> None:
    """Write the given fields of a job; StoreError if there is no such job."""
    stored = find(connection, jobs, JobRecord, name=name)
    if stored is None:
        raise rules.unknown(f"job {name!r}")
    checked(structs.replace(stored, updated_ns=updated_ns, **changes))
    connection.execute(
        update(jobs).where(key(jobs, name=name)).values(updated_ns=updated_ns, **changes)
    )


def append_version(connection: Connection, record: VersionRecord) -> None:
    """Insert a version; StoreError unless its base is stored before it."""
    if record.base is not None:
        base = find(connection, versions, VersionRecord, job=record.job, version=record.base)
        if base is None:
            raise rules.unknown(f"version {record.base} of job {record.job!r}")
    add(connection, versions, record)


def move_alias(connection: Connection, record: AliasRecord) -> None:
    """Set or move an alias; ``previous`` follows ``stable``."""
    stable = find(connection, aliases, AliasRecord, job=record.job, alias="stable")
    previous = rules.previous(stable, record)
    if previous is not None:
        save(connection, aliases, previous)
    save(connection, aliases, record)
