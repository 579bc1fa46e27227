# SPDX-License-Identifier: Apache-2.0
"""``fedmill trust root``: the ceremony in which a new root is signed, offline."""

from pathlib import Path

import click

from fedmill_coordinator.cli.trusted import (
    key_option,
    passphrase_option,
    repository_of,
    settings_option,
    settings_with_trust,
    signer_in,
    written,
)
from fedmill_coordinator.trust import ceremony
from fedmill_shared.clock import SystemClock
from fedmill_shared.errors import UsageError
from fedmill_shared.files import sha256

file_argument = click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))


@click.group(name="root", short_help="Change or renew the root: prepare, sign, import.")
def root() -> None:
    """The ceremony of the root keys; signing needs no server, but two of three keys."""


@root.command(name="prepare")
@settings_option
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The file to sign.")
@click.option(
    "--replace",
    multiple=True,
    metavar="NAME=FILE",
    help="Put the public key in FILE in the place of the key NAME, as `trust status` calls it.",
)
def prepare(config: Path, out: Path, replace: tuple[str, ...]) -> None:
    """Write the next root, good for another year, with nobody's signature yet."""
    _, trust = settings_with_trust(config)
    replaced = {}
    for each in replace:
        name, equals, path = each.partition("=")
        if not equals:
            raise UsageError(f"--replace {each}: has no =", remedy="write NAME=FILE")
        replaced[name] = Path(path)
    made = ceremony.prepare(repository_of(trust), out, replaced, SystemClock())
    click.echo(f"root {made.signed.version}: sign {out} with two of the three root keys")


@root.command(name="sign")
@file_argument
@key_option("root")
@passphrase_option
def sign(file: Path, key: Path, passphrase_file: Path | None) -> None:
    """Add a signature to the root in FILE."""
    count = ceremony.sign(file, signer_in(key, passphrase_file))
    click.echo(f"{file}: {count} signatures")


@root.command(name="import")
@file_argument
@settings_option
def import_root(file: Path, config: Path) -> None:
    """Make the signed root in FILE the one that counts; the daemon tells agents by itself."""
    settings, trust = settings_with_trust(config)
    made = ceremony.take_in(repository_of(trust), file)
    version = made.signed.version
    written(settings, "trust.root_imported", f"root {version}", sha256(file.read_bytes()))
    click.echo(f"root {version} counts")
