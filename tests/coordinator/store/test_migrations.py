# SPDX-License-Identifier: Apache-2.0
"""Databases of earlier fedmills: their tables as they were, and what is in them afterwards."""

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import structs
from sqlalchemy import create_engine, event, inspect
from sqlalchemy.engine import Engine
from tests.coordinator.store.together import at_once

from fedmill_coordinator.store import migrations, schema
from fedmill_coordinator.store.records import (
    AgentRecord,
    JobRecord,
    RoundRecord,
    TrafficRecord,
    UpdateRecord,
)
from fedmill_coordinator.store.sql import SqlStore
from fedmill_shared.errors import StoreError
from fedmill_shared.files import sha256

TABLES_1 = """
CREATE TABLE schema_version (
version INTEGER NOT NULL,
PRIMARY KEY (version)
);
CREATE TABLE jobs (
name TEXT NOT NULL,
text TEXT NOT NULL,
sha256 TEXT NOT NULL,
state TEXT NOT NULL,
created_ns BIGINT NOT NULL,
updated_ns BIGINT NOT NULL,
normaliser BLOB,
manifest BLOB,
template TEXT,
canary_inputs TEXT,
rule_state BLOB NOT NULL,
downlink_residual TEXT,
PRIMARY KEY (name)
);
CREATE TABLE agents (
agent TEXT NOT NULL,
online BOOLEAN NOT NULL,
last_seen_ns BIGINT NOT NULL,
software TEXT NOT NULL,
jobs TEXT NOT NULL,
model_version TEXT,
resident_bytes BIGINT NOT NULL,
windows_scored BIGINT NOT NULL,
clock_skew_ms DOUBLE,
detail TEXT NOT NULL,
PRIMARY KEY (agent)
);
CREATE TABLE refusals (
id INTEGER NOT NULL,
job TEXT NOT NULL,
agent TEXT NOT NULL,
reason TEXT NOT NULL,
text TEXT NOT NULL,
received_ns BIGINT NOT NULL,
PRIMARY KEY (id)
);
CREATE TABLE moments (
job TEXT NOT NULL,
agent TEXT NOT NULL,
payload BLOB NOT NULL,
received_ns BIGINT NOT NULL,
PRIMARY KEY (job, agent),
FOREIGN KEY(job) REFERENCES jobs (name)
);
CREATE TABLE versions (
job TEXT NOT NULL,
number BIGINT NOT NULL,
version TEXT NOT NULL,
base TEXT,
weights TEXT,
delta TEXT,
canary_outputs BLOB NOT NULL,
round BIGINT,
created_ns BIGINT NOT NULL,
PRIMARY KEY (job, number),
UNIQUE (job, version),
FOREIGN KEY(job, base) REFERENCES versions (job, version),
FOREIGN KEY(job) REFERENCES jobs (name)
);
CREATE TABLE aliases (
job TEXT NOT NULL,
alias TEXT NOT NULL,
version TEXT NOT NULL,
updated_ns BIGINT NOT NULL,
PRIMARY KEY (job, alias),
FOREIGN KEY(job, version) REFERENCES versions (job, version)
);
CREATE TABLE rounds (
job TEXT NOT NULL,
round BIGINT NOT NULL,
base TEXT NOT NULL,
state TEXT NOT NULL,
opened_ns BIGINT NOT NULL,
deadline_ns BIGINT NOT NULL,
closed_ns BIGINT,
seconds DOUBLE,
included TEXT NOT NULL,
uplink_bytes BIGINT NOT NULL,
downlink_bytes BIGINT NOT NULL,
report TEXT NOT NULL,
PRIMARY KEY (job, round),
FOREIGN KEY(job, base) REFERENCES versions (job, version)
);
CREATE UNIQUE INDEX one_open_round ON rounds (job) WHERE state = 'open';
CREATE TABLE evaluations (
job TEXT NOT NULL,
version TEXT NOT NULL,
agent TEXT NOT NULL,
split TEXT NOT NULL,
statistic BLOB NOT NULL,
windows BIGINT NOT NULL,
received_ns BIGINT NOT NULL,
PRIMARY KEY (job, version, agent, split),
FOREIGN KEY(job, version) REFERENCES versions (job, version)
);
CREATE TABLE updates (
job TEXT NOT NULL,
round BIGINT NOT NULL,
agent TEXT NOT NULL,
base TEXT NOT NULL,
blob TEXT NOT NULL,
sha256 TEXT NOT NULL,
examples BIGINT NOT NULL,
loss DOUBLE,
wire_bytes BIGINT NOT NULL,
seconds DOUBLE,
received_ns BIGINT NOT NULL,
state TEXT NOT NULL,
reason TEXT NOT NULL,
PRIMARY KEY (job, round, agent, base),
FOREIGN KEY(job, round) REFERENCES rounds (job, round)
);
"""

