# SPDX-License-Identifier: Apache-2.0
"""``fedmill jobs``: what there is, and orders to hold a job, let it go on, or end it."""

import sys
from pathlib import Path
from typing import cast

import click

from fedmill_coordinator.cli.listing import (
    ListingGroup,
    config_argument,
    json_option,
    opened,
    show,
    when,
)
from fedmill_coordinator.cli.orders import give, name_argument, named_job, order_option
from fedmill_coordinator.cli.table import Column, Row, metric_column, value
from fedmill_coordinator.progress import latest_metric
from fedmill_shared.errors import FedmillError, Interrupted, UsageError
from fedmill_shared.job_check import job_from_canonical


@click.group(
    name="jobs", cls=ListingGroup, short_help="List jobs; pause, resume or abort one of them."
)
def command() -> None:
    """List jobs; pause, resume or abort one of them.

    `fedmill jobs CONFIG` is short for `fedmill jobs list CONFIG`.
    """


@command.command(name="list")
@config_argument
@json_option
def list_jobs(config: Path, *, as_json: bool) -> None:
    """List the jobs of the coordinator with the configuration CONFIG."""
    with opened(config) as store:
        rows = []
        waiting = store.open_orders()
        for record in store.jobs():
            job = job_from_canonical(record.text.encode())
            closed = [r for r in store.rounds(record.name) if r.state == "closed"]
            metric = latest_metric(store, record.name)
            rows.append(
                {
                    "job": record.name,
                    "state": record.state,
                    "paused": record.paused,
                    "rounds_closed": len(closed),
                    "rounds": job.federation.rounds + record.further_rounds,
                    "versions": len(store.versions(record.name)),
                    "metric": metric.name if metric else "",
                    "value": metric.value if metric else None,
                    "since": when(record.created_ns),
                    "orders": [
                        {"id": o.id, "verb": o.verb, "by": o.by, "given": when(o.given_ns)}
                        for o in waiting
                        if o.job == record.name
                    ],
                }
            )
    columns = [
        Column("job", value("job")),
        Column("state", _state),
        Column("open orders", value("orders", _verbs)),
        Column("rounds closed", value("rounds_closed"), right=True),
        Column("of", value("rounds"), right=True),
        metric_column(rows),
        Column("versions", value("versions"), right=True, spare=1),
        Column("since (UTC)", value("since"), spare=2),
    ]
    show("jobs", rows, columns, as_json=as_json)


@command.command(name="pause")
@config_argument
@name_argument
@order_option
def pause(config: Path, name: str, *, as_json: bool) -> None:
    """Hold the job NAME: no further round opens until it is resumed."""
    give(config, name, "pause", as_json=as_json)


@command.command(name="resume")
@config_argument
@name_argument
@order_option
def resume(config: Path, name: str, *, as_json: bool) -> None:
    """Let the job NAME, which was paused, go on."""
    give(config, name, "resume", as_json=as_json)


@command.command(name="abort")
@config_argument
@name_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@order_option
def abort(config: Path, name: str, *, yes: bool, as_json: bool) -> None:
    """End the job NAME for good; its versions stay."""
    if not yes:
        with opened(config) as store:
            named_job(store, name)
        _confirm(name)
    give(config, name, "abort", as_json=as_json)


def _confirm(name: str) -> None:
    """Ask on the terminal.

    Raises:
        UsageError: there is no terminal to ask on.
        FedmillError: the answer is no.
        Interrupted: Ctrl-C was the answer.
    """
    if not sys.stdin.isatty():
        raise UsageError(
            f"job {name} cannot be aborted without a confirmation", remedy="give --yes"
        )
    try:
        agreed = click.confirm(f"End job {name} for good?", err=True)
    except click.Abort as error:
        click.echo(err=True)  # the cursor stands behind the question
        raise Interrupted(f"job {name} goes on: nothing was done") from error
    if not agreed:
        raise FedmillError(f"job {name} goes on", remedy="nothing was done")


def _verbs(orders: object) -> str:
    """What is ordered and not yet done, the oldest first."""
    return ", ".join(order["verb"] for order in cast("list[dict[str, str]]", orders))


def _state(row: Row) -> str:
    return f"{row['state']}, paused" if row["paused"] else str(row["state"])
