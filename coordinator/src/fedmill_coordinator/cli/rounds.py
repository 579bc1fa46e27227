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
                    "version": made.get(record.round, "")[:12],
                }
            )
    show(f"rounds of {name}", rows, as_json=as_json, only_json=["opened"])


def _between(moments: Sequence[int], record: RoundRecord) -> int:
    """How many of the sorted ``moments`` lie between the opening and the end of a round."""
    end = len(moments)
    if record.closed_ns is not None:
        end = bisect_left(moments, record.closed_ns)
    return end - bisect_left(moments, record.opened_ns)
