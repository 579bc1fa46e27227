# SPDX-License-Identifier: Apache-2.0
"""``fedmill rounds``: those of a job, the agents of one, and the order to close the open one."""

from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

import click

from fedmill_coordinator.cli.findings import held_by_round
from fedmill_coordinator.cli.listing import (
    ListingGroup,
    chosen_job,
    config_argument,
    job_option,
    json_option,
    last_option,
    opened,
    show,
    when,
)
from fedmill_coordinator.cli.orders import give, name_argument, order_option
from fedmill_coordinator.cli.origins import LABELS, complain, labels_of_origin
from fedmill_coordinator.cli.participants import COLUMNS, participants
from fedmill_coordinator.cli.table import (
    Column,
    Row,
    digest,
    kilobytes,
    metric_column,
    number,
    value,
)
from fedmill_coordinator.progress import loss_of, metric_of
from fedmill_coordinator.rounds.judging import LOOK_BACK
from fedmill_coordinator.store.base import KEPT_REFUSALS, Store
from fedmill_coordinator.store.records import UPDATE_REFUSED, RoundRecord


@click.group(
    name="rounds", cls=ListingGroup, short_help="List rounds of a job, or close the open one now."
)
def command() -> None:
    """List rounds of a job, or close the open one now.

    `fedmill rounds CONFIG` is short for `fedmill rounds list CONFIG`.
    """


@command.command(name="list")
@config_argument
@job_option
@json_option
@last_option
@click.option("--round", "one", type=click.IntRange(min=0), help="List the agents of this round.")
def list_rounds(
    config: Path, job: str | None, *, as_json: bool, last: int, one: int | None
) -> None:
    """List the rounds of a job, the last ones last, or the agents of one round.

    A round has the bytes from the end of the round before it to its own end. Beyond the last round
    they are those that came after it; round 0 is the sum of rounds that are no longer kept apart.
    """
    with opened(config) as store:
        name = chosen_job(store, job)
        if one is None:
            rows = _rounds(store, name, last)
            show(f"rounds of {name}", rows, _columns(rows), as_json=as_json)
        else:
            agents = participants(store, name, one)
            show(f"agents of round {one} of {name}", agents, COLUMNS, as_json=as_json)


@command.command(name="verify")
@config_argument
@job_option
@json_option
@click.option("--version", "version", help="Verify what made this version.")
@click.option("--round", "one", type=click.IntRange(min=1), help="Verify what this round used.")
def verify(
    config: Path, job: str | None, *, as_json: bool, version: str | None, one: int | None
) -> None:
    """Verify the label of origin of each update that a version was made of, or all of them.

    The labels are held against the certificates that the agents have: exit code 25 if one is
    missing, was changed, or is of a key that was revoked since.
    """
    with opened(config) as store:
        name = chosen_job(store, job)
        rows = labels_of_origin(store, name, version=version, number=one)
        show(f"labels of origin of {name}", rows, LABELS, as_json=as_json)
        complain(rows)


@command.command(name="close")
@config_argument
@name_argument
@order_option
def close(config: Path, name: str, *, as_json: bool) -> None:
    """Close the open round of the job NAME now, with the updates that are there."""
    give(config, name, "close", as_json=as_json)


def _rounds(store: Store, name: str, last: int) -> list[Row]:
    made = {version.round: version.version for version in store.versions(name)}
    refusals = store.refusals(name, limit=KEPT_REFUSALS)
    refused = sorted(
        refusal.received_ns
        for refusal in refusals
        if refusal.reason.partition(":")[0] == UPDATE_REFUSED
    )
    records = store.rounds(name, last=last + LOOK_BACK if last else None)
    away = held_by_round(records)
    rows: list[Row] = []
    for record in records[-last:] if last else records:
        metric = metric_of(store, name, made.get(record.round, ""))
        rows.append(
            {
                "round": record.round,
                "state": record.state,
                "opened": when(record.opened_ns),
                "seconds": record.seconds,
                "included": record.accepted,
                "quarantined": away[record.round],
                "late": _late(store, record),
                "refused": _refused(refused, record),
                "loss": loss_of(record),
                "metric": metric.name if metric else "",
                "value": metric.value if metric else None,
                "uplink_codec": record.uplink,
                "uplink_bytes": record.uplink_bytes,
                "downlink_bytes": record.downlink_bytes,
                "published_bytes": record.published_bytes,
                "version": made.get(record.round, ""),
            }
        )
    return rows


def _columns(rows: Sequence[Row]) -> list[Column]:
    """Where the codec changes from round to round it matters more than the seconds."""
    away = any(row["quarantined"] for row in rows)
    changing = len({row["uplink_codec"] for row in rows}) > 1
    return [
        Column("round", value("round"), right=True),
        Column("opened (UTC)", value("opened"), spare=5),
        Column("state", value("state")),
        Column("time s", value("seconds", number), right=True, spare=3),
        Column("included", value("included"), right=True),
        *([Column("quarantined", value("quarantined"), right=True)] if away else []),
        Column("late", value("late"), right=True),
        Column("refused", value("refused"), right=True),
        Column("loss", value("loss", number), right=True),
        metric_column(rows),
        Column("codec", value("uplink_codec"), spare=1 if changing else 6),
        Column("up kB", value("uplink_bytes", kilobytes), right=True, spare=2),
        Column("down kB", value("downlink_bytes", kilobytes), right=True, spare=2),
        Column("version", value("version", digest), spare=4),
    ]


def _late(store: Store, record: RoundRecord) -> int:
    """How many updates came too late for a round; while it is open, of those made for it."""
    if record.state != "open":
        return record.discarded
    return sum(update.state == "late" for update in store.updates(record.job, record.round))


def _refused(moments: Sequence[int], record: RoundRecord) -> int:
    """How many updates a round refused; ``moments``, sorted, are those of all refusals."""
    if record.state == "closed":
        return record.rejected
    end = len(moments)
    if record.closed_ns is not None:
        end = bisect_left(moments, record.closed_ns)
    return end - bisect_left(moments, record.opened_ns)
