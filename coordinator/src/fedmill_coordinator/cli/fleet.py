# SPDX-License-Identifier: Apache-2.0
"""``fedmill fleet``."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from msgspec import json

from fedmill_coordinator.cli.findings import held
from fedmill_coordinator.cli.listing import config_argument, json_option, opened, show
from fedmill_coordinator.cli.presence import age_of, presence
from fedmill_coordinator.cli.table import (
    Column,
    Row,
    ago,
    digest,
    megabytes,
    metric_column,
    number,
    show_table,
    value,
)
from fedmill_coordinator.cli.wished import show_wishes, wish_row, wish_rows
from fedmill_coordinator.progress import candidates_by_agent, metrics_by_agent
from fedmill_coordinator.store.base import Store
from fedmill_shared.messages import JobPhase

Phases = dict[str, JobPhase]
Counts = dict[str, tuple[int, int]]


@click.command(name="fleet", short_help="List agents.")
@config_argument
@json_option
def command(config: Path, *, as_json: bool) -> None:
    """List the agents that the coordinator with the configuration CONFIG has heard of.

    An agent has a line for each of its jobs; the metric is that of its own held-out windows under
    the newest version that it has scored them with, MB up and down are those since the job began.
    """
    with opened(config) as store:
        refusals = {refusal.agent: refusal.text for refusal in reversed(store.refusals())}
        rows: list[dict[str, object]] = []
        agents = store.agents()
        phases = {a.agent: json.decode(a.jobs.encode(), type=Phases) for a in agents}
        counts = {job.name: store.traffic_by_agent(job.name) for job in store.jobs()}
        stand = _stand(store, phases, counts)
        for record in agents:
            sums = [told[record.agent] for told in counts.values() if record.agent in told]
            rows.append(
                {
                    "agent": record.agent,
                    "state": presence(record),
                    "last_seen_s": round(age_of(record)),
                    "jobs": stand[record.agent],
                    "model": record.model_version or "",
                    "windows_scored": record.windows_scored,
                    "uplink_bytes": sum(up for up, _ in sums),
                    "downlink_bytes": sum(down for _, down in sums),
                    "memory_MiB": round(record.resident_bytes / 2**20, 1),
                    "clock_skew_ms": record.clock_skew_ms,
                    "software": record.software,
                    "labels": json.decode(record.labels),
                    "detail": record.detail,
                    "last_refusal": refusals.get(record.agent, ""),
                }
            )
        wished = wish_rows(store)
    if as_json or not rows:
        show("fleet", rows, [], as_json=as_json)
    else:
        _show_tables(rows, stand)
        show_wishes(wished)


def _stand(
    store: Store, phases: dict[str, Phases], counts: Mapping[str, Counts]
) -> dict[str, list[Row]]:
    """Where each agent stands in each of its jobs, and what these cost it."""
    stand: dict[str, list[Row]] = {agent: [] for agent in phases}
    for job in sorted({job for told in phases.values() for job in told}):
        members = {agent: told[job] for agent, told in phases.items() if job in told}
        numbers = {version.version: version.number for version in store.versions(job)}
        metrics = metrics_by_agent(store, job, members)
        chosen = {agent for agent, phase in members.items() if phase.served}
        candidates = candidates_by_agent(store, job, chosen)
        away, wishes = held(store, job), {each.agent: each for each in store.wishes(job)}
        for agent, phase in members.items():
            scored, metric = metrics.get(agent, (None, None))
            up, down = counts.get(job, {}).get(agent, (0, 0))
            stand[agent].append(
                {
                    "job": job,
                    **_told(phase),
                    "number": numbers.get(phase.version),
                    "serving_number": numbers.get(_serving(phase)),
                    "quarantined": away.get(agent, ""),
                    "wish": wish_row(wishes.get(agent)),
                    "candidates": {
                        name: each.value for name, each in candidates.get(agent, {}).items()
                    },
                    "metric": metric.name if metric else "",
                    "value": metric.value if metric else None,
                    "metric_windows": metric.windows if metric else 0,
                    "metric_version": scored.version if scored else "",
                    "metric_number": scored.number if scored else None,
                    "uplink_bytes": up,
                    "downlink_bytes": down,
                }
            )
    return stand


def _told(phase: JobPhase) -> Row:
    """What an agent says of itself in one job."""
    return {
        "phase": phase.phase,
        "version": phase.version,
        "windows": phase.windows,
        "windows_scored": phase.windows_scored,
        "windows_bad": phase.windows_bad,
        "faults": phase.faults,
        "ineligible": phase.ineligible,
        "served": phase.served,
        "serving": _serving(phase),
        "install": phase.install.state if phase.install is not None else "",
    }


def _serving(phase: JobPhase) -> str:
    """The version that scores; agents that do not tell score with the one they train from."""
    return phase.install.serving if phase.install is not None else phase.version


def _show_tables(rows: Sequence[Row], stand: dict[str, list[Row]]) -> None:
    """A table for each job, so that its metric has a column of its own; then what holds agents up.

    First why agents do not train now, then what was refused.
    """
    by_job: dict[str, list[Row]] = {}
    for row in rows:
        for part in stand[str(row["agent"])]:
            by_job.setdefault(f"fleet of {part['job']}", []).append({**row, **part})
    idle: list[Row] = [
        {**row, "metric": "", "version": ""} for row in rows if not stand[str(row["agent"])]
    ]
    ordered = dict(sorted(by_job.items()))
    if idle:
        ordered["agents without a job"] = idle
    tables = [(title, _columns(lines), lines) for title, lines in ordered.items()]
    for title, heading, key in (
        ("not training now", "reason", "detail"),
        ("last refusals", "text", "last_refusal"),
    ):
        said = [row for row in rows if row[key]]
        if said:
            prose = Column(heading, value(key), wraps=True)
            tables.append((title, [Column("agent", value("agent")), prose], said))
    for place, (title, columns, lines) in enumerate(tables):
        if place:
            click.echo()
        show_table(title, columns, lines)


def _columns(lines: Sequence[Row]) -> list[Column]:
    return [
        Column("agent", value("agent")),
        Column("state", value("state")),
        Column("seen ago", value("last_seen_s", ago), right=True, spare=1),
        Column("phase", _phase),
        Column("model", _model, right=True),
        *([Column("scores with", _scores, right=True)] if _apart(lines) else []),
        *([Column("serves", value("served"))] if any(line.get("served") for line in lines) else []),
        metric_column(lines),
        Column("of model", value("metric_number"), right=True),
        Column("windows scored", value("windows_scored"), right=True, spare=2),
        Column("bad", value("windows_bad"), right=True, spare=3),
        Column("up MB", value("uplink_bytes", megabytes), right=True, spare=3),
        Column("down MB", value("downlink_bytes", megabytes), right=True, spare=3),
        Column("memory MiB", value("memory_MiB"), right=True, spare=4),
        Column("clock ms", value("clock_skew_ms", number), right=True, spare=5),
        Column("software", value("software"), spare=6),
    ]


def _phase(line: Row) -> str:
    """How far the agent has come; that it counts for nothing is worth more than that it joined."""
    return "quarantined" if line.get("quarantined") else value("phase")(line)


def _apart(lines: Sequence[Row]) -> bool:
    """Whether an agent scores with another version than it trains from."""
    return any(line.get("serving", "") != line["version"] for line in lines)


def _scores(line: Row) -> str:
    """The number of the version that is served; of an agent's own model the start of its name."""
    return value("serving_number")(line) or digest(line.get("serving", ""))


def _model(line: Row) -> str:
    """The number of the version it has; that of a stranger's job is not known here."""
    return value("number")(line) or digest(line["version"])
