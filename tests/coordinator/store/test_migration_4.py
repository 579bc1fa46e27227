# SPDX-License-Identifier: Apache-2.0
"""A database of schema 3, as it was: what is in it afterwards, and what it can then keep."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.coordinator.store.test_migrations import asked, kinds, tables, versions_after_kills

from fedmill_coordinator.store import schema
from fedmill_coordinator.store.records_releases import InstallRecord, ReleaseRecord
from fedmill_coordinator.store.sql import SqlStore

OLD = Path(__file__).with_name("schema_3.sql")
FIRST, SECOND = "0123456789abcdef" * 4, "fedcba9876543210" * 4


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that the fedmill before this one left."""
    path = tmp_path / "coordinator.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(OLD.read_text())
    return path


class TestFromSchema3:
    def test_keeps_what_was_there(self, path: Path) -> None:
        """Jobs and orders with the defaults of what is new, everything else as it was."""
        with SqlStore.in_file(path) as store:
            job = store.job("bearings")
            assert job is not None
            assert (job.state, job.quantised, job.further_rounds) == ("finished", None, 0)
            done, waits = store.order(1), store.order(2)
            assert done is not None
            assert waits is not None
            assert (done.outcome, done.argument) == ("the job is paused", "")
            assert store.open_orders() == [waits]
            assert {a.alias: a.version for a in store.aliases("bearings")} == {
                "candidate": SECOND,
                "stable": SECOND,
            }
            assert store.releases("bearings") == []
        assert asked(path, "SELECT max(version) FROM schema_version") == [(schema.VERSION,)]
        assert asked(path, "PRAGMA integrity_check") == [("ok",)]
        assert asked(path, "PRAGMA foreign_key_check") == []

    def test_releases_begin_with_it(self, path: Path) -> None:
        """A job that was finished long ago can be rolled back."""
        with SqlStore.in_file(path) as store:
            release = ReleaseRecord(
                job="bearings",
                release=1,
                version=FIRST,
                before=SECOND,
                why="rollback",
                rings=["fleet"],
                created_ns=9,
            )
            store.add_release(release)
            install = InstallRecord(
                job="bearings", release=1, agent="press-1", ring=1, asked_ns=9, heard_ns=9
            )
            store.save_release(release, [install])
        with SqlStore.in_file(path) as store:
            assert store.releases("bearings") == [release]
            assert store.installs("bearings", 1) == [install]
            number = store.give_order("bearings", "promote", "anna", 5, argument="{}")
            assert [order.id for order in store.open_orders()] == [2, number]

    def test_has_the_columns_of_a_new_one(self, path: Path, tmp_path: Path) -> None:
        """By name and type."""
        new = tmp_path / "new.db"
        for each in (path, new):
            with SqlStore.in_file(each) as store:
                store.jobs()
        assert kinds(path) == kinds(new)
        for table in ("releases", "installs", "wishes"):
            assert tables(path)[table] == tables(new)[table]

    def test_killed_at_any_statement(self, path: Path) -> None:
        """Schema 3 is whole before the commit, today's after it."""
        killed = versions_after_kills(path, 3)
        assert killed.count(3) > 4
        assert sorted(killed) == killed
        assert asked(path, "SELECT max(version) FROM schema_version") == [(schema.VERSION,)]
