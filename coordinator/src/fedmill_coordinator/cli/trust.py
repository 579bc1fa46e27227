# SPDX-License-Identifier: Apache-2.0
"""``fedmill trust``: who may sign what, and the acts of those who do."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

import click
import msgspec

from fedmill_coordinator.cli.table import Column, Row, show_table
from fedmill_coordinator.cli.trust_root import root
from fedmill_coordinator.cli.trusted import (
    key_option,
    passphrase_in,
    passphrase_option,
    repository_of,
    settings_option,
    settings_with_trust,
    signed,
    signer_in,
    written,
)
from fedmill_coordinator.store.sql import SqlStore
from fedmill_coordinator.trust.founding import ROOT_KEYS, found
from fedmill_coordinator.trust.keys import make_key, read_public
from fedmill_coordinator.trust.operator import Operator
from fedmill_coordinator.trust.repository import Repository, when
from fedmill_coordinator.trust.standing import standing
from fedmill_coordinator.trust.telling import fingerprint
from fedmill_shared.clock import SystemClock
from fedmill_shared.files import sha256
from fedmill_shared.job_check import load_job
from fedmill_shared.trust import TrustRole, config_path, job_path

F = TypeVar("F", bound=Callable[..., None])
file_argument = click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
CARRY = """Carry away, each to a place of its own:
  {root1}, {root2}, {root3}  one stick each: two of the three change the root
  {targets}  the operator's stick: it signs jobs and configuration
  {software}  whom the software comes from
