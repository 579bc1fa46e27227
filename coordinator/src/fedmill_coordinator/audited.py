# SPDX-License-Identifier: Apache-2.0
"""The coordinator's audit log, which its daemon and its commands write in turn."""

from contextlib import suppress
from pathlib import Path

from fedmill_coordinator.config import CoordinatorConfig
from fedmill_shared.audit import DAEMON, FILE, Audit, AuditLog
from fedmill_shared.clock import Clock
from fedmill_shared.errors import StoreError
from fedmill_shared.files import sha256, write_atomic

CONFIG_DIGEST = "config.sha256"
"""File in the state folder: digest of the configuration that the daemon was last started with."""


def audit_log(config: CoordinatorConfig, clock: Clock) -> AuditLog:
    """The audit log of a coordinator."""
    section = config.coordinator
    return AuditLog(Path(section.state) / FILE, clock, max_bytes=section.audit_max_bytes)


def note_config(path: Path, state: Path, audit: Audit) -> None:
    """Record it if the configuration in ``path`` is another than at the start before.

    Raises:
        OSError: it cannot be read.
    """
    known, digest = state / CONFIG_DIGEST, sha256(path.read_bytes())
    try:
        before = known.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        before = ""
    if before == digest:
        return
    audit.record(who=DAEMON, what="config.changed", subject=str(path), before=before, after=digest)
    with suppress(StoreError):  # a full disk: it is told again at the next start
        write_atomic(known, f"{digest}\n".encode())
