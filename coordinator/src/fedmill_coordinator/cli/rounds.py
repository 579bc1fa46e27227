# SPDX-License-Identifier: Apache-2.0
"""``fedmill rounds``."""

from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

import click

from fedmill_coordinator.cli.listing import (
    chosen_job,
    config_argument,
    job_option,
    json_option,
    last_option,
    opened,
    show,
    when,
)
from fedmill_coordinator.cli.table import (
    Column,
    Row,
    digest,
    megabytes,
    metric_column,
    number,
    value,
)
from fedmill_coordinator.progress import loss_of, metric_of
from fedmill_coordinator.store.base import KEPT_REFUSALS
from fedmill_coordinator.store.records import UPDATE_REFUSED, RoundRecord


@click.command(name="rounds", short_help="List rounds of a job.")
@config_argument
@job_option
@json_option
@last_option
def command(config: Path, job: str | None, *, as_json: bool, last: int) -> None:
    """List the rounds of a job, the last ones last."""
    with opened(config) as store:
        name = chosen_job(store, job)
        made = {version.round: version.version for version in store.versions(name)}
        refusals = store.refusals(name, limit=KEPT_REFUSALS)
        refused = sorted(r.received_ns for r in refusals if r.reason == UPDATE_REFUSED)
        rows = []
        for record in store.rounds(name)[-last:]:
            updates = store.updates(name, record.round)
            metric = metric_of(store, name, made.get(record.round, ""))
            rows.append(
                {
                    "round": record.round,
                    "state": record.state,
                    "opened": when(record.opened_ns),
                    "seconds": record.seconds,
                    "included": len(record.included),
                    "late": sum(update.state == "late" for update in updates),
                    "refused": _between(refused, record),
                    "loss": loss_of(record),
                    "metric": metric.name if metric else "",
                    "value": metric.value if metric else None,
                    "uplink_bytes": record.uplink_bytes,
                    "downlink_bytes": record.downlink_bytes,
                    "version": made.get(record.round, ""),
                }
            )
    show(f"rounds of {name}", rows, _columns(rows), as_json=as_json)


def _columns(rows: Sequence[Row]) -> list[Column]:
    return [
        Column("round", value("round"), right=True),
        Column("opened (UTC)", value("opened"), spare=4),
        Column("state", value("state")),
        Column("time s", value("seconds", number), right=True, spare=1),
        Column("included", value("included"), right=True),
        Column("late", value("late"), right=True),
        Column("refused", value("refused"), right=True),
        Column("loss", value("loss", number), right=True),
        metric_column(rows),
        Column("up MB", value("uplink_bytes", megabytes), right=True, spare=2),
        Column("down MB", value("downlink_bytes", megabytes), right=True, spare=2),
        Column("version", value("version", digest), spare=3),
    ]


def _between(moments: Sequence[int], record: RoundRecord) -> int:
    """How many of the sorted ``moments`` lie between the opening and the end of a round."""
    end = len(moments)
    if record.closed_ns is not None:
        end = bisect_left(moments, record.closed_ns)
    return end - bisect_left(moments, record.opened_ns)
