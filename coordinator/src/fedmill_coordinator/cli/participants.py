# SPDX-License-Identifier: Apache-2.0
"""The agents of one round: their updates, what was found about them, and bytes both ways."""

from collections.abc import Mapping

from fedmill_coordinator.aggregation import Verdict
from fedmill_coordinator.cli.findings import held, verdicts_of, words
from fedmill_coordinator.cli.table import Column, Row, kilobytes, number, value
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records import TrafficRecord, UpdateRecord
from fedmill_shared.errors import UsageError

COLUMNS = [
    Column("agent", value("agent")),
    Column("update", lambda row: "quarantined" if row["quarantined"] else str(row["update"])),
    Column("windows", value("examples"), right=True, spare=3),
    Column("loss", value("loss", number), right=True, spare=2),
    Column("norm", value("norm", number), right=True, spare=4),
    Column("frame kB", value("frame_bytes", kilobytes), right=True, spare=1),
    Column("up kB", value("uplink_bytes", kilobytes), right=True),
    Column("down kB", value("downlink_bytes", kilobytes), right=True),
    Column("found", words, wraps=True),
]


def participants(store: Store, job: str, round_: int) -> list[Row]:
    """The agents of which a round of ``job`` has bytes or an update, by name.

    Raises:
        UsageError: nothing is known of that round.
    """
    counts = {record.agent: record for record in store.traffic(job, round_)}
    updates = {update.agent: update for update in store.updates(job, round_)}
    record = store.round(job, round_)
    if not counts and record is None:
        newest = store.rounds(job, last=1)
        told = f"rounds: 1 to {newest[0].round}" if newest else "there is none yet"
        raise UsageError(f"--round is {round_}", remedy=told)
    known = _verdicts(store, job, updates)
    away = held(store, job, round_) if updates else {}
    return [
        {
            "agent": agent,
            **_of_update(updates.get(agent)),
            **_of_round(known.get(agent), away.get(agent)),
            **_of_traffic(counts.get(agent)),
        }
        for agent in sorted(counts.keys() | updates.keys())
    ]


def _verdicts(store: Store, job: str, updates: Mapping[str, UpdateRecord]) -> Mapping[str, Verdict]:
    """What the rounds found that used the ``updates``, which may be later ones."""
    used = {agent: each.included_in for agent, each in updates.items()}
    found = {
        number: verdicts_of(store.round(job, number))
        for number in set(used.values())
        if number is not None
    }
    return {
        agent: found[number][agent]
        for agent, number in used.items()
        if number is not None and agent in found[number]
    }


def _of_update(update: UpdateRecord | None) -> Mapping[str, object]:
    return {
        "update": update.state if update else "",
        "included_in": update.included_in if update else None,
        "examples": update.examples if update else None,
        "loss": update.loss if update else None,
        "norm": update.norm if update else None,
        "frame_bytes": update.wire_bytes if update else None,
        "key": update.key if update else "",
    }


def _of_round(verdict: Verdict | None, quarantine: str | None) -> Mapping[str, object]:
    return {
        "trust": verdict.trust if verdict else None,
        "agreement": verdict.agreement if verdict else None,
        "factor": verdict.factor if verdict else None,
        "finding": verdict.statistic if verdict else "",
        "quarantined": quarantine or "",
    }


def _of_traffic(count: TrafficRecord | None) -> Mapping[str, object]:
    return {
        "uplink_bytes": count.uplink_bytes if count else None,
        "downlink_bytes": count.downlink_bytes if count else None,
    }
