# SPDX-License-Identifier: Apache-2.0
"""``fedmill trust root``: the ceremony in which a new root is signed, offline."""

import sys
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
from fedmill_coordinator.trust.telling import changes, fingerprint, told
from fedmill_shared.clock import SystemClock
from fedmill_shared.errors import FedmillError, Interrupted, UsageError
from fedmill_shared.files import sha256
from fedmill_shared.trust import TrustRole

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
@click.option(
    "--before",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The root that counts now, from a place you trust: what changes is told.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def sign(
    file: Path, key: Path, passphrase_file: Path | None, before: Path | None, *, yes: bool
) -> None:
    """Show what the root in FILE says and, if you agree, add a signature to it.

    Names of keys are written by whoever made FILE: compare the digests behind them.
    """
    shown = ceremony.read_root(file)
    lines = list(told(shown))
    if before is None:
        lines.append("give --before, the root that counts now, to see what changes")
    else:
        known = ceremony.read_root(before).signed
        found = list(changes(shown.signed, known)) or ["nothing but its term"]
        lines += [f"what changes to root {known.version}:", *(f"  {each}" for each in found)]
    signer = signer_in(key, passphrase_file)
    lines.append(f"your key: {fingerprint(signer.public_key)}")
    click.echo("\n".join(lines))
    if not yes:
        _confirm(file)
    count = ceremony.sign(file, signer, shown=shown)
    click.echo(f"{file}: {count} signature{'s' * (count != 1)}")


def _confirm(file: Path) -> None:
    """Ask on the terminal.

    Raises:
        UsageError: there is no terminal to ask on.
        FedmillError: the answer is no.
        Interrupted: Ctrl-C was the answer.
    """
    if not sys.stdin.isatty():
        raise UsageError(f"{file} cannot be signed without a confirmation", remedy="give --yes")
    try:
        agreed = click.confirm("Sign it?", err=True)
    except click.Abort as error:
        click.echo(err=True)  # the cursor stands behind the question
        raise Interrupted(f"{file}: nothing was signed") from error
    if not agreed:
        raise FedmillError(f"{file}: nothing was signed", remedy="ask who prepared it")


@root.command(name="import")
@file_argument
@settings_option
def import_root(file: Path, config: Path) -> None:
    """Make the signed root in FILE the one that counts; the daemon tells agents by itself."""
    settings, trust = settings_with_trust(config)
    repository = repository_of(trust)
    before = sha256(repository.raw(TrustRole.ROOT))
    made = ceremony.take_in(repository, file)
    version = made.signed.version
    after = sha256(repository.raw(TrustRole.ROOT))
    written(settings, "trust.root_imported", f"root {version}", before=before, after=after)
    click.echo(f"root {version} counts")
