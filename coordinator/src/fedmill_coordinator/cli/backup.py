# SPDX-License-Identifier: Apache-2.0
"""``fedmill backup``: the whole coordinator in one file, while it runs."""

from pathlib import Path

import click
from msgspec import structs

from fedmill_coordinator.backup.writing import write
from fedmill_coordinator.cli.authority import key_option
from fedmill_coordinator.cli.orders import audit_of
from fedmill_coordinator.cli.place import config_option
from fedmill_coordinator.config import load
from fedmill_shared.audit.person import who
from fedmill_shared.clock import SystemClock


@click.command(name="backup", short_help="Write the whole coordinator to one file.")
@config_option
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write.")
@click.option(
    "--with-keys",
    is_flag=True,
    help="With private keys: the coordinator's own, the authority's and those of [trust].",
)
@key_option
def command(config: Path, *, out: Path, with_keys: bool, ca_key: Path | None) -> None:
    """Write state, configuration and jobs to one file that its owner alone may read.

    The coordinator may run: the file shows one moment of it.
    """
    settings = load(config)
    if ca_key is not None and settings.pki is not None:
        pki = structs.replace(settings.pki, ca_key=str(ca_key.absolute()))
        settings = structs.replace(settings, pki=pki)
    audit_of(config).record(
        who=who(), what="backup.made", subject=str(out), after="with keys" if with_keys else ""
    )
    written = write(settings, config, out, SystemClock(), keys=with_keys)
    made = written.manifest
    click.echo(f"{out}: {len(made.members)} files, {made.size / 1e6:.1f} MB before compression")
    for path in written.absent:
        click.echo(f"warning: {path} is not there, and not in the backup", err=True)
    if written.missing:
        click.echo(
            f"warning: {len(written.missing)} blobs that rows name are lost, the first "
            f"{written.missing[0]}",
            err=True,
        )
    if with_keys:
        click.echo(
            "warning: whoever has this file can issue certificates and sign releases: encrypt it, "
            "and keep it where nobody else comes",
            err=True,
        )
    elif settings.pki or settings.trust or settings.broker.tls:
        click.echo("note: private keys are not in it; see --with-keys", err=True)
