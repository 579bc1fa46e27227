# SPDX-License-Identifier: Apache-2.0
"""What the commands share that are about certificates: configuration, authority, store, audit.

They work beside the daemon, which shares the store with them, and without it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
from msgspec import structs

from fedmill_coordinator.audited import audit_log
from fedmill_coordinator.cli.listing import ListingGroup
from fedmill_coordinator.config import CoordinatorConfig, load
from fedmill_coordinator.pki.keyfile import load_authority
from fedmill_coordinator.pki.options import PkiSection, key_path
from fedmill_coordinator.pki.register import Register, check_name
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.sql import SqlStore
from fedmill_shared.audit.person import who
from fedmill_shared.clock import Clock, SystemClock
from fedmill_shared.errors import ConfigError, StoreError, UsageError
from fedmill_shared.files import make_folder
from fedmill_shared.topics import RESERVED, valid_agent_id

DEFAULT_CONFIG = "/etc/fedmill/coordinator.toml"
config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="FEDMILL_CONFIG",
    default=DEFAULT_CONFIG,
    show_default=True,
    show_envvar=True,
    help="Configuration file of the coordinator.",
)
key_option = click.option(
    "--ca-key",
    type=click.Path(path_type=Path),
    help="The authority's key, where [pki] ca_key is a credential.",
)


class OfficeGroup(ListingGroup):
    """A group whose listing needs no argument."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Put ``list`` where nothing is said at all."""
        return super().parse_args(context, args or ["list"])


@dataclass(frozen=True, slots=True)
class Office:
    """What a command needs to act: all of one coordinator's."""

    config: CoordinatorConfig
    section: PkiSection
    clock: Clock

    def note(self, what: str, subject: str, *, before: str = "", after: str = "") -> None:
        """Record in the audit log that the person at the keyboard does ``what``.

        Raises:
            StoreError: the log cannot be written.
            AuditError: the log is damaged.
        """
        make_folder(Path(self.config.coordinator.state))
        log = audit_log(self.config, self.clock)
        log.record(who=who(), what=what, subject=subject, before=before, after=after)

    def check_name(self, agent: str) -> None:
        """Return if an agent may be called so.

        Raises:
            IdentityError: the name is one of ours.
        """
        check_name(agent, self.config.coordinator.id)

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The coordinator's rows; they need not be there yet.

        Raises:
            StoreError: the state folder cannot be used by this user.
        """
        folder = make_folder(Path(self.config.coordinator.state))
        if not self.is_ours():  # what we would make there, the daemon could not write
            raise StoreError(
                f"{folder}: belongs to user id {folder.stat().st_uid}",
                remedy="run this as the coordinator's user",
            )
        with SqlStore.in_file(self.config.database) as store:
            yield store

    def register(self, store: Store) -> Register:
        """The register of the authority.

        Raises:
            IdentityError: its files are missing, damaged, or open to others.
        """
        return Register(
            load_authority(self.section),
            store,
            self.clock,
            days=self.section.certificate_days,
            crl=Path(self.section.crl),
            coordinator=self.config.coordinator.id,
        )

    def is_ours(self) -> bool:
        """Whether the state folder belongs to this user, or is not there yet."""
        try:
            return Path(self.config.coordinator.state).stat().st_uid == os.geteuid()
        except FileNotFoundError:
            return True

    def has_key(self) -> bool:
        """Whether this process may sign; a credential is for the service, or who is handed it."""
        return key_path(self.section) is not None


def office(config: Path, ca_key: Path | None = None) -> Office:
    """The office of the coordinator with this configuration.

    Raises:
        ConfigError: it is wrong, or has no authority.
    """
    settings = load(config)
    section = settings.pki
    if section is None:
        raise ConfigError(
            f"{config}: there is no [pki]", remedy="add the line [pki], then `fedmill ca init`"
        )
    if ca_key is not None:
        section = structs.replace(section, ca_key=str(ca_key.absolute()))
    return Office(settings, section, SystemClock())


def agent_name(agent: str) -> str:
    """``agent`` if it can be one's name.

    Raises:
        UsageError: it cannot.
    """
    if not valid_agent_id(agent):
        raise UsageError(
            f"AGENT is {agent!r}",
            remedy="1 to 32 small letters, digits and dashes, but none of " + ", ".join(RESERVED),
        )
    return agent
