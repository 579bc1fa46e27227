# SPDX-License-Identifier: Apache-2.0
"""A database of schema 4, as it was: what is in it afterwards, and what it can then keep."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import structs
from tests.contract.test_store_pki import a_certificate, an_enrolment
from tests.coordinator.store.test_migrations import asked, kinds, tables, versions_after_kills

from fedmill_coordinator.store import schema
from fedmill_coordinator.store.sql import SqlStore

OLD = Path(__file__).with_name("schema_4.sql")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that the fedmill before this one left."""
    path = tmp_path / "coordinator.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(OLD.read_text())
    return path


class TestFromSchema4:
    def test_keeps_what_was_there(self, path: Path) -> None:
        """An update that waits goes on waiting, and nobody has signed it."""
        with SqlStore.in_file(path) as store:
            [update] = store.pending("bearings")
            assert (update.agent, update.examples, update.shift) == ("press-1", 8, "{}")
            assert (update.key, update.origin, update.signature) == ("", b"", b"")
            assert store.certificates() == []
            assert store.enrolments() == []
        assert asked(path, "SELECT max(version) FROM schema_version") == [(schema.VERSION,)]
        assert asked(path, "PRAGMA integrity_check") == [("ok",)]
        assert asked(path, "PRAGMA foreign_key_check") == []

    def test_certificates_begin_with_it(self, path: Path) -> None:
        """An agent enrols, and signs its next update."""
        issued = structs.replace(an_enrolment(), state="issued", serial="1", settled_ns=2)
        with SqlStore.in_file(path) as store:
            [unsigned] = store.pending("bearings")
            signed = structs.replace(
                unsigned, agent="press-2", key="ab", origin=b"\0o", signature=b"\xffs"
            )
            store.add_enrolment(an_enrolment())
            store.save_enrolment(issued, a_certificate())
            store.add_update(signed)
        with SqlStore.in_file(path) as store:
            assert store.enrolments() == [issued]
            assert store.certificates() == [a_certificate()]
            assert store.pending("bearings") == [unsigned, signed]

    def test_has_the_columns_of_a_new_one(self, path: Path, tmp_path: Path) -> None:
        """By name and type."""
        new = tmp_path / "new.db"
        for each in (path, new):
            with SqlStore.in_file(each) as store:
                store.jobs()
        assert kinds(path) == kinds(new)
        for table in ("certificates", "enrolments", "updates"):
            assert tables(path)[table] == tables(new)[table]

    def test_killed_at_any_statement(self, path: Path) -> None:
        """Schema 4 is whole before the commit, today's after it."""
        killed = versions_after_kills(path, 4)
        assert killed.count(4) > 4
        assert sorted(killed) == killed
        assert asked(path, "SELECT max(version) FROM schema_version") == [(schema.VERSION,)]
