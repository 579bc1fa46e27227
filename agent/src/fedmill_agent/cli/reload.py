# SPDX-License-Identifier: Apache-2.0
"""``fedmill-agent reload``: have the running daemon take a changed configuration."""

import argparse
import os
import signal
import time
from pathlib import Path

import msgspec

from fedmill_agent.audited import audit_log
from fedmill_agent.changes import Change, changes
from fedmill_agent.cli import config_argument
from fedmill_agent.config import AgentConfig, load
from fedmill_agent.places import good_config
from fedmill_agent.reloading import Reloaded
from fedmill_agent.status import Status, is_alive, read_status
from fedmill_shared.audit.person import who
from fedmill_shared.clock import SystemClock
from fedmill_shared.errors import ConfigError, StoreError

PATIENCE_SECONDS = 20.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    config_argument(parser)
    parser.add_argument("--dry-run", action="store_true", help="only say what would change")
    parser.add_argument("--json", action="store_true", help="as one JSON object")


def run(options: argparse.Namespace) -> int:
    """Compare the file with the configuration in use, and have it taken.

    Raises:
        ConfigError: the file is wrong; nothing was changed.
        StoreError: no daemon runs with it, it does not answer, or it cannot be recorded.
    """
    new = load(options.config)
    found = changes(_in_use(options.config, new), new)
    folder = Path(new.agent.state)
    if options.dry_run:
        waiting = [*_waiting(folder), *(each.field for each in found if each.restart)]
    else:
        status = _running(folder)
        audit_log(new.agent, SystemClock()).record(
            who=who(), what="ordered.reload", subject=str(options.config)
        )
        waiting = list(_take(folder, status).restart_required)
    found = [each for each in found if not each.restart or each.field in waiting]
    told = {each.field for each in found}
    found += [Change(field, restart=True) for field in waiting if field not in told]
    if options.json:
        body = {"taken": not options.dry_run, "changes": found}
        print(msgspec.json.encode(body).decode())
    else:
        _show(found, dry=options.dry_run)
    return 0


def _in_use(path: Path, new: AgentConfig) -> AgentConfig:
    """The configuration that the daemon has, as if it stood where ``path`` does."""
    kept = good_config(new.agent.state)
    try:
        kept.open("rb").close()
    except OSError as error:
        raise StoreError(
            f"{kept}: {error.strerror}", remedy="has the agent been started with this file?"
        ) from error
    return load(path, copy=kept)


def _waiting(folder: Path) -> list[str]:
    """What changed before and waits for a restart of the daemon, if it runs."""
    try:
        status = read_status(folder)
    except StoreError:
        return []
    return list(status.config.restart_required) if is_alive(status) else []


def _running(folder: Path) -> Status:
    status = read_status(folder)
    if not is_alive(status):
        raise StoreError(
            f"{folder}: no agent is running with this configuration",
            remedy="start it with `fedmill-agent run`",
        )
    return status


def _take(folder: Path, status: Status) -> Reloaded:
    before = status.config.count
    try:
        os.kill(status.pid, signal.SIGHUP)
    except OSError as error:
        raise StoreError(
            f"the agent, process {status.pid}, cannot be asked: {error.strerror}",
            remedy="reload as the user that it runs as, or by `systemctl reload`",
        ) from error
    outcome = _outcome(folder, before)
    if outcome.error:
        raise ConfigError(outcome.error)
    return outcome


def _outcome(folder: Path, before: int) -> Reloaded:
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        told = read_status(folder).config
        if told.count > before:
            return told
        time.sleep(0.05)
    raise StoreError(
        f"{folder}: the agent has not answered within {PATIENCE_SECONDS:.0f} s",
        remedy="look at its log",
    )


def _show(found: list[Change], *, dry: bool) -> None:
    if not found:
        print("nothing has changed")
    for each in found:
        when = "restart required" if each.restart else ("would be taken" if dry else "taken")
        print(f"{each.field:<32} {each.what:<8} {when}")
