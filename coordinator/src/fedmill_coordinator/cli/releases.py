# SPDX-License-Identifier: Apache-2.0
"""``fedmill models promote|rollback|pause|resume|show``: which version agents are to serve."""

from collections.abc import Mapping
from pathlib import Path

import click
import msgspec

from fedmill_coordinator.cli.listing import (
    chosen_job,
    config_argument,
    job_option,
    json_option,
    opened,
    show,
)
from fedmill_coordinator.cli.orders import give, order_option
from fedmill_coordinator.cli.reported import (
    agent_rows,
    chosen_release,
    headline,
    install_columns,
    release_row,
)
from fedmill_coordinator.registry.catalogue import find_version
from fedmill_coordinator.store.records import Verb
from fedmill_shared.errors import UsageError
from fedmill_shared.printable import printable

force_option = click.option(
    "--force",
    is_flag=True,
    help="Release it also where agents evaluated it worse than what they serve; with --ring fleet "
    "skip the job's rings, all agents at once.",
)


@click.command(name="promote")
@config_argument
@job_option
@click.option(
    "--version", "wanted", default="candidate", show_default=True, help="Alias, number or SHA-256."
)
@click.option("--ring", type=click.Choice(["fleet"]), help="Go to this ring at once; see --force.")
@force_option
@order_option
def promote(
    config: Path, job: str | None, *, wanted: str, ring: str | None, force: bool, as_json: bool
) -> None:
    """Release a version: it goes through the rings of the job, and every agent tests it first."""
    if ring is not None and not force:
        raise UsageError(
            "--ring fleet skips the rings that protect the fleet",
            remedy="write --ring fleet --force to mean it, or leave it out",
        )
    told = {"force": True} if force else {}
    _order(config, job, "promote", wanted, {"ring": ring or "", **told}, as_json=as_json)


@click.command(name="rollback")
@config_argument
@job_option
@click.option("--version", "wanted", help="Instead of the one that was served before.")
@order_option
def rollback(config: Path, job: str | None, *, wanted: str | None, as_json: bool) -> None:
    """Go back to the version that was served before, on all agents at once."""
    _order(config, job, "rollback", wanted, {"ring": ""}, as_json=as_json)


@click.command(name="pause")
@config_argument
@job_option
@order_option
def pause(config: Path, job: str | None, *, as_json: bool) -> None:
    """Hold the release that is under way: no further ring opens until it is resumed."""
    _order(config, job, "pause_rollout", None, {}, as_json=as_json)


@click.command(name="resume")
@config_argument
@job_option
@order_option
def resume(config: Path, job: str | None, *, as_json: bool) -> None:
    """Let the release that was paused go on."""
    _order(config, job, "resume_rollout", None, {}, as_json=as_json)


@click.command(name="show")
@config_argument
@job_option
@json_option
@click.option("--release", "wanted", type=click.IntRange(min=1), help="Not the newest but this.")
def show_release(config: Path, job: str | None, *, as_json: bool, wanted: int | None) -> None:
    """Show what each agent is to serve, what it does serve, and what it says of the release."""
    with opened(config) as store:
        name = chosen_job(store, job)
        release = chosen_release(store, name, wanted)
        rows = agent_rows(store, name, release)
        told = release_row(store, release) if release is not None else None
    title = f"{name}: no release yet" if told is None else f"{name}: {headline(told)}"
    show(title, rows, install_columns(), as_json=as_json)
    if told is not None and told["reason"] and not as_json:
        click.echo(printable(f"{told['state']}: {told['reason']}"))


def _order(
    config: Path,
    job: str | None,
    verb: Verb,
    wanted: str | None,
    more: Mapping[str, object],
    *,
    as_json: bool,
) -> None:
    """Give an order about releases, with ``more`` fields; a version that is not there is told.

    Raises:
        UsageError: there is no such job or version.
        FedmillError: the order was refused, or nobody has dealt with it yet.
    """
    with opened(config) as store:
        name = chosen_job(store, job)
        version = find_version(store, name, wanted).version if wanted is not None else ""
    argument = msgspec.json.encode({"version": version, **more}).decode() if more else ""
    give(config, name, verb, as_json=as_json, argument=argument)
