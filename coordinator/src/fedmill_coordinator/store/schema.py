# SPDX-License-Identifier: Apache-2.0
"""Tables of the coordinator's database, one for each record, columns named like its fields."""

from math import nan

from msgspec import json
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
)
from sqlalchemy.types import TypeDecorator

# Raise with every change of a table, together with the migration from the number before.
VERSION = 5


class Measure(TypeDecorator[float]):
    """A float that may be not a number, which SQLite can only keep as NULL."""

    impl = Double
    cache_ok = True

    def process_result_value(self, value: float | None, dialect: Dialect) -> float:  # noqa: ARG002  the interface
        """NULL is not a number."""
        return nan if value is None else value


class Payload(TypeDecorator[bytes]):
    """Bytes that rows of before do not have: a default of bytes is spelt by each database alone."""

    impl = LargeBinary
    cache_ok = True

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> bytes:  # noqa: ARG002  the interface
        """NULL is no byte."""
        return value or b""


class Names(TypeDecorator[list[str]]):
    """A list of names as JSON text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: list[str] | None, dialect: Dialect) -> str:  # noqa: ARG002  the interface
        """The list as text."""
        return json.encode(value or []).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> list[str]:  # noqa: ARG002  the interface
        """The text as list."""
        return json.decode(value or "[]", type=list[str])


metadata = MetaData()

schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True))

jobs = Table(
    "jobs",
    metadata,
    Column("name", Text, primary_key=True),
    Column("text", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("updated_ns", BigInteger, nullable=False),
    Column("normaliser", LargeBinary),
    Column("manifest", LargeBinary),
    Column("template", Text),
    Column("canary_inputs", Text),
    Column("rule_state", LargeBinary, nullable=False),
    Column("downlink_residual", Text),
    Column("paused", Boolean, nullable=False, server_default=false()),
    Column("quantised", Text),
    Column("further_rounds", BigInteger, nullable=False, server_default="0"),
)

agents = Table(
    "agents",
    metadata,
    Column("agent", Text, primary_key=True),
    Column("online", Boolean, nullable=False),
    Column("last_seen_ns", BigInteger, nullable=False),
    Column("software", Text, nullable=False),
    Column("jobs", Text, nullable=False),
    Column("model_version", Text),
    Column("resident_bytes", BigInteger, nullable=False),
    Column("windows_scored", BigInteger, nullable=False),
    Column("clock_skew_ms", Double),
    Column("detail", Text, nullable=False),
    Column("labels", Text, nullable=False, server_default="{}"),
    Column("disk_free_bytes", BigInteger, nullable=False, server_default="0"),
    Column("problems", Text, nullable=False, server_default="{}"),
)

moments = Table(
    "moments",
    metadata,
    Column("job", Text, ForeignKey("jobs.name"), primary_key=True),
    Column("agent", Text, primary_key=True),
    Column("payload", LargeBinary, nullable=False),
    Column("received_ns", BigInteger, nullable=False),
)

versions = Table(
    "versions",
    metadata,
    Column("job", Text, ForeignKey("jobs.name"), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("version", Text, nullable=False),
    Column("base", Text),
    Column("weights", Text),
    Column("delta", Text),
    Column("canary_outputs", LargeBinary, nullable=False),
    Column("round", BigInteger),
    Column("created_ns", BigInteger, nullable=False),
    UniqueConstraint("job", "version"),
    ForeignKeyConstraint(["job", "base"], ["versions.job", "versions.version"]),
)

aliases = Table(
    "aliases",
    metadata,
    Column("job", Text, primary_key=True),
    Column("alias", Text, primary_key=True),
    Column("version", Text, nullable=False),
    Column("updated_ns", BigInteger, nullable=False),
    ForeignKeyConstraint(["job", "version"], ["versions.job", "versions.version"]),
)

rounds = Table(
    "rounds",
    metadata,
    Column("job", Text, primary_key=True),
    Column("round", BigInteger, primary_key=True, autoincrement=False),
    Column("base", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("opened_ns", BigInteger, nullable=False),
    Column("deadline_ns", BigInteger, nullable=False),
    Column("closed_ns", BigInteger),
    Column("seconds", Double),
    Column("included", Names, nullable=False),
    Column("uplink_bytes", BigInteger, nullable=False),
    Column("downlink_bytes", BigInteger, nullable=False),
    Column("report", Text, nullable=False),
    Column("accepted", BigInteger, nullable=False, server_default="0"),
    Column("rejected", BigInteger, nullable=False, server_default="0"),
    Column("discarded", BigInteger, nullable=False, server_default="0"),
    Column("asked", Names, nullable=False, server_default="[]"),
    Column("published_bytes", BigInteger, nullable=False, server_default="0"),
    Column("uplink", Text, nullable=False, server_default=""),
    ForeignKeyConstraint(["job", "base"], ["versions.job", "versions.version"]),
)
_open = rounds.c.state == "open"
Index("one_open_round", rounds.c.job, unique=True, sqlite_where=_open, postgresql_where=_open)

traffic = Table(
    "traffic",
    metadata,
    Column("job", Text, ForeignKey("jobs.name"), primary_key=True),
    Column("round", BigInteger, primary_key=True, autoincrement=False),
    Column("agent", Text, primary_key=True),
    Column("uplink_bytes", BigInteger, nullable=False),
    Column("downlink_bytes", BigInteger, nullable=False),
)

updates = Table(
    "updates",
    metadata,
    Column("job", Text, primary_key=True),
    Column("round", BigInteger, primary_key=True, autoincrement=False),
    Column("agent", Text, primary_key=True),
    Column("base", Text, primary_key=True),
    Column("blob", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("examples", BigInteger, nullable=False),
    Column("loss", Measure),
    Column("wire_bytes", BigInteger, nullable=False),
    Column("seconds", Measure),
    Column("received_ns", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("code", Text, nullable=False, server_default=""),
    Column("included_in", BigInteger),
    Column("norm", Double),
    Column("steps", Double, nullable=False, server_default="0"),
    Column("shift", Text, nullable=False, server_default="{}"),
    Column("key", Text, nullable=False, server_default=""),
    Column("origin", Payload),
    Column("signature", Payload),
    ForeignKeyConstraint(["job", "round"], ["rounds.job", "rounds.round"]),
)
Index("updates_by_state", updates.c.state, updates.c.job)
Index("updates_by_arrival", updates.c.job, updates.c.received_ns)

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
    Column("argument", Text, nullable=False, server_default=""),
)

releases = Table(
    "releases",
    metadata,
    Column("job", Text, primary_key=True),
    Column("release", BigInteger, primary_key=True, autoincrement=False),
    Column("version", Text, nullable=False),
    Column("before", Text),
    Column("why", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("order_id", BigInteger, nullable=False),
    Column("newest", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("rings", Names, nullable=False),
    Column("opened", BigInteger, nullable=False),
    Column("ring_ns", BigInteger, nullable=False),
    Column("soak_ns", BigInteger),
    Column("resumed_ns", BigInteger, nullable=False),
    Column("canary", Text, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("ended_ns", BigInteger),
    Column("reason", Text, nullable=False),
    ForeignKeyConstraint(["job", "version"], ["versions.job", "versions.version"]),
    ForeignKeyConstraint(["job", "before"], ["versions.job", "versions.version"]),
)

wishes = Table(
    "wishes",
    metadata,
    Column("job", Text, ForeignKey("jobs.name"), primary_key=True),
    Column("agent", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("heard_ns", BigInteger, nullable=False),
    Column("settled_ns", BigInteger),
    Column("rounds", BigInteger, nullable=False),
)

installs = Table(
    "installs",
    metadata,
    Column("job", Text, primary_key=True),
    Column("release", BigInteger, primary_key=True, autoincrement=False),
    Column("agent", Text, primary_key=True),
    Column("ring", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("gate", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("since_ns", BigInteger, nullable=False),
    Column("asked_ns", BigInteger, nullable=False),
    Column("heard_ns", BigInteger, nullable=False),
    ForeignKeyConstraint(["job", "release"], ["releases.job", "releases.release"]),
)

evaluations = Table(
    "evaluations",
    metadata,
    Column("job", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("agent", Text, primary_key=True),
    Column("split", Text, primary_key=True),
    Column("statistic", LargeBinary, nullable=False),
    Column("windows", BigInteger, nullable=False),
    Column("received_ns", BigInteger, nullable=False),
    ForeignKeyConstraint(["job", "version"], ["versions.job", "versions.version"]),
)

certificates = Table(
    "certificates",
    metadata,
    Column("serial", Text, primary_key=True),
    Column("agent", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("public_key", LargeBinary, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("request", Text, nullable=False),
    Column("certificate", LargeBinary, nullable=False),
    Column("not_before_ns", BigInteger, nullable=False),
    Column("not_after_ns", BigInteger, nullable=False),
    Column("issued_ns", BigInteger, nullable=False),
    Column("revoked_ns", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
)
# Asked for every second, and answered from the indexes alone.
Index("certificates_by_agent", certificates.c.agent, certificates.c.role, certificates.c.revoked_ns)
Index("certificates_by_revocation", certificates.c.revoked_ns)

enrolments = Table(
    "enrolments",
    metadata,
    Column("proof", LargeBinary, primary_key=True),
    Column("agent", Text, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("expires_ns", BigInteger, nullable=False),
    Column("confirm", Boolean, nullable=False),
    Column("state", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("request", LargeBinary, nullable=False),
    Column("software", Text, nullable=False),
    Column("serial", Text, nullable=False),
    Column("settled_ns", BigInteger, nullable=False),
    Column("settled_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
)
Index("enrolments_by_agent", enrolments.c.agent)

refusals = Table(
    "refusals",
    metadata,
    # SQLite numbers rows by itself only where the key is an INTEGER.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("job", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("received_ns", BigInteger, nullable=False),
)
