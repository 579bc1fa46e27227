# SPDX-License-Identifier: Apache-2.0
"""What ``fedmill-agent check`` finds out about clock, state folder, identity, trust and audit."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from fedmill_agent.config import AgentConfig
from fedmill_shared.audit import FILE
from fedmill_shared.audit.verifying import verify
from fedmill_shared.clock import Clock
from fedmill_shared.crypto.validity import check_validity, moment, read_file, read_validity
from fedmill_shared.errors import AuditError, StoreError, TrustError

CLOCK_COMMAND = ("timedatectl", "show", "--property=NTPSynchronized", "--value")
CLOCK_SECONDS = 5.0


def machine_lines(config: AgentConfig) -> Iterator[str]:
    """Notes about the clock and about who may read the state folder."""
    state = Path(config.agent.state)
    if state.is_dir() and state.stat().st_mode & 0o077:
        mode = oct(state.stat().st_mode & 0o777)
        yield f"machine: {state} has mode {mode}: others may read windows and keys; chmod 700 it"
    if config.broker.tls is None and config.trust is None:
        return  # nothing depends on the clock, and nobody set up a service
    if not _synchronised():
        yield "machine: nothing says that the clock is right; set up NTP (see `timedatectl`)"
    if "INVOCATION_ID" not in os.environ and not Path("/run/systemd/system").is_dir():
        yield "machine: no systemd here: have the daemon started again by something else"


def check_identity(config: AgentConfig, clock: Clock) -> None:
    """Show how long the certificate of ``[broker.tls]`` is good, if there is to be one.

    Raises:
        IdentityError: it is missing, not good yet, or over.
    """
    tls = config.broker.tls
    if tls is None:
        return
    validity = read_validity(read_file(Path(tls.certificate), "certificate"))
    check_validity(validity, clock.now_ns())
    print(f"identity: {tls.certificate}, good until {moment(validity.not_after_ns)}")


def check_trust(config: AgentConfig) -> None:
    """Show what is trusted, if anything need be.

    Raises:
        TrustError: the root of ``[trust]`` is not there.
    """
    if config.trust is None:
        return
    root = Path(config.trust.root)
    if not root.is_file():
        raise TrustError(f"{root}: no such file", remedy="copy root.json from the plant's owner")
    print(f"trust: {root}")


def check_audit(config: AgentConfig) -> None:
    """Show whether the audit log is whole.

    Raises:
        AuditError: it is not.
        StoreError: it cannot be read.
    """
    path = Path(config.agent.state) / FILE
    try:
        verdict = verify(path)
    except StoreError:
        if path.exists():
            raise
        return  # the agent has not run yet
    if not verdict.ok:
        raise AuditError(f"{path}: {verdict.flaws[0]}", remedy="see `fedmill-agent audit verify`")
    print(f"audit log: {verdict.records} records, whole")


def _synchronised() -> bool:
    try:
        done = subprocess.run(
            [*CLOCK_COMMAND],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=CLOCK_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout.strip() == b"yes"
