# SPDX-License-Identifier: Apache-2.0
"""Checks of signed metadata: whether a role is over, or soon."""

from datetime import UTC, datetime
from pathlib import Path

from fedmill_coordinator.config import CoordinatorConfig
from fedmill_coordinator.doctor import Finding, Findings
from fedmill_shared.trust import TrustRole

SOON_DAYS = 14.0
DAEMON = "start the coordinator, which signs it; else look for trust.failed in its log"


def trust(config: CoordinatorConfig, now_ns: int) -> Findings:
    """How long each role of ``[trust]`` is still good."""
    if config.trust is None:
        return
    from fedmill_coordinator.trust.keeper import REMEDIES  # noqa: PLC0415
    from fedmill_coordinator.trust.repository import Repository  # noqa: PLC0415  few have it
    from fedmill_coordinator.trust.standing import standing  # noqa: PLC0415

    now = datetime.fromtimestamp(now_ns / 1e9, UTC)
    for role in standing(Repository(Path(config.trust.folder)), now):
        check, told = f"signed metadata: {role.role}", f"version {role.version}, {role.expires}"
        remedy = REMEDIES.get(TrustRole(role.role), DAEMON)
        if role.days_left < 0:
            yield Finding(check, "failed", f"over: {told}", remedy)
        elif role.days_left < SOON_DAYS and role.role not in ("timestamp", "snapshot"):
            yield Finding(check, "warning", told, remedy)
        else:
            yield Finding(check, "ok", told)
