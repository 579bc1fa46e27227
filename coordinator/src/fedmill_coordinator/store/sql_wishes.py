# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: D102  what every method promises is said once, in WishRows
"""Wishes in a database."""

from sqlalchemy import select, update

from fedmill_coordinator.store import rules
from fedmill_coordinator.store.database import find, key, save
from fedmill_coordinator.store.records import JobRecord, checked
from fedmill_coordinator.store.records_wishes import WishRecord
from fedmill_coordinator.store.schema import jobs, wishes
from fedmill_coordinator.store.sql_models import SqlModels


class SqlWishes(SqlModels):
    """The part of the SQL store that is about wishes."""

    def save_wish(self, record: WishRecord) -> None:
        record = checked(record)
        with self._database.write(f"wish of agent {record.agent!r}") as connection:
            if find(connection, jobs, JobRecord, name=record.job) is None:
                raise rules.unknown(f"job {record.job!r}")
            save(connection, wishes, record)

    def settle_wishes(self, job: str, *, settled_ns: int, rounds: int) -> None:
        open_ones = update(wishes).where(key(wishes, job=job), wishes.c.settled_ns.is_(None))
        with self._database.write(f"wishes of job {job!r}") as connection:
            connection.execute(open_ones.values(settled_ns=settled_ns, rounds=rounds))

    def wishes(self, job: str) -> list[WishRecord]:
        query = select(wishes).where(key(wishes, job=job)).order_by("agent")
        return self._database.rows(query, WishRecord)