NAME = sha256(b"version 0")
ROWS_1 = """
INSERT INTO schema_version VALUES (1);
INSERT INTO jobs VALUES
  ('bearings','[job]','NAME','running',1,2,NULL,x'00',NULL,NULL,x'0102',NULL);
INSERT INTO agents VALUES ('press-1',1,5,'0.1.0','{}',NULL,7,8,NULL,'ready');
INSERT INTO versions VALUES ('bearings',0,'NAME',NULL,'NAME',NULL,x'00',NULL,3);
INSERT INTO rounds VALUES ('bearings',1,'NAME','closed',1,9,8,0.5,'["press-1"]',10,11,'{}');
INSERT INTO rounds VALUES ('bearings',2,'NAME','open',9,19,NULL,NULL,'[]',0,0,'{}');
INSERT INTO updates VALUES
  ('bearings',1,'press-1','NAME','NAME','NAME',4,0.5,6,0.1,2,'included',''),
  ('bearings',1,'press-2','NAME','NAME','NAME',4,NULL,6,0.1,3,'late','slow'),
  ('bearings',1,'press-3','NAME','NAME','NAME',4,0.5,6,0.1,4,'refused','norm'),
  ('bearings',2,'press-1','NAME','NAME','NAME',4,0.5,6,0.1,5,'received','');
INSERT INTO refusals VALUES (7,'bearings','press-3','update','too long',4);
""".replace("NAME", NAME)


TABLES_2 = (
    TABLES_1.replace("downlink_residual TEXT,", "downlink_residual TEXT,\npaused BOOLEAN NOT NULL,")
    .replace("detail TEXT NOT NULL,", "detail TEXT NOT NULL,\nlabels TEXT NOT NULL,")
    .replace(
        "report TEXT NOT NULL,",
        "report TEXT NOT NULL,\naccepted BIGINT NOT NULL,\nrejected BIGINT NOT NULL,\n"
        "discarded BIGINT NOT NULL,\nasked TEXT NOT NULL,",
    )
    .replace(
        "reason TEXT NOT NULL,\nPRIMARY KEY (job, round",
        "reason TEXT NOT NULL,\ncode TEXT NOT NULL,\nincluded_in BIGINT,\nPRIMARY KEY (job, round",
    )
    + """
CREATE TABLE orders (
id INTEGER NOT NULL,
job TEXT NOT NULL,
verb TEXT NOT NULL,
"by" TEXT NOT NULL,
given_ns BIGINT NOT NULL,
done_ns BIGINT,
outcome TEXT NOT NULL,
PRIMARY KEY (id),
FOREIGN KEY(job) REFERENCES jobs (name)
);
CREATE INDEX updates_by_state ON updates (state, job);
CREATE INDEX updates_by_arrival ON updates (job, received_ns);
"""
)

