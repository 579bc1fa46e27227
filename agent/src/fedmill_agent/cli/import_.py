# SPDX-License-Identifier: Apache-2.0
"""``fedmill-agent import [CONFIG] DIR``: a bundle from a stick, for a machine without a network."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from fedmill_agent.audited import audit_log
from fedmill_agent.config import AgentConfig, load
from fedmill_agent.identity.owner import as_owner
from fedmill_agent.status import Status, is_alive, read_status
from fedmill_agent.trust.bundle import Checked, check
from fedmill_agent.trust.handover import hand_over
from fedmill_agent.trust.imports import OVER
from fedmill_shared.audit.person import who
from fedmill_shared.clock import SystemClock
from fedmill_shared.errors import ConfigError, StoreError, TrustError

if TYPE_CHECKING:
    import argparse

USUAL = Path("/etc/fedmill/agent.toml")
POLL_SECONDS = 0.2


def add_arguments(parser: "argparse.ArgumentParser") -> None:
    """Arguments of the command."""
    parser.add_argument(
        "config", type=Path, nargs="?", default=USUAL, help=f"configuration file ({USUAL})"
    )
    parser.add_argument("folder", type=Path, help="folder that `fedmill bundle` wrote")
    parser.add_argument(
        "--wait", type=float, default=60.0, help="seconds to wait for a running agent (60)"
    )


def run(options: "argparse.Namespace") -> int:
    """Check the bundle, hand it over, and say what became of it.

    Raises:
        ConfigError: the configuration is wrong, or says not whom to trust.
        TrustError: something in the bundle is not signed, or the agent refused a release of it.
        StoreError: it cannot be read or copied.
        AuditError: the log of who did what cannot be gone on with.
    """
    config = load(options.config)
    if config.trust is None:
        raise ConfigError(
            f"{options.config}: has no section [trust]: nothing can be checked",
            remedy='write [trust] with root = "root.json"',
        )
    root, folder = Path(config.trust.root).absolute(), options.folder.absolute()
    with as_owner(Path(config.agent.state)) as state:
        checked = check(folder, state, root, config.agent.id)
        hand_over(checked, state)
        told = ", ".join(f"{job} {number}" for job, number in checked.releases.items())
        audit_log(config.agent, SystemClock(), state).record(
            who=who(), what="bundle.imported", subject=checked.name, after=told
        )
        for path in checked.software:
            print(f"{path.name.partition('.')[2]}: signed as it is, at {path}")
        for job in checked.jobs:
            print(f"{job}: the job is signed")
        return _follow(checked, config, state, options.wait)


def _wanted(checked: Checked, config: AgentConfig) -> dict[str, int]:
    """Releases of the jobs that the agent takes part in."""
    jobs = config.agent.jobs
    for job in checked.releases:
        if jobs and job not in jobs:
            print(f"{job}: this agent takes no part in it, by agent.jobs")
    return {job: each for job, each in checked.releases.items() if not jobs or job in jobs}


def _follow(checked: Checked, config: AgentConfig, state: Path, seconds: float) -> int:
    """Say how each release fares; 0 unless one is refused."""
    if not checked.releases:
        print("no release is in the bundle")
        return 0
    end, waiting = time.monotonic() + seconds, _wanted(checked, config)
    refused: list[str] = []
    while waiting:
        status = _status(state)
        if status is None:
            print("the agent is not running: it takes the bundle at its next start")
            return 0
        for job, release in list(waiting.items()):
            said = _outcome(status, job, release)
            if said:
                print(f"{job}: release {release} {said}")
                del waiting[job]
                refused += [] if said == "committed" else [job]
        if waiting and time.monotonic() >= end:
            print(f"{', '.join(waiting)}: still under way; `fedmill-agent status` goes on telling")
            return 0
        time.sleep(POLL_SECONDS)
    if refused:
        raise TrustError(f"not installed: {', '.join(refused)}", remedy="see the reasons above")
    return 0


def _status(state: Path) -> Status | None:
    try:
        status = read_status(state)
    except StoreError:
        return None
    return status if is_alive(status) else None


def _outcome(status: Status, job: str, release: int) -> str:
    """The last word of the agent about a release; empty before that."""
    phase = status.state.jobs.get(job)
    install = phase.install if phase is not None else None
    if phase is not None and install is None and phase.phase == "refused":
        return f"refused: {phase.ineligible}"
    if install is None or install.release < release:
        return ""
    if install.release > release:
        return f"refused: release {install.release} is known already"
    if install.state not in OVER:
        return ""
    reason = f" at {install.gate}: {install.reason}" if install.gate else ""
    return f"{install.state}{reason}"
