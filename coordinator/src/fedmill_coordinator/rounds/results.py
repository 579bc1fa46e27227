# SPDX-License-Identifier: Apache-2.0
"""What comes out of a round: its updates, their aggregate, its record, and what agents scored."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from msgspec import json, msgpack, structs
from numpy.typing import NDArray

from fedmill_coordinator.aggregation import RULES, Report, State, Update
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.store.records import EvaluationRecord, RoundRecord, UpdateRecord
from fedmill_shared.codec.frame import decode_frame
from fedmill_shared.errors import FrameError
from fedmill_shared.job import Job
from fedmill_shared.link.blocks import BLOB_LIMIT
from fedmill_shared.messages import EvaluationReport, RoundNotice
from fedmill_shared.metrics.classification import ClassificationStatistic


@dataclass(frozen=True, slots=True)
class Aggregate:
    """The outcome of a rule: delta (learned,), its next state as MessagePack, and its report."""

    delta: NDArray[np.float32]
    rule_state: bytes
    report: Report


@dataclass(frozen=True, slots=True)
class Past:
    """The rounds that have ended.

    Attributes:
        last: number of the last one; 0 before the first.
        included: agent -> SHA-256 of its update that went into the last one.
        abandoned: how many were abandoned in a row, counted from the last one.
    """

    last: int = 0
    included: dict[str, str] = field(default_factory=dict)
    abandoned: int = 0


def past_of(store: Store, job: str) -> Past:
    """The rounds of ``job`` that have ended, as the store tells."""
    ended = [record for record in store.rounds(job) if record.state != "open"]
    if not ended:
        return Past()
    abandoned = 0
    while abandoned < len(ended) and ended[-1 - abandoned].state == "abandoned":
        abandoned += 1
    last = ended[-1].round
    updates = store.updates(job, last)
    included = {u.agent: u.sha256 for u in updates if u.state == "included"}
    return Past(last, included, abandoned)


def round_notice(job: str, current: RoundRecord | None, past: Past) -> RoundNotice:
    """What agents are told: the open round, and how the one before it ended."""
    return RoundNotice(
        job=job,
        round=current.round if current is not None else 0,
        base=current.base if current is not None else "",
        deadline_ns=current.deadline_ns if current is not None else 0,
        closed=past.last,
        included=past.included,
    )


def received_for(store: Store, current: RoundRecord) -> list[UpdateRecord]:
    """The updates that wait for the close of ``current``, by agent."""
    updates = store.updates(current.job, current.round)
    waiting = [update for update in updates if update.state == "received"]
    return sorted(waiting, key=lambda update: update.agent)


def aggregate(
    job: Job, rule_state: bytes, received: Sequence[UpdateRecord], blobs: Blobs, elements: int
) -> Aggregate:
    """Combine ``received`` by the job's rule; ``rule_state`` is empty before the first round.

    Raises:
        ModelError: there is nothing to combine, or the result is no model.
        StoreError: the blob of an update cannot be read.
    """
    rule = RULES[job.federation.rule]
    state = msgpack.decode(rule_state, type=State) if rule_state else rule.init(elements)
    updates = _decoded(received, blobs, elements)
    delta, state, report = rule.step(state, updates, job.federation)
    return Aggregate(delta, msgpack.encode(state), report)


def closed_record(
    current: RoundRecord,
    received: Sequence[UpdateRecord],
    report: Report,
    *,
    now_ns: int,
    traffic: tuple[int, int],
) -> RoundRecord:
    """``current`` as it ends now with ``received``; ``traffic`` is its bytes up and down."""
    losses = np.array([update.loss for update in received], np.float64)
    weights = np.array([update.examples for update in received], np.float64)
    with np.errstate(over="ignore"):  # a loss that is infinite is null in JSON
        details = {"report": report, "loss": float(np.average(losses, weights=weights))}
    return structs.replace(
        current,
        state="closed",
        closed_ns=now_ns,
        seconds=max(0.0, (now_ns - current.opened_ns) / 1e9),
        included=[update.agent for update in received],
        uplink_bytes=traffic[0],
        downlink_bytes=traffic[1],
        report=json.encode(details).decode(),
    )


def evaluation_records(
    job: Job, agent: str, report: EvaluationReport, now_ns: int
) -> list[EvaluationRecord]:
    """Rows of what ``agent`` scored.

    Raises:
        FrameError: its statistics are those of another task or of other classes.
    """
    records = []
    for split, statistic in (("test", report.statistic), ("test-last", report.last)):
        classes = statistic.classes if isinstance(statistic, ClassificationStatistic) else 0
        if classes != len(job.labels.classes):
            raise FrameError(
                f"evaluation: agent {agent} reports on {classes} classes, job {job.name} has "
                f"{len(job.labels.classes)} (0 for a regression)",
                remedy="bring agent and coordinator to one version of the software",
            )
        records.append(
            EvaluationRecord(
                job=job.name,
                version=report.version,
                agent=agent,
                split=split,
                statistic=msgpack.encode(statistic),
                windows=statistic.count,
                received_ns=now_ns,
            )
        )
    return records


def _decoded(received: Sequence[UpdateRecord], blobs: Blobs, elements: int) -> Iterator[Update]:
    for update in received:
        _, delta = decode_frame(blobs.get(update.blob, BLOB_LIMIT), elements=elements)
        yield Update(update.agent, update.examples, delta)
