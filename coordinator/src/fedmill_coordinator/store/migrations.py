# SPDX-License-Identifier: Apache-2.0
"""From the schema of an earlier fedmill to that of this one, one step for each number.

A step says in its own words what it changes and never refers to the tables of today: what it leads
to is fixed for good.
"""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    false,
    insert,
    text,
)
from sqlalchemy.schema import CreateColumn

from fedmill_coordinator.store import schema


def migrate(connection: Connection, found: int) -> None:
    """Bring the tables from schema ``found`` to that of today, inside the open transaction."""
    for number in range(found + 1, schema.VERSION + 1):
        STEPS[number](connection)
        connection.execute(insert(schema.schema_version).values(version=number))


def _to_2(connection: Connection) -> None:
    """Updates that wait beyond their round, whom a round asked, paused jobs, labels, orders."""
    added: dict[str, list[Column[Any]]] = {
        "jobs": [Column("paused", Boolean, nullable=False, server_default=false())],
        "agents": [Column("labels", Text, nullable=False, server_default="{}")],
        "rounds": [
            Column(name, BigInteger, nullable=False, server_default="0")
            for name in ("accepted", "rejected", "discarded")
        ]
        + [Column("asked", Text, nullable=False, server_default="[]")],
        "updates": [
            Column("code", Text, nullable=False, server_default=""),
            Column("included_in", BigInteger),
        ],
    }
    _add_columns(connection, added)
    metadata = MetaData()
    Table("jobs", metadata, Column("name", Text, primary_key=True))
    orders = Table(
        "orders",
        metadata,
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
        Column("job", Text, ForeignKey("jobs.name"), nullable=False),
        Column("verb", Text, nullable=False),
        Column("by", Text, nullable=False),
        Column("given_ns", BigInteger, nullable=False),
        Column("done_ns", BigInteger),
        Column("outcome", Text, nullable=False),
    )
    orders.create(connection)
    # Until now an update was used by the close of its own round or by none.
    connection.execute(text("UPDATE updates SET included_in = round WHERE state = 'included'"))
    # Before the new indexes: without statistics SQLite would take one of them for each round.
    connection.execute(text(_COUNTS_OF_2))
    names = ("job", "state", "received_ns")
    updates = Table("updates", metadata, *(Column(name) for name in names))
    Index("updates_by_state", updates.c.state, updates.c.job).create(connection)
    Index("updates_by_arrival", updates.c.job, updates.c.received_ns).create(connection)


_COUNTS_OF_2 = """
UPDATE rounds SET
  accepted = (SELECT count(*) FROM updates AS u
    WHERE u.job = rounds.job AND u.round = rounds.round AND u.state = 'included'),
  rejected = (SELECT count(*) FROM refusals AS r
    WHERE r.job = rounds.job AND r.reason = 'update'
    AND r.received_ns >= rounds.opened_ns AND r.received_ns < rounds.closed_ns),
  discarded = (SELECT count(*) FROM updates AS u
    WHERE u.job = rounds.job AND u.round = rounds.round AND u.state = 'late')
WHERE state <> 'open'
"""


def _to_3(connection: Connection) -> None:
    """Bytes by agent and round; codec of a round; norm, steps and shift of an update."""
    added: dict[str, list[Column[Any]]] = {
        "rounds": [
            Column("published_bytes", BigInteger, nullable=False, server_default="0"),
            Column("uplink", Text, nullable=False, server_default=""),
        ],
        "updates": [
            Column("norm", Double),
            Column("steps", Double, nullable=False, server_default="0"),
            Column("shift", Text, nullable=False, server_default="{}"),
        ],
    }
    _add_columns(connection, added)
    metadata = MetaData()
    Table("jobs", metadata, Column("name", Text, primary_key=True))
    traffic = Table(
        "traffic",
        metadata,
        Column("job", Text, ForeignKey("jobs.name"), primary_key=True),
        Column("round", BigInteger, primary_key=True, autoincrement=False),
        Column("agent", Text, primary_key=True),
        Column("uplink_bytes", BigInteger, nullable=False),
        Column("downlink_bytes", BigInteger, nullable=False),
    )
    traffic.create(connection)


def _to_4(connection: Connection) -> None:
    """Releases, installs, wishes, further rounds, arguments of orders, int8 form of a template."""
    further = Column("further_rounds", BigInteger, nullable=False, server_default="0")
    added: dict[str, list[Column[Any]]] = {
        "jobs": [Column("quantised", Text), further],
        "orders": [Column("argument", Text, nullable=False, server_default="")],
    }
    _add_columns(connection, added)
    metadata = MetaData()
    Table("jobs", metadata, Column("name", Text, primary_key=True))
    names = (Column(name, Text, primary_key=True) for name in ("job", "version"))
    Table("versions", metadata, *names)
    Table("releases", metadata, *_releases_of_4()).create(connection)
    Table("installs", metadata, *_installs_of_4()).create(connection)
    wishes = Table(
        "wishes",
        metadata,
        Column("job", Text, ForeignKey("jobs.name"), primary_key=True),
        Column("agent", Text, primary_key=True),
        *(Column(name, Text, nullable=False) for name in ("kind", "reason", "evidence")),
        Column("heard_ns", BigInteger, nullable=False),
        Column("settled_ns", BigInteger),
        Column("rounds", BigInteger, nullable=False),
    )
    wishes.create(connection)