ROWS_2 = """
INSERT INTO schema_version VALUES (1), (2);
INSERT INTO jobs VALUES
  ('bearings','[job]','NAME','running',1,2,NULL,x'00',NULL,NULL,x'0102',NULL,1);
INSERT INTO agents VALUES ('press-1',1,5,'0.2.0','{}',NULL,7,8,NULL,'ready','{"line":"A"}');
INSERT INTO versions VALUES ('bearings',0,'NAME',NULL,'NAME',NULL,x'00',NULL,3);
INSERT INTO rounds VALUES
  ('bearings',1,'NAME','closed',1,9,8,0.5,'["press-1"]',10,11,'{}',1,2,3,'["press-1"]');
INSERT INTO rounds VALUES
  ('bearings',2,'NAME','open',9,19,NULL,NULL,'[]',0,0,'{}',0,0,0,'[]');
INSERT INTO updates VALUES
  ('bearings',1,'press-1','NAME','NAME','NAME',4,0.5,6,0.1,2,'included','','',1),
  ('bearings',2,'press-1','NAME','NAME','NAME',4,0.5,6,0.1,5,'received','','',NULL);
INSERT INTO orders VALUES (3,'bearings','pause','anna',4,5,'the job is paused');
""".replace("NAME", NAME)

JOB = JobRecord(
    name="bearings",
    text="[job]",
    sha256=NAME,
    state="running",
    created_ns=1,
    updated_ns=2,
    manifest=b"\0",
    rule_state=b"\1\2",
)
CLOSED = RoundRecord(
    job="bearings",
    round=1,
    base=NAME,
    state="closed",
    opened_ns=1,
    deadline_ns=9,
    closed_ns=8,
    seconds=0.5,
    included=["press-1"],
    uplink_bytes=10,
    downlink_bytes=11,
)
"""The records that ``ROWS_1`` and ``ROWS_2`` have in common."""


def database(folder: Path, script: str) -> Path:
    """A database as an earlier fedmill left it."""
    path = folder / "coordinator.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(script)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database as the first fedmill left it."""
    return database(tmp_path, TABLES_1 + ROWS_1)


