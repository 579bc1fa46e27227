# SPDX-License-Identifier: Apache-2.0
"""``fedmill fleet``."""

import time
from pathlib import Path

import click
from msgspec import json

from fedmill_coordinator.cli.listing import config_argument, json_option, opened, show
from fedmill_coordinator.store.records import AgentRecord
from fedmill_shared.messages import JobPhase

SILENT_SECONDS = 20


@click.command(name="fleet", short_help="List agents.")
@config_argument
@json_option
def command(config: Path, *, as_json: bool) -> None:
    """List the agents that the coordinator with the configuration CONFIG has heard of."""
    with opened(config) as store:
        refusals = {refusal.agent: refusal.text for refusal in reversed(store.refusals())}
        rows = []
        for record in store.agents():
            age = (time.time_ns() - record.last_seen_ns) / 1e9
            phases = json.decode(record.jobs.encode(), type=dict[str, JobPhase])
            rows.append(
                {
                    "agent": record.agent,
                    "state": _state(record, age),
                    "last_seen_s": round(age),
                    "jobs": ", ".join(f"{name}: {p.phase}" for name, p in phases.items()),
                    "model": (record.model_version or "")[:12],
                    "windows_scored": record.windows_scored,
                    "memory_MiB": round(record.resident_bytes / 2**20, 1),
                    "clock_skew_ms": record.clock_skew_ms,
                    "software": record.software,
                    "last_refusal": refusals.get(record.agent, ""),
                }
            )
    show("fleet", rows, as_json=as_json, only_json=["software", "clock_skew_ms"])


def _state(record: AgentRecord, age: float) -> str:
    """Online, offline, or silent: said to be online, but not heard of for several heartbeats."""
    if not record.online:
        return "offline"
    return "online" if age < SILENT_SECONDS else "silent"
