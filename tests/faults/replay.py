# SPDX-License-Identifier: Apache-2.0
"""What a coordinator without any fault makes of the updates that one with faults accepted.

The oracle of every test that hurts a coordinator: it starts from the stored statistics, takes the
updates of each round as the store lists them, and must come to the same versions to the last bit.
"""

from dataclasses import dataclass
from typing import Any

from msgspec import json, msgpack

from fedmill_coordinator.registry.versions import Architecture
from fedmill_coordinator.rounds.aggregate import aggregate
from fedmill_coordinator.rounds.ladder import codecs_of
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.store.records import RoundRecord, UpdateRecord
from fedmill_shared.job_check import job_from_canonical
from fedmill_shared.models.normaliser import Normaliser


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the replay found.

    Attributes:
        rounds: rounds that were replayed.
        updates: updates that went into them.
        wrong: rounds whose version has other weights than the replay's.
        final: whether the newest version has the replay's weights.
    """

    rounds: int
    updates: int
    wrong: list[int]
    final: bool


def replay(store: Store, blobs: Blobs, name: str) -> Outcome:
    """Run the closed rounds of the job ``name`` again; every blob of its updates must be there."""
    record = store.job(name)
    assert record is not None
    assert record.normaliser is not None
    job = job_from_canonical(record.text.encode())
    normaliser = msgpack.decode(record.normaliser, type=Normaliser)
    architecture = Architecture.create(job, normaliser)
    made = architecture.first(normaliser)
    vector, residual, rule_state = made.vector, made.residual, b""
    versions = {each.round: each.version for each in store.versions(name) if each.round}
    used = _used(store, name)
    count, wrong, version = 0, [], made.version
    quarantined: set[str] = set()
    for round_ in store.rounds(name):
        if round_.state != "closed":
            continue
        members = used.get(round_.round, [])
        count += len(members)
        result = aggregate(
            job,
            rule_state,
            members,
            blobs,
            elements=architecture.learned,
            round_=round_.round,
            quarantined=quarantined,
        )
        quarantined = _in_quarantine(round_)
        rule_state = result.rule_state
        codec = codecs_of(store, job, round_.round)[1]
        made = architecture.next(vector, result.delta, residual, round_.round, codec)
        vector, residual, before, version = made.vector, made.residual, version, made.version
        # A round that changed nothing made no version.
        if versions.get(round_.round, before) != version:
            wrong.append(round_.round)
    newest = store.versions(name)[-1].version
    return Outcome(len(used), count, wrong, newest == version)


def _in_quarantine(closed: RoundRecord) -> set[str]:
    """Agents that count for nothing in the round after ``closed``."""
    report = json.decode(closed.report, type=dict[str, Any])
    return {each["agent"] for each in report.get("quarantine", [])}


def _used(store: Store, name: str) -> dict[int, list[UpdateRecord]]:
    """The updates of each round that closed with any, by agent and round."""
    found: dict[int, list[UpdateRecord]] = {}
    for round_ in store.rounds(name):
        for update in store.updates(name, round_.round):
            if update.included_in is not None:
                found.setdefault(update.included_in, []).append(update)
    return {
        number: sorted(members, key=lambda update: (update.agent, update.round))
        for number, members in found.items()
    }