def asked(path: Path, query: str) -> list[tuple[object, ...]]:
    """What the file itself says."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def tables(path: Path) -> dict[str, dict[str, tuple[str, bool, object]]]:
    """Columns of each table with type, duty and default, and the columns of its indexes."""
    engine = create_engine(f"sqlite:///{path}")
    found = inspect(engine)
    told = {
        table: {
            **{
                str(column["name"]): (
                    str(column["type"]),
                    bool(column["nullable"]),
                    column["default"],
                )
                for column in found.get_columns(table)
            },
            **{
                str(index["name"]): (str(index["column_names"]), bool(index["unique"]), None)
                for index in found.get_indexes(table)
            },
        }
        for table in found.get_table_names()
    }
    engine.dispose()
    return told


class TestFromSchema1:
    def test_keeps_what_was_there(self, path: Path) -> None:
        """Every row of before, with the defaults of what is new."""
        with SqlStore.in_file(path) as store:
            assert store.jobs() == [JOB]
            assert store.agents() == [
                AgentRecord(
                    agent="press-1",
                    online=True,
                    last_seen_ns=5,
                    software="0.1.0",
                    resident_bytes=7,
                    windows_scored=8,
                    detail="ready",
                )
            ]
            assert [version.version for version in store.versions("bearings")] == [NAME]
            assert [refusal.text for refusal in store.refusals()] == ["too long"]
            assert store.open_orders() == []
        assert asked(path, "PRAGMA integrity_check") == [("ok",)]
        assert asked(path, "PRAGMA foreign_key_check") == []

    def test_tells_which_round_used_an_update(self, path: Path) -> None:
        """It was its own; what waited goes on waiting."""
        with SqlStore.in_file(path) as store:
            told = [(u.state, u.included_in, u.code) for u in store.updates("bearings", 1)]
            assert told == [("included", 1, ""), ("late", None, ""), ("refused", None, "")]
            assert store.pending("bearings") == [
                UpdateRecord(
                    job="bearings",
                    round=2,
                    agent="press-1",
                    base=NAME,
                    blob=NAME,
                    sha256=NAME,
                    examples=4,
                    loss=0.5,
                    wire_bytes=6,
                    seconds=0.1,
                    received_ns=5,
                )
            ]

    def test_counts_the_updates_of_ended_rounds(self, path: Path) -> None:
        """The open one has its counts to come."""
        with SqlStore.in_file(path) as store:
            closed, opened = store.rounds("bearings")
        assert closed == structs.replace(CLOSED, accepted=1, rejected=1, discarded=1)
        assert (opened.accepted, opened.rejected, opened.discarded) == (0, 0, 0)

    def test_goes_on_as_any_other(self, path: Path) -> None:
        """What is new can be used at once: an order, a pause, a label, a close."""
        with SqlStore.in_file(path) as store:
            number = store.give_order("bearings", "pause", "anna", 5)
            store.update_job("bearings", updated_ns=6, paused=True)
            store.finish_order(number, done_ns=7, outcome="paused")
            store.save_agent(
                AgentRecord(agent="press-2", online=True, last_seen_ns=6, labels='{"line": "B"}')
            )
            assert store.discard_waiting("bearings", code="aborted", reason="by anna") == 1
        with SqlStore.in_file(path) as store:
            job = store.job("bearings")
            assert job is not None
            assert job.paused
            assert [agent.labels for agent in store.agents()] == ["{}", '{"line": "B"}']

    def test_has_the_tables_of_a_new_one(self, path: Path, tmp_path: Path) -> None:
        """Column by column and index by index, so that later steps begin from one place."""
        new = tmp_path / "new.db"
        for each in (path, new):
            with SqlStore.in_file(each) as store:
                store.jobs()
        assert tables(path) == tables(new)

    def test_is_done_once(self, path: Path) -> None:
        """The second opening finds it done, and all numbers stand in the file."""
        for _ in range(2):
            with SqlStore.in_file(path) as store:
                assert len(store.jobs()) == 1
        found = asked(path, "SELECT version FROM schema_version ORDER BY 1")
        assert found == [(number,) for number in range(1, schema.VERSION + 1)]

    def test_first_use_by_many_at_once(self, path: Path) -> None:
        """Whoever comes second waits and finds it done: coordinator and listings alike."""
        told = at_once(path, "print(len(store.jobs()))", ["anna", "ben", "clara"])
        assert told == [("1\n", "")] * 3
        assert asked(path, "SELECT max(version) FROM schema_version") == [(schema.VERSION,)]

    def test_a_fault_leaves_the_file_as_it_was(self, path: Path) -> None:
        """A table that is in the way is told, and nothing else of the step stays."""
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE orders (id INTEGER)")
            connection.commit()
        before = tables(path)
        with pytest.raises(StoreError, match="orders"):
            SqlStore.in_file(path).jobs()
        assert tables(path) == before
        assert asked(path, "SELECT version FROM schema_version") == [(1,)]

    def test_killed_at_any_statement(self, path: Path) -> None:
        """Kill -9 before any statement or the commit leaves schema 1 whole, after it today's."""
        killed = versions_after_kills(path, 1)
        assert killed.count(1) > 15
        assert sorted(killed) == killed
        assert asked(path, "SELECT max(version) FROM schema_version") == [(schema.VERSION,)]
        assert asked(path, "PRAGMA integrity_check") == [("ok",)]
        with SqlStore.in_file(path) as store:
            assert len(store.pending("bearings")) == 1


