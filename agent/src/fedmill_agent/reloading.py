# SPDX-License-Identifier: Apache-2.0
"""Reads a changed configuration while the daemon runs: whole and good, or not at all."""

from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct, structs

from fedmill_agent.changes import Change, adopted, changes
from fedmill_agent.config import AgentConfig
from fedmill_agent.places import good_config
from fedmill_agent.trust.overlay import Overlaid, Texts, keep_good, last_good, load_overlaid, named
from fedmill_agent.trust.places import TrustPlaces
from fedmill_shared.audit import DAEMON, Audit, NoAudit
from fedmill_shared.errors import FedmillError, StoreError
from fedmill_shared.files import make_folder, sha256, write_atomic
from fedmill_shared.log import Logger


class Reloaded(Struct, frozen=True):
    """What became of the configuration file since the daemon started.

    Attributes:
        count: how often it was read again, with success or not.
        error: what is wrong with it, if it could not be taken; the one before it goes on.
        restart_required: fields that changed and take effect only with a restart.
        remote: the signed remote configurations in use.
        remote_error: why those that are signed now are not in use.
    """

    count: int = 0
    error: str = ""
    restart_required: tuple[str, ...] = ()
    remote: str = ""
    remote_error: str = ""


class ConfigFile:
    """Owns the path of the configuration, and a copy of the last good one in the state folder."""

    def __init__(self, path: Path, audit: Audit | None = None) -> None:
        """Changes from afar are put down in ``audit``."""
        self._path = path
        self._audit: Audit = NoAudit() if audit is None else audit
        self._applied: Texts = ()
        self._digest = ""
        self.outcome = Reloaded()

    def load(self) -> AgentConfig:
        """The configuration as it is now, with what is signed of it for this agent.

        Raises:
            ConfigError: it is wrong.
        """
        found = self._load()
        self.outcome = structs.replace(
            self.outcome, remote=named(found.applied), remote_error=found.error
        )
        return found.config

    def begin(self, state: str, log: Logger) -> None:
        """Keep it as ``keep`` does, and put down whether it changed since the agent ran last."""
        before = _digest_of(good_config(state))
        self.keep(state, log)
        if before != self._digest:
            self._note("config.changed", before, self._digest)

    def keep(self, state: str, log: Logger) -> None:
        """Copy the file, which was good just now, into the state folder; a full disk is told."""
        copy = good_config(state)
        try:
            text = self._path.read_bytes()
            self._digest = sha256(text)
            make_folder(copy.parent)
            if not copy.exists() or copy.read_bytes() != text:
                write_atomic(copy, text)
            self._keep_remote(state, log)
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
            self.outcome = structs.replace(self.outcome, count=count, error=str(new))
            self._note("config.refused", self._digest, str(new))
            return
        before = self._digest
        self.keep(old.agent.state, log)
        remote, error = self.outcome.remote, self.outcome.remote_error
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
        self.outcome = Reloaded(count, restart_required=waiting, remote=remote, remote_error=error)
        told = ", ".join(f"{each.field} {each.what}" for each in found) or "nothing"
        self._note("config.reloaded", before, f"{self._digest}: {told}")

    def _note(self, what: str, before: str, after: str) -> None:
        self._audit.record(
            who=DAEMON, what=what, subject=str(self._path), before=before, after=after
        )

    def _load(self) -> Overlaid:
        found = load_overlaid(self._path)
        self._applied = found.applied
        return found

    def _keep_remote(self, state: str, log: Logger) -> None:
        """What came from afar and fits is put down, and holds until something else fits."""
        if self.outcome.remote_error:
            log.error("config.remote_refused", error=self.outcome.remote_error)
        places = TrustPlaces(state)
        before, after = named(last_good(places)), named(self._applied)
        if (before or after) and keep_good(places, self._applied):
            log.info("config.remote_applied", before=before, after=after)
            told = {"subject": str(self._path), "before": before, "after": after}
            self._audit.record(who="operator", what="config.remote_applied", **told)

    def _read(self) -> AgentConfig | FedmillError:
        try:
            return self.load()
        except FedmillError as error:
            return error


def _digest_of(copy: Path) -> str:
    """Digest of the copy that was kept; empty where there is none, or none that can be read."""
    try:
        return sha256(copy.read_bytes())
    except OSError:
        return ""
