# SPDX-License-Identifier: Apache-2.0
"""``fedmill jobs``."""

from pathlib import Path

import click

from fedmill_coordinator.cli.listing import config_argument, json_option, opened, show, when
from fedmill_coordinator.cli.table import Column, metric_column, value
from fedmill_coordinator.progress import latest_metric
from fedmill_shared.job_check import job_from_canonical


@click.command(name="jobs", short_help="List jobs.")
@config_argument
@json_option
def command(config: Path, *, as_json: bool) -> None:
    """List the jobs of the coordinator with the configuration CONFIG."""
    with opened(config) as store:
        rows = []
        for record in store.jobs():
            job = job_from_canonical(record.text.encode())
            closed = [r for r in store.rounds(record.name) if r.state == "closed"]
            metric = latest_metric(store, record.name)
            rows.append(
                {
                    "job": record.name,
                    "state": record.state,
                    "rounds_closed": len(closed),
                    "rounds": job.federation.rounds,
                    "versions": len(store.versions(record.name)),
                    "metric": metric.name if metric else "",
                    "value": metric.value if metric else None,
                    "since": when(record.created_ns),
                }
            )
    columns = [
        Column("job", value("job")),
        Column("state", value("state")),
        Column("rounds closed", value("rounds_closed"), right=True),
        Column("of", value("rounds"), right=True),
        metric_column(rows),
        Column("versions", value("versions"), right=True, spare=1),
        Column("since (UTC)", value("since"), spare=2),
    ]
    show("jobs", rows, columns, as_json=as_json)