class TestFromSchema2:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """A database as the fedmill before this one left it."""
        return database(tmp_path, TABLES_2 + ROWS_2)

    def test_keeps_what_was_there(self, path: Path) -> None:
        """Rounds and updates with the defaults of what is new, everything else as it was."""
        with SqlStore.in_file(path) as store:
            assert store.job("bearings") == structs.replace(JOB, paused=True)
            closed, opened = store.rounds("bearings")
            assert closed == structs.replace(
                CLOSED, asked=["press-1"], accepted=1, rejected=2, discarded=3
            )
            assert (opened.state, opened.uplink, opened.published_bytes) == ("open", "", 0)
            [update] = store.updates("bearings", 1)
            assert (update.included_in, update.norm, update.steps, update.shift) == (
                1,
                None,
                0,
                "{}",
            )
            assert store.pending("bearings") == store.updates("bearings", 2)
            order = store.order(3)
            assert order is not None
            assert order.outcome == "the job is paused"
            assert [agent.labels for agent in store.agents()] == ['{"line":"A"}']
        assert asked(path, "PRAGMA integrity_check") == [("ok",)]
        assert asked(path, "PRAGMA foreign_key_check") == []

    def test_bytes_by_agent_begin_with_it(self, path: Path) -> None:
        """Nobody counted them before; the round that is open goes on with those of each agent."""
        with SqlStore.in_file(path) as store:
            assert store.traffic("bearings", 1) == []
            assert store.traffic_by_agent("bearings") == {}
            record = TrafficRecord(
                job="bearings", round=2, agent="press-1", uplink_bytes=5, downlink_bytes=6
            )
            store.save_traffic("bearings", 2, [record])
            assert store.traffic_by_agent("bearings") == {"press-1": (5, 6)}

    def test_has_the_columns_of_a_new_one(self, path: Path, tmp_path: Path) -> None:
        """By name and type; defaults of columns that are old are those they were made with."""
        new = tmp_path / "new.db"
        for each in (path, new):
            with SqlStore.in_file(each) as store:
                store.jobs()
        assert kinds(path) == kinds(new)

    def test_is_what_the_first_step_leads_to(self, path: Path, tmp_path: Path) -> None:
        """The tables above are those of schema 2, not what this test believes them to be."""
        (tmp_path / "old").mkdir()
        old = database(tmp_path / "old", TABLES_1 + ROWS_1)
        engine = create_engine(f"sqlite:///{old}")
        with engine.begin() as connection:
            migrations.STEPS[2](connection)
        engine.dispose()
        assert kinds(old) == kinds(path)

    def test_killed_at_any_statement(self, path: Path) -> None:
        """Schema 2 is whole before the commit, today's after it."""
        killed = versions_after_kills(path, 2)
        assert killed.count(2) > 7
        assert sorted(killed) == killed
        assert asked(path, "SELECT max(version) FROM schema_version") == [(schema.VERSION,)]


def kinds(path: Path) -> dict[str, dict[str, tuple[str, bool]]]:
    """As ``tables``, without defaults."""
    return {
        table: {name: told[:2] for name, told in columns.items()}
        for table, columns in tables(path).items()
    }


def killed_opening(path: Path, step: int) -> int:
    """How a child ended that opened the file and died before one statement or commit."""
    child = os.fork()
    if child == 0:
        left = [step]

        def die(*_: object) -> None:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        event.listen(Engine, "before_cursor_execute", die)
        event.listen(Engine, "commit", die)
        try:
            SqlStore.in_file(path).jobs()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def versions_after_kills(path: Path, first: int) -> list[int]:
    """Schemas in the file, at ``first`` and after each killed opening; each one must be whole."""
    before = tables(path)
    found = [first]
    while killed_opening(path, len(found)) == -signal.SIGKILL:
        version = asked(path, "SELECT max(version) FROM schema_version")[0][0]
        assert (tables(path) == before) is (version == first)
        found.append(int(str(version)))
    return found


def test_every_schema_has_its_step() -> None:
    """From the first to that of today, none is missing."""
    assert sorted(migrations.STEPS) == list(range(2, schema.VERSION + 1))
