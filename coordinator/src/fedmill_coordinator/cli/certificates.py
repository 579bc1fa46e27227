# SPDX-License-Identifier: Apache-2.0
"""``fedmill certificates``: what the authority has issued."""

from pathlib import Path

import click

from fedmill_coordinator.cli.authority import OfficeGroup, config_option, office
from fedmill_coordinator.cli.listing import json_option, show, when
from fedmill_coordinator.cli.table import Column, Row, value
from fedmill_coordinator.store.records_pki import CertificateRecord
from fedmill_shared.crypto.keys import key_id

DAY_NS = 86_400_000_000_000


@click.group(name="certificates", cls=OfficeGroup, short_help="List certificates.")
def command() -> None:
    """List certificates of agents, the broker and the coordinator."""


@command.command(name="list")
@config_option
@json_option
@click.option("--agent", help="Of this agent only.")
@click.option("--all", "everything", is_flag=True, help="Also those that no longer hold.")
def listing(config: Path, *, agent: str | None, as_json: bool, everything: bool) -> None:
    """List certificates that hold, and until when."""
    place = office(config)
    now = place.clock.now_ns()
    with place.store() as store:
        rows = [_row(each, now) for each in store.certificates(agent)]
    wanted = [row for row in rows if everything or row["state"] == "good"]
    columns = [
        Column("agent", value("agent")),
        Column("for", value("role"), spare=2),
        Column("state", value("state")),
        Column("until (UTC)", value("until")),
        Column("days", value("days"), right=True),
        Column("key", value("key"), spare=3),
        Column("serial", value("serial"), spare=4),
        Column("reason", value("reason"), wraps=True),
    ]
    show("certificates", wanted, columns, as_json=as_json)


def _row(record: CertificateRecord, now_ns: int) -> Row:
    state = "good" if now_ns < record.not_after_ns else "expired"
    return {
        "agent": record.agent,
        "role": record.role,
        "state": "revoked" if record.revoked_ns else state,
        "from": when(record.not_before_ns),
        "until": when(record.not_after_ns),
        "days": max(0, record.not_after_ns - now_ns) // DAY_NS,
        "issued": when(record.issued_ns),
        "key": key_id(record.public_key),
        "serial": record.serial,
        "fingerprint": record.fingerprint,
        "revoked": when(record.revoked_ns or None),
        "reason": record.reason,
    }
