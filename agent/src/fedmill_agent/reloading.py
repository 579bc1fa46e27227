# SPDX-License-Identifier: Apache-2.0
"""Reads a changed configuration while the daemon runs: whole and good, or not at all."""

from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from fedmill_agent.changes import Change, adopted, changes
from fedmill_agent.config import AgentConfig, load
from fedmill_agent.places import good_config
from fedmill_shared.errors import FedmillError, StoreError
from fedmill_shared.files import make_folder, write_atomic
from fedmill_shared.log import Logger


class Reloaded(Struct, frozen=True):
    """What became of the configuration file since the daemon started.

    Attributes:
        count: how often it was read again, with success or not.
        error: what is wrong with it, if it could not be taken; the one before it goes on.
        restart_required: fields that changed and take effect only with a restart.
    """

    count: int = 0
    error: str = ""
    restart_required: tuple[str, ...] = ()


class ConfigFile:
    """Owns the path of the configuration, and a copy of the last good one in the state folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.outcome = Reloaded()

    def load(self) -> AgentConfig:
        """The configuration as it is now.

        Raises:
            ConfigError: it is wrong.
        """
        return load(self._path)

    def keep(self, state: str, log: Logger) -> None:
        """Copy the file, which was good just now, into the state folder; a full disk is told."""
        copy = good_config(state)
        try:
            text = self._path.read_bytes()
            make_folder(copy.parent)
            if not copy.exists() or copy.read_bytes() != text:
                write_atomic(copy, text)
        except (OSError, StoreError) as error:
            log.warning("config.not_kept", error=str(error))

    def reload(
        self, old: AgentConfig, log: Logger, take: Callable[[AgentConfig, Sequence[Change]], None]
    ) -> None:
        """Have ``take`` apply what changed since ``old``; of a wrong file nothing is applied."""
        count = self.outcome.count + 1
        new = self._read()
        if isinstance(new, FedmillError):
            kept = str(good_config(old.agent.state))
            log.error("config.refused", error=str(new), last_good=kept)
            self.outcome = Reloaded(count, str(new), self.outcome.restart_required)
            return
        self.keep(old.agent.state, log)
        found = changes(old, new)
        waiting = tuple(each.field for each in found if each.restart)
        taken = [each for each in found if not each.restart]
        if taken:
            take(adopted(old, new), taken)
        log.info(
            "config.reloaded",
            changed=",".join(f"{each.field} {each.what}" for each in taken),
            restart_required=",".join(waiting),
        )
        self.outcome = Reloaded(count, restart_required=waiting)

    def _read(self) -> AgentConfig | FedmillError:
        try:
            return self.load()
        except FedmillError as error:
            return error