def _releases_of_4() -> list[Column[Any] | ForeignKeyConstraint]:
    return [
        Column("job", Text, primary_key=True),
        Column("release", BigInteger, primary_key=True, autoincrement=False),
        Column("version", Text, nullable=False),
        Column("before", Text),
        *(Column(name, Text, nullable=False) for name in ("why", "by")),
        *(Column(name, BigInteger, nullable=False) for name in ("order_id", "newest")),
        *(Column(name, Text, nullable=False) for name in ("state", "rings")),
        *(Column(name, BigInteger, nullable=False) for name in ("opened", "ring_ns")),
        Column("soak_ns", BigInteger),
        Column("resumed_ns", BigInteger, nullable=False),
        Column("canary", Text, nullable=False),
        Column("created_ns", BigInteger, nullable=False),
        Column("ended_ns", BigInteger),
        Column("reason", Text, nullable=False),
        ForeignKeyConstraint(["job", "version"], ["versions.job", "versions.version"]),
        ForeignKeyConstraint(["job", "before"], ["versions.job", "versions.version"]),
    ]


def _installs_of_4() -> list[Column[Any] | ForeignKeyConstraint]:
    return [
        Column("job", Text, primary_key=True),
        Column("release", BigInteger, primary_key=True, autoincrement=False),
        Column("agent", Text, primary_key=True),
        Column("ring", BigInteger, nullable=False),
        *(Column(name, Text, nullable=False) for name in ("state", "gate", "reason", "evidence")),
        *(Column(n, BigInteger, nullable=False) for n in ("since_ns", "asked_ns", "heard_ns")),
        ForeignKeyConstraint(["job", "release"], ["releases.job", "releases.release"]),
    ]


def _to_5(connection: Connection) -> None:
    """Certificates, enrolments, who signed an update, and how agents fare."""
    added: dict[str, list[Column[Any]]] = {
        "agents": [
            Column("disk_free_bytes", BigInteger, nullable=False, server_default="0"),
            Column("problems", Text, nullable=False, server_default="{}"),
        ],
        "updates": [
            Column("key", Text, nullable=False, server_default=""),
            *(Column(name, LargeBinary) for name in ("origin", "signature")),
        ],
    }
    _add_columns(connection, added)
    metadata = MetaData()
    certificates = Table("certificates", metadata, *_certificates_of_5())
    enrolments = Table("enrolments", metadata, *_enrolments_of_5())
    of = certificates.c
    Index("certificates_by_agent", of.agent, of.role, of.revoked_ns)
    Index("certificates_by_revocation", of.revoked_ns)
    Index("enrolments_by_agent", enrolments.c.agent)
    for table in (certificates, enrolments):
        table.create(connection)


def _certificates_of_5() -> list[Column[Any]]:
    return [
        Column("serial", Text, primary_key=True),
        *(Column(name, Text, nullable=False) for name in ("agent", "role")),
        Column("public_key", LargeBinary, nullable=False),
        *(Column(name, Text, nullable=False) for name in ("fingerprint", "request")),
        Column("certificate", LargeBinary, nullable=False),
        *(Column(name, BigInteger, nullable=False) for name in ("not_before_ns", "not_after_ns")),
        *(Column(name, BigInteger, nullable=False) for name in ("issued_ns", "revoked_ns")),
        Column("reason", Text, nullable=False),
    ]


def _enrolments_of_5() -> list[Column[Any]]:
    return [
        Column("proof", LargeBinary, primary_key=True),
        Column("agent", Text, nullable=False),
        *(Column(name, BigInteger, nullable=False) for name in ("created_ns", "expires_ns")),
        Column("confirm", Boolean, nullable=False),
        *(Column(name, Text, nullable=False) for name in ("state", "by")),
        Column("request", LargeBinary, nullable=False),
        *(Column(name, Text, nullable=False) for name in ("software", "serial")),
        Column("settled_ns", BigInteger, nullable=False),
        *(Column(name, Text, nullable=False) for name in ("settled_by", "reason")),
    ]


def _add_columns(connection: Connection, added: Mapping[str, list[Column[Any]]]) -> None:
    for table, columns in added.items():
        for column in columns:
            definition = CreateColumn(column).compile(dialect=connection.dialect)
            connection.execute(text(f"ALTER TABLE {table} ADD COLUMN {definition}"))


STEPS: Mapping[int, Callable[[Connection], None]] = {2: _to_2, 3: _to_3, 4: _to_4, 5: _to_5}
"""For each schema after the first: the step that leads to it from the one before."""
