# SPDX-License-Identifier: Apache-2.0
"""``fedmill restore``: a coordinator from its backup."""

from datetime import UTC, datetime
from pathlib import Path

import click

from fedmill_coordinator.backup.restoring import restore
from fedmill_coordinator.cli.listing import when
from fedmill_coordinator.cli.orders import audit_of
from fedmill_coordinator.cli.place import config_option
from fedmill_shared.audit.person import who
from fedmill_shared.clock import SystemClock


@click.command(name="restore", short_help="Put a coordinator back from its backup.")
@click.argument("backup", metavar="FILE", type=click.Path(path_type=Path))
@config_option
@click.option("--replace", is_flag=True, help="Also where the state folder is not empty.")
def command(backup: Path, *, config: Path, replace: bool) -> None:
    """Put back what `fedmill backup` wrote, while no coordinator runs.

    Every byte is checked before anything changes; a restore that is killed has changed nothing, or
    is brought to its end by the next one or the next start.
    """
    now_ns = SystemClock().now_ns()
    mark = datetime.fromtimestamp(now_ns / 1e9, UTC).strftime("%Y%m%dT%H%M%SZ")
    done = restore(backup, config, replace=replace, mark=mark)
    made = done.manifest
    audit_of(config).record(
        who=who(),
        what="backup.restored",
        subject=str(backup),
        before=str(done.replaced or ""),
        after=f"of {when(made.made_ns)} UTC",
    )
    click.echo(
        f"restored {made.coordinator} as of {when(made.made_ns)} UTC: {len(made.members)} files"
    )
    for path in done.kept:
        click.echo(f"kept as it is: {path}")
    for name in done.homeless:
        click.echo(f"warning: {name}: not put back, {config} has no place for it", err=True)
    if done.replaced is not None:
        click.echo(f"what was there is in {done.replaced}: delete it when all is well")
    for path in done.keys:
        click.echo(f"warning: {path}: a key that the backup lacks: copy it back", err=True)
    click.echo("what was revoked, enrolled or renewed since then is not in it: docs/operations.md")