They are of no use here any more: delete them once they are copied.
Write down what tells each root key from others, for whoever is asked to sign the next root:
{digests}
The daemon's keys stay in {online}.
Give every agent {root} as [trust] root."""


@click.group(name="trust", short_help="Sign jobs, configuration and software; keep the keys.")
def command() -> None:
    """Signed metadata (TUF): who may sign what for the agents of this plant."""


command.add_command(root)


def act(name: str, *, key: str = "") -> Callable[[F], click.Command]:
    """A command of the group, with the configuration, and the ``key`` that it signs with."""

    def made(function: F) -> click.Command:
        options = [settings_option]
        if key:
            options += [key_option(key), passphrase_option]
        for option in reversed(options):
            function = option(function)
        return command.command(name=name)(function)

    return made


@act("init")
@click.option(
    "--keys", type=click.Path(path_type=Path), required=True, help="Offline keys go here."
)
@passphrase_option
def init(config: Path, keys: Path, passphrase_file: Path | None) -> None:
    """Make the keys and the first root, and say which key goes on which stick."""
    settings, trust = settings_with_trust(config)
    made = found(
        repository_of(trust),
        keys,
        Path(trust.keys),
        SystemClock(),
        passphrase=passphrase_in(passphrase_file),
    )
    written(settings, "trust.founded", str(made.root), after=sha256(made.root.read_bytes()))
    names = {name.replace("-", ""): path for name, path in made.keys.items()}
    digests = "\n".join(
        f"  {name}  {fingerprint(read_public(made.keys[name].with_suffix('.pub.pem'), name))}"
        for name in ROOT_KEYS
    )
    click.echo(CARRY.format(**names, root=made.root, online=trust.keys, digests=digests))


@act("status")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def status(config: Path, *, as_json: bool) -> None:
    """Show each role: its version, until when it is good, and who signs it."""
    _, trust = settings_with_trust(config)
    rows = standing(repository_of(trust), when(SystemClock()))
    if as_json:
        click.echo(msgspec.json.encode(rows))
        return
    names = ("role", "version", "days left", "keys", "who signs", "targets")
    columns = [Column(name, partial(_cell, name)) for name in names]
    told = [
        {
            "role": row.role,
            "version": row.version,
            "days left": row.days_left,
            "keys": f"{row.threshold} of {', '.join(row.keys)}",
            "who signs": row.signs,
            "targets": len(row.targets),
        }
        for row in rows
    ]
    show_table(f"trust: {trust.folder}", columns, told)


@act("add-job", key="targets")
@file_argument
def add_job(config: Path, key: Path, passphrase_file: Path | None, file: Path) -> None:
    """Sign the job FILE, after you have looked it through."""
    settings, trust = settings_with_trust(config)
    operator = _operator(trust.folder, key, passphrase_file)
    running, repository = _running(settings.database), repository_of(trust)
    path = job_path(load_job(file).name)
    before = signed(repository, path)
    jobs = operator.add_job(file, running)
    after = signed(repository, path)
    written(settings, "trust.job_signed", path, before=before, after=after)
    click.echo(f"signed: {', '.join(jobs)}; restart the coordinator where they are new to it")


@act("remove-job", key="targets")
@click.argument("job")
def remove_job(config: Path, key: Path, passphrase_file: Path | None, job: str) -> None:
    """Take back the signature of JOB: no agent takes it up any more."""
    settings, trust = settings_with_trust(config)
    operator, path = _operator(trust.folder, key, passphrase_file), job_path(job)
    before = signed(repository_of(trust), path)
    operator.remove(path)
    written(settings, "trust.job_removed", path, before=before)


@act("set-config", key="targets")
@click.argument("agent")
@click.argument(
    "file", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=False
)
@click.option("--remove", is_flag=True, help="Take it back instead.")
def set_config(
    config: Path,
    key: Path,
    passphrase_file: Path | None,
    agent: str,
    file: Path | None,
    *,
    remove: bool,
) -> None:
    """Sign FILE as remote configuration of AGENT, or of all."""
    settings, trust = settings_with_trust(config)
    if (file is None) is not remove:
        raise click.UsageError("give either FILE or --remove")
    operator, repository = _operator(trust.folder, key, passphrase_file), repository_of(trust)
    path = config_path(agent)
    before = signed(repository, path)
    if file is None:
        operator.remove(path)
        written(settings, "trust.config_removed", path, before=before)
    else:
        operator.set_config(agent, file)
        after = signed(repository, path)
        written(settings, "trust.config_signed", path, before=before, after=after)


@act("add-software", key="software")
@file_argument
def add_software(config: Path, key: Path, passphrase_file: Path | None, file: Path) -> None:
    """Sign FILE, a wheel for instance, with the key of software, for `fedmill bundle`."""
    settings, trust = settings_with_trust(config)
    operator, repository = _operator(trust.folder, key, passphrase_file), repository_of(trust)
    before = signed(repository, f"software/{file.name}", TrustRole.SOFTWARE)
    path = operator.add_software(file)
    after = signed(repository, path, TrustRole.SOFTWARE)
    written(settings, "trust.software_signed", path, before=before, after=after)
    click.echo(path)


@act("renew", key="role's")
@click.argument("role", type=click.Choice(["targets", "software"]))
def renew(config: Path, key: Path, passphrase_file: Path | None, role: str) -> None:
    """Sign what ROLE says for another term, or with its new key."""
    settings, trust = settings_with_trust(config)
    operator, repository = _operator(trust.folder, key, passphrase_file), repository_of(trust)
    before = repository.version(TrustRole(role))
    operator.renew(TrustRole(role))
    after = repository.version(TrustRole(role))
    written(settings, "trust.renewed", role, before=f"version {before}", after=f"version {after}")


@act("replace-key", key="targets")
@click.argument("role", type=click.Choice(["models", "software"]))
@click.argument("new", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def replace_key(
    config: Path, key: Path, passphrase_file: Path | None, role: str, new: Path
) -> None:
    """Let the key in NEW sign for ROLE instead of the one before, which was lost or has leaked.

    The public half is enough: whoever has the private one keeps it.
    """
    settings, trust = settings_with_trust(config)
    public = read_public(new, role)
    before = _operator(trust.folder, key, passphrase_file).replace_key(TrustRole(role), public)
    written(settings, "trust.key_replaced", role, before=", ".join(before), after=public.keyid)


@command.command(name="key")
@click.argument("file", type=click.Path(path_type=Path))
@passphrase_option
def new_key(file: Path, passphrase_file: Path | None) -> None:
    """Make a key in FILE, to take the place of another; its public half goes beside it."""
    made = make_key(file, passphrase_in(passphrase_file))
    click.echo(f"{file}, {file.with_suffix('.pub.pem')}: {fingerprint(made.public_key)}")


def _cell(name: str, row: Row) -> str:
    return str(row[name])


def _operator(folder: str, key: Path, passphrase_file: Path | None) -> Operator:
    return Operator(Repository(Path(folder)), signer_in(key, passphrase_file), SystemClock())


def _running(database: Path) -> Mapping[str, str]:
    """Texts of the jobs that the coordinator runs already."""
    if not database.exists():
        return {}
    with SqlStore(f"sqlite:///{database}") as store:
        return {job.name: job.text for job in store.jobs()}
