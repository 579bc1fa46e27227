# SPDX-License-Identifier: Apache-2.0
"""``fedmill rounds``."""

from pathlib import Path

import click

from fedmill_coordinator.cli.listing import (
    chosen_job,
    config_argument,
    job_option,
    json_option,
    opened,
    show,
    when,
)
from fedmill_coordinator.progress import loss_of, metric_of


@click.command(name="rounds", short_help="List rounds of a job.")
@config_argument
@job_option
@json_option
@click.option("--last", default=20, show_default=True, help="How many; 0 for all.")
def command(config: Path, job: str | None, *, as_json: bool, last: int) -> None:
    """List the rounds of a job, the last ones last."""
    with opened(config) as store:
        name = chosen_job(store, job)
        made = {version.round: version.version for version in store.versions(name)}
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
                    "refused": sum(update.state == "refused" for update in updates),
                    "loss": loss_of(record),
                    "metric": metric.name if metric else "",
                    "value": metric.value if metric else None,
                    "uplink_bytes": record.uplink_bytes,
                    "downlink_bytes": record.downlink_bytes,
                    "version": made.get(record.round, "")[:12],
                }
            )
    show(f"rounds of {name}", rows, as_json=as_json, only_json=["opened"])
