# SPDX-License-Identifier: Apache-2.0
"""What the commands of ``fedmill trust`` share: the repository, keys, and the audit log."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from fedmill_coordinator.audited import audit_log
from fedmill_coordinator.config import CoordinatorConfig, load
from fedmill_coordinator.trust.keys import RoleKey, read_signer
from fedmill_coordinator.trust.options import TrustSection
from fedmill_coordinator.trust.repository import Repository
from fedmill_shared.audit.person import who
from fedmill_shared.clock import SystemClock
from fedmill_shared.errors import ConfigError, TrustError
from fedmill_shared.files import make_folder
from fedmill_shared.trust import TrustRole

F = TypeVar("F", bound=Callable[..., None])
LONGEST_PASSPHRASE = 1024

settings_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    required=True,
    help="Configuration file of the coordinator.",
)
passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The key's passphrase is the first line of this file.",
)


def key_option(whose: str) -> Callable[[F], F]:
    """The option that names the key of ``whose`` role."""
    return click.option(
        "--key",
        type=click.Path(path_type=Path),
        required=True,
        help=f"Private key, on its stick: the {whose} key.",
    )


def settings_with_trust(config: Path) -> tuple[CoordinatorConfig, TrustSection]:
    """The configuration, and its section ``[trust]``.

    Raises:
        ConfigError: it is wrong, or has none.
    """
    settings = load(config)
    if settings.trust is None:
        raise ConfigError(
            f"{config}: has no section [trust]",
            remedy='write [trust] with folder = "trust" and keys = "keys"',
        )
    return settings, settings.trust


def repository_of(trust: TrustSection) -> Repository:
    """The repository of a configuration."""
    return Repository(Path(trust.folder))


def signer_in(key: Path, passphrase_file: Path | None) -> RoleKey:
    """The key in a file.

    Raises:
        TrustError: there is none, or the passphrase is another.
    """
    return read_signer(key, passphrase_in(passphrase_file))


def passphrase_in(file: Path | None) -> str:
    """The first line of ``file``; empty where there is no file.

    Raises:
        TrustError: it is empty, or no text.
    """
    if file is None:
        return ""
    try:
        with file.open(encoding="utf-8") as stream:
            found = stream.readline(LONGEST_PASSPHRASE).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise TrustError(f"{file}: no passphrase can be read") from error
    if not found:
        raise TrustError(f"{file}: its first line is empty", remedy="write the passphrase there")
    return found


def signed(repository: Repository, path: str, role: TrustRole = TrustRole.TARGETS) -> str:
    """Digest of what is signed under ``path``; empty where nothing is.

    Raises:
        TrustError: there is no metadata of ``role``.
    """
    target = repository.targets(role).signed.targets.get(path)
    return str(target.hashes["sha256"]) if target is not None else ""


def written(
    settings: CoordinatorConfig, what: str, subject: str, after: str = "", *, before: str = ""
) -> None:
    """Put an act of the operator into the audit log.

    Raises:
        StoreError: the disk fails.
        AuditError: the log cannot be gone on with.
    """
    make_folder(Path(settings.coordinator.state))
    audit_log(settings, SystemClock()).record(
        who=who(), what=what, subject=subject, before=before, after=after
    )
