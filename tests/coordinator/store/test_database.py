# SPDX-License-Identifier: Apache-2.0
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import structs
from tests.coordinator.store.together import at_once

from fedmill_coordinator.store import database, schema
from fedmill_coordinator.store.base import KEPT_REFUSALS, Store
from fedmill_coordinator.store.memory import MemoryStore
from fedmill_coordinator.store.records import JobRecord, RefusalRecord
from fedmill_coordinator.store.sql import SqlStore
from fedmill_shared.errors import StoreError
from fedmill_shared.files import sha256

JOB = JobRecord(
    name="bearings",
    text="[job]",
    sha256=sha256(b"[job]"),
    state="waiting",
    created_ns=1,
    updated_ns=1,
    rule_state=b"x" * 9000,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with one job, closed."""
    path = tmp_path / "coordinator.db"
    with SqlStore.in_file(path) as store:
        store.add_job(JOB)
    return path


def execute(path: Path, *statements: str) -> None:
    """What something else does to the file."""
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


class TestOpening:
    def test_is_lazy_and_can_be_repeated(self, tmp_path: Path) -> None:
        """No file before the first use; a closed store opens again."""
        path = tmp_path / "coordinator.db"
        store = SqlStore.in_file(path)
        assert not path.exists()
        store.add_job(JOB)
        store.close()
        assert sorted(file.name for file in tmp_path.iterdir()) == ["coordinator.db"]
        assert store.jobs() == [JOB]
        store.close()

    def test_commits_survive_a_power_cut(self, path: Path) -> None:
        """Every connection has a write-ahead log that is synced at each commit."""
        wanted = {"journal_mode": "wal", "synchronous": 2, "busy_timeout": 5000, "foreign_keys": 1}
        with SqlStore.in_file(path) as store, store._database.read() as connection:
            found = {
                pragma: connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() for pragma in wanted
            }
        assert found == wanted

    def test_first_use_by_many_at_once(self, tmp_path: Path) -> None:
        """Processes that all find no file agree on one schema."""
        path = tmp_path / "coordinator.db"
        told = at_once(path, "print(store.jobs())", ["anna", "ben", "clara", "dora"])
        assert told == [("[]\n", "")] * 4

    def test_waits_for_who_creates_the_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The switch of a new file to its log is tried again until the other process is done."""
        path = tmp_path / "coordinator.db"
        monkeypatch.setattr(database, "_PRAGMAS", ("busy_timeout=1",))
        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN EXCLUSIVE")
            monkeypatch.setattr(
                "fedmill_coordinator.store.database.time.sleep", lambda _: other.rollback()
            )
            with SqlStore.in_file(path) as store:
                assert store.jobs() == []

    def test_does_not_wait_for_ever(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Another process that never ends is told in the end."""
        path = tmp_path / "coordinator.db"
        pauses: list[float] = []
        monkeypatch.setattr(database, "_PRAGMAS", ("busy_timeout=1",))
        monkeypatch.setattr("fedmill_coordinator.store.database.time.sleep", pauses.append)
        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreError, match="locked by another process"):
                SqlStore.in_file(path).jobs()
        assert sum(pauses) == pytest.approx(4.95)

    def test_newer_schema_is_refused(self, path: Path) -> None:
        """A database of a newer fedmill is left alone."""
        execute(path, "UPDATE schema_version SET version = 99")
        with pytest.raises(StoreError, match="newer fedmill"):
            SqlStore.in_file(path).jobs()

    def test_tables_have_the_fields_of_their_records(self) -> None:
        """Schema 5 is this; a change needs a migration and the next number."""
        assert schema.VERSION == 5
        columns = {table.name: len(table.columns) for table in schema.metadata.sorted_tables}
        assert columns == {
            "agents": 13,
            "aliases": 4,
            "certificates": 12,
            "enrolments": 13,
            "evaluations": 7,
            "installs": 11,
            "jobs": 15,
            "moments": 4,
            "orders": 8,
            "refusals": 6,
            "releases": 18,
            "rounds": 18,
            "schema_version": 1,
            "traffic": 5,
            "updates": 21,
            "versions": 9,
            "wishes": 8,
        }


class TestFaults:
    def fails(self, store: Store, *words: str) -> None:
        """Listing the jobs is a StoreError with these words and a remedy."""
        with pytest.raises(StoreError) as caught:
            store.jobs()
        store.close()
        assert caught.value.remedy
        for word in words:
            assert word in str(caught.value)

    @pytest.mark.parametrize("content", [b"not a database" * 400, b"SQLite format 3\0" * 400])
    def test_foreign_file(self, tmp_path: Path, content: bytes) -> None:
        """A file that is no database is named, with what to do."""
        path = tmp_path / "coordinator.db"
        path.write_bytes(content)
        self.fails(SqlStore.in_file(path), str(path), "restore the file", "move it aside")
        assert path.read_bytes() == content

    def test_damaged_page(self, path: Path) -> None:
        """A page full of zeros is damage, told by whichever call meets it."""
        data = bytearray(path.read_bytes())
        data[4096:] = bytes(len(data) - 4096)
        path.write_bytes(data)
        self.fails(SqlStore.in_file(path), str(path), "restore the file")

    def test_cut_file(self, path: Path) -> None:
        """A file that lost its end is damage."""
        path.write_bytes(path.read_bytes()[:6000])
        self.fails(SqlStore.in_file(path), str(path), "restore the file")

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE jobs SET state = 'asleep'",
            "UPDATE jobs SET created_ns = 'long ago'",
            "UPDATE jobs SET text = CAST(x'ff' AS TEXT)",
        ],
    )
    def test_damaged_row(self, path: Path, statement: str) -> None:
        """A row that cannot be a record is damage, not a wrong answer."""
        execute(path, statement)
        self.fails(SqlStore.in_file(path), str(path))

    def test_damaged_names(self, path: Path) -> None:
        """So is a list of names that is none."""
        with SqlStore.in_file(path) as store:
            execute(
                path,
                "PRAGMA foreign_keys = OFF",
                "INSERT INTO rounds VALUES "
                "('bearings',1,'b','open',1,1,1,1,'[1',1,1,'',0,0,0,'[]',0,'')",
            )
            with pytest.raises(StoreError, match="damaged row"):
                store.rounds("bearings")

    def test_no_folder(self, tmp_path: Path) -> None:
        """A folder that is not there is told."""
        self.fails(SqlStore.in_file(tmp_path / "no" / "a.db"), "no/a.db", "folder exists")

    def test_database_of_another_program(self, tmp_path: Path) -> None:
        """Tables of someone else stay theirs."""
        path = tmp_path / "recipes.db"
        execute(path, "CREATE TABLE recipes (name TEXT)")
        self.fails(SqlStore.in_file(path), str(path), "another program")

    def test_wrong_url(self) -> None:
        """A URL that is none, and one whose driver is missing, are told without the password."""
        self.fails(SqlStore("bearings"), "URL")
        store = SqlStore("oracle+oracledb://fedmill:secret@server/plant")
        self.fails(store, "oracledb", "driver", "fedmill:***@server")

    def test_full_disk(self, path: Path) -> None:
        """A disk that is full is told, and what was there stays."""
        with SqlStore.in_file(path) as store:
            with store._database.read() as connection:
                connection.exec_driver_sql("PRAGMA max_page_count = 1")
            with pytest.raises(StoreError, match="disk is full"):
                store.add_job(structs.replace(JOB, name="fans", rule_state=b"x" * 10**6))
            assert store.jobs() == [JOB]


class TestOtherProcesses:
    def test_reads_while_the_daemon_writes(self, path: Path) -> None:
        """A listing sees the last commit at once, even in the middle of a write."""
        with SqlStore.in_file(path) as daemon, SqlStore.in_file(path) as reader:
            with daemon._database.write("a long change") as connection:
                connection.exec_driver_sql("UPDATE jobs SET state = 'running'")
                assert reader.jobs() == [JOB]
            assert reader.jobs() == [structs.replace(JOB, state="running")]

    def test_second_writer_is_told(self, path: Path) -> None:
        """A lock that is not given back in time is an error, not a hang."""
        with SqlStore.in_file(path) as daemon, SqlStore.in_file(path) as other:
            with other._database.read() as connection:
                connection.exec_driver_sql("PRAGMA busy_timeout = 10")
            with (
                daemon._database.write("a long change"),
                pytest.raises(StoreError, match="locked by another process"),
            ):
                other.update_job("bearings", updated_ns=2, state="stopped")

    def test_two_writers_take_turns(self, path: Path) -> None:
        """Two processes that give orders and deal with them lose nothing and refuse nothing."""
        work = (
            "for count in range(50):\n"
            "    order = store.give_order('bearings', 'pause', who, count)\n"
            "    store.finish_order(order, done_ns=count, outcome=who)\n"
            "    print(order)\n"
        )
        told = at_once(path, work, ["anna", "ben"])
        assert [error for _, error in told] == ["", ""]
        with SqlStore.in_file(path) as store:
            for who, (output, _) in zip(("anna", "ben"), told, strict=True):
                found = [store.order(int(number)) for number in output.split()]
                assert [order.given_ns for order in found if order] == list(range(50))
                assert {(order.by, order.outcome) for order in found if order} == {(who, who)}
            assert store.open_orders() == []
            assert store.order(100) is not None
            assert store.order(101) is None

    def test_one_open_round_is_a_constraint(self, path: Path) -> None:
        """Not even a writer that asks nobody can open a second round."""
        insert = (
            "INSERT INTO rounds VALUES "
            "('bearings',{},'b','open',1,1,1,1,'[]',1,1,'',0,0,0,'[]',0,'')"
        )
        SqlStore.in_file(path).jobs()
        execute(path, insert.format(1), insert.format(2).replace("open", "closed"))
        with pytest.raises(sqlite3.IntegrityError):
            execute(path, insert.format(3))


class TestRefusals:
    @pytest.mark.parametrize("make", [MemoryStore, lambda: SqlStore("sqlite://")])
    def test_old_ones_are_forgotten(
        self, make: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An agent that is refused for ever cannot fill the disk."""
        assert KEPT_REFUSALS == 10_000
        for module in ("sql", "memory"):
            monkeypatch.setattr(f"fedmill_coordinator.store.{module}.KEPT_REFUSALS", 3)
        with make() as store:
            for number in range(5):
                store.add_refusal(
                    RefusalRecord(
                        job="fans", agent="press-1", reason="unit", text="", received_ns=number
                    )
                )
            assert [record.received_ns for record in store.refusals()] == [4, 3, 2]
