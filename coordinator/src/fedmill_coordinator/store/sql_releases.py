# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: D102  what every method promises is said once, in ReleaseRows
"""Releases in a database, and how far each agent is with them."""

from collections.abc import Sequence

from sqlalchemy import Connection, Table, delete, select

from fedmill_coordinator.store import rules, rules_releases
from fedmill_coordinator.store.base_releases import KEPT_INSTALLS, KEPT_RELEASES
from fedmill_coordinator.store.database import add, find, found, key, save
from fedmill_coordinator.store.records import VersionRecord
from fedmill_coordinator.store.records_releases import InstallRecord, ReleaseRecord
from fedmill_coordinator.store.schema import aliases, installs, releases, versions
from fedmill_coordinator.store.sql_models import SqlModels, move_alias


class SqlReleases(SqlModels):
    """The part of the SQL store that is about releases."""

    def add_release(self, record: ReleaseRecord) -> None:
        with self._database.write(rules_releases.release_name(record)) as connection:
            before = _releases(connection, record.job)
            added = rules_releases.new_release(record, before[-1] if before else None)
            for version in (record.version, record.before):
                _known(connection, record.job, version)
            for stored in before:
                ended = rules_releases.superseded(stored, added)
                if ended is not None:
                    _end(connection, ended)
            add(connection, releases, added)
            _move_aliases(connection, added)
            numbers = [each.release for each in (*before, added)]
            _forget(connection, installs, record.job, numbers[:-KEPT_INSTALLS])
            _forget(connection, releases, record.job, numbers[:-KEPT_RELEASES])

    def save_release(self, record: ReleaseRecord, installs: Sequence[InstallRecord] = ()) -> None:
        with self._database.write(rules_releases.release_name(record)) as connection:
            stored = find(
                connection, releases, ReleaseRecord, job=record.job, release=record.release
            )
            changed = rules_releases.changed_release(record, stored)
            for install in rules_releases.of_release(changed, installs):
                _save_install(connection, install)
            _end(connection, changed)
            if stored is None or stored.state != changed.state:
                _move_aliases(connection, changed)

    def release(self, job: str, number: int) -> ReleaseRecord | None:
        with self._database.read() as connection:
            return find(connection, releases, ReleaseRecord, job=job, release=number)

    def releases(self, job: str, *, last: int | None = None) -> list[ReleaseRecord]:
        query = select(releases).where(key(releases, job=job)).order_by(releases.c.release.desc())
        return self._database.rows(query.limit(last), ReleaseRecord)[::-1]

    def installs(self, job: str, release: int) -> list[InstallRecord]:
        with self._database.read() as connection:
            return _installs(connection, job, release)


def _end(connection: Connection, record: ReleaseRecord) -> None:
    """Write a release that is there, and what its end means for its agents."""
    save(connection, releases, record)
    if record.state in rules_releases.GIVEN_UP:
        told = _installs(connection, record.job, record.release)
        for install in rules_releases.withdrawn(record, told):
            _save_install(connection, install)


def _move_aliases(connection: Connection, record: ReleaseRecord) -> None:
    moved = rules_releases.stable(record, record.ended_ns or record.created_ns)
    if moved is not None:
        move_alias(connection, moved)
    canary = rules_releases.canary(record)
    if canary is not None:
        save(connection, aliases, canary)
    else:
        connection.execute(delete(aliases).where(key(aliases, job=record.job, alias="canary")))


def _forget(connection: Connection, table: Table, job: str, numbers: Sequence[int]) -> None:
    """Remove the rows of releases up to the last of ``numbers``."""
    if numbers:
        over = table.c.release <= numbers[-1]
        connection.execute(delete(table).where(key(table, job=job), over))


def _known(connection: Connection, job: str, version: str | None) -> None:
    if version is None:
        return
    if find(connection, versions, VersionRecord, job=job, version=version) is None:
        raise rules.unknown(f"version {version} of job {job!r}")


def _save_install(connection: Connection, install: InstallRecord) -> None:
    save(connection, installs, install)


def _releases(connection: Connection, job: str) -> list[ReleaseRecord]:
    query = select(releases).where(key(releases, job=job)).order_by("release")
    return found(connection, query, ReleaseRecord)


def _installs(connection: Connection, job: str, release: int) -> list[InstallRecord]:
    query = select(installs).where(key(installs, job=job, release=release)).order_by("agent")
    return found(connection, query, InstallRecord)
