# SPDX-License-Identifier: Apache-2.0
"""Whether an agent is there, as far as the coordinator has heard."""

import time

from fedmill_coordinator.store.records import AgentRecord

SILENT_SECONDS = 20


def age_of(record: AgentRecord) -> float:
    """Seconds since the agent was last heard of."""
    return (time.time_ns() - record.last_seen_ns) / 1e9


def presence(record: AgentRecord) -> str:
    """Online, offline, or silent: said to be online, but not heard of for several heartbeats."""
    if not record.online:
        return "offline"
    return "online" if age_of(record) < SILENT_SECONDS else "silent"
