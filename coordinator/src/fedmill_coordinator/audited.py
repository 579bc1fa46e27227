# SPDX-License-Identifier: Apache-2.0
"""The coordinator's audit log, which its daemon and its commands write in turn."""

from pathlib import Path

from fedmill_coordinator.config import CoordinatorConfig
from fedmill_shared.audit import FILE, AuditLog
from fedmill_shared.clock import Clock


def audit_log(config: CoordinatorConfig, clock: Clock) -> AuditLog:
    """The audit log of a coordinator."""
    section = config.coordinator
    return AuditLog(Path(section.state) / FILE, clock, max_bytes=section.audit_max_bytes)
