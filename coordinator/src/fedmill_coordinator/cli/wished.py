# SPDX-License-Identifier: Apache-2.0
"""What agents wish for, and what became of it: for listings."""

from collections.abc import Sequence

import click
from msgspec import json

from fedmill_coordinator.cli.listing import when
from fedmill_coordinator.cli.table import Column, Row, show_table, value
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records_wishes import WishRecord


def wish_row(record: WishRecord | None) -> Row | None:
    """What an agent wished for last, for programs; None for nothing."""
    if record is None:
        return None
    return {
        "kind": record.kind,
        "reason": record.reason,
        "evidence": json.decode(record.evidence),
        "heard": when(record.heard_ns),
        "outcome": _outcome(record),
        "rounds": record.rounds,
    }


def wish_rows(store: Store) -> list[Row]:
    """The newest wish of each agent in each job."""
    records = (each for job in store.jobs() for each in store.wishes(job.name))
    return [{"agent": each.agent, "job": each.job, **(wish_row(each) or {})} for each in records]


def show_wishes(rows: Sequence[Row]) -> None:
    """A table of them; nothing where nobody ever wished for anything."""
    if not rows:
        return
    columns = [
        Column("agent", value("agent")),
        Column("job", value("job")),
        Column("wish", value("kind"), spare=2),
        Column("heard (UTC)", value("heard"), spare=1),
        Column("outcome", value("outcome")),
        Column("reason", value("reason"), wraps=True),
    ]
    click.echo()
    show_table("wishes", columns, rows)


def _outcome(record: WishRecord) -> str:
    if record.settled_ns is None:
        return "waits"
    return f"{record.rounds} rounds" if record.rounds else "noted"
