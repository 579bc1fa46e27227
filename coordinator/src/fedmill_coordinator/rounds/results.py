# SPDX-License-Identifier: Apache-2.0
"""What comes out of a round: its updates, their aggregate, its record, and what agents scored."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from msgspec import json, msgpack, structs
from numpy.typing import NDArray

from fedmill_coordinator.aggregation import Report, State, Update, in_order, norm_of
from fedmill_coordinator.aggregation import aggregate as combine
from fedmill_coordinator.progress import CANDIDATES, SERVED, TEST
from fedmill_coordinator.rounds.loss import loss_of_round
from fedmill_coordinator.rounds.quarantine import Quarantine
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.store.records import EvaluationRecord, RoundRecord, UpdateRecord
from fedmill_coordinator.traffic import Traffic
from fedmill_shared.codec.base import Dense, Payload
from fedmill_shared.codec.frame import open_frame
from fedmill_shared.errors import FedmillError, FrameError, StoreError
from fedmill_shared.job import Job
from fedmill_shared.learning.optimisers import learning_rate
from fedmill_shared.link.blocks import BLOB_LIMIT
from fedmill_shared.messages import EvaluationReport, Reason, RoundNotice
from fedmill_shared.metrics import Statistic, task_of
from fedmill_shared.metrics.classification import ClassificationStatistic
from fedmill_shared.seeds import seed_for

MOST_NAMED = 1000
"""Agents whose updates a round notice lists; each takes 100 bytes of one packet."""
TURNS = 2
"""Updates of one agent that one close uses: a slow agent may have a late one beside a fresh one.

One where a robust rule decides, for there each agent has one vote: of three one with two would win.
"""
LOOK_BACK = 16
"""Rounds among which those are that were abandoned in a row."""


@dataclass(frozen=True, slots=True)
class Aggregate:
    """The outcome of a rule: delta (learned,), its next state as MessagePack, and its report."""

    delta: NDArray[np.float32]
    rule_state: bytes
    report: Report


@dataclass(frozen=True, slots=True)
class Tally:
    """Why updates were not used while a round was open: reason code -> how many."""

    rejected: Counter[str] = field(default_factory=Counter)
    discarded: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Past:
    """The rounds that have ended.

    Attributes:
        last: number of the last one; 0 before the first.
        included: agent -> SHA-256 of its newest update that went into the last one.
        abandoned: how many were abandoned in a row, counted from the last one.
    """

    last: int = 0
    included: dict[str, str] = field(default_factory=dict)
    abandoned: int = 0


def past_of(store: Store, job: Job) -> Past:
    """The rounds of ``job`` that have ended, as the store tells."""
    newest = store.rounds(job.name, last=LOOK_BACK)
    ended = [record for record in newest if record.state != "open"]
    if not ended:
        return Past()
    abandoned = 0
    while abandoned < len(ended) and ended[-1 - abandoned].state == "abandoned":
        abandoned += 1
    last = ended[-1].round
    oldest = max(1, last - min(LOOK_BACK, job.federation.max_staleness))
    used = (u for number in range(oldest, last + 1) for u in store.updates(job.name, number))
    return Past(last, newest_of([u for u in used if u.included_in == last]), abandoned)


def newest_of(included: Iterable[UpdateRecord]) -> dict[str, str]:
    """Agent -> SHA-256 of its newest update of ``included``, which come by round.

    Nothing if there are too many for a message: the agents then ask.
    """
    found = {update.agent: update.sha256 for update in included}
    return found if len(found) <= MOST_NAMED else {}


def round_notice(
    job: str, current: RoundRecord | None, past: Past, *, now_ns: int, left: float, attempt: int
) -> RoundNotice:
    """What agents are told: the open round with ``left`` seconds, and how the last one ended."""
    if current is None:
        return RoundNotice(
            job=job, round=0, closed=past.last, included=past.included, sent_ns=now_ns
        )
    return RoundNotice(
        job=job,
        round=current.round,
        base=current.base,
        deadline_ns=current.deadline_ns,
        closed=past.last,
        included=past.included,
        sent_ns=now_ns,
        seconds_left=max(0.0, left),
        cohort=current.asked or None,
        attempt=attempt,
        uplink=current.uplink,
    )


@dataclass(frozen=True, slots=True)
class Harvest:
    """What waits at the close of a round, by agent and round.

    Attributes:
        used: updates to aggregate.
        overdue: updates that are too late by now.
    """

    used: list[UpdateRecord]
    overdue: list[UpdateRecord]


def harvest(store: Store, job: Job, number: int) -> Harvest:
    """What the close of round ``number`` would use."""
    most, waiting = job.federation.max_staleness, store.pending(job.name)
    used_at_once = TURNS if job.robustness.rule == "mean" else 1
    turns = Counter(update.agent for update in waiting)
    used, overdue = [], []
    for update in waiting:  # of each agent the oldest first
        turns[update.agent] -= 1
        if number - update.round > most:
            reason = f"round {update.round} closed {number - update.round} rounds ago"
            overdue.append(_overdue(update, Reason.TOO_STALE, reason))
        elif turns[update.agent] >= used_at_once:
            newer = "a newer update" if used_at_once == 1 else f"{used_at_once} newer updates"
            reason = f"{newer} of this agent came for the same round"
            overdue.append(_overdue(update, Reason.SUPERSEDED, reason))
        else:
            used.append(update)
    return Harvest(used, overdue)


def _overdue(update: UpdateRecord, code: Reason, reason: str) -> UpdateRecord:
    return structs.replace(update, state="late", code=code.value, reason=reason)


def heaviest(used: Sequence[UpdateRecord], blobs: Blobs, *, elements: int) -> UpdateRecord | None:
    """The update of ``used`` that moves the model most: by its norm times its examples.

    Raises:
        SpoiltUpdateError: the blob of an update cannot be read.
    """
    heft = [
        update.examples * _handed_in(update, blobs, elements, update.round).norm for update in used
    ]
    return used[int(np.argmax(heft))] if heft else None


class SpoiltUpdateError(StoreError):
    """An update that was received cannot be read any more."""

    def __init__(self, update: UpdateRecord, error: FedmillError) -> None:
        """``error`` is what reading ``update`` said."""
        super().__init__(error.message, remedy=error.remedy)
        self.update = update


def aggregate(
    job: Job,
    rule_state: bytes,
    used: Sequence[UpdateRecord],
    blobs: Blobs,
    *,
    elements: int,
    round_: int,
    golden: NDArray[np.float32] | None = None,
    quarantined: Collection[str] = (),
) -> Aggregate:
    """Combine ``used`` in ``round_`` by the job's rules; ``rule_state`` is empty before the first.

    Args:
        job: names the rules.
        rule_state: what they remember, as MessagePack.
        used: the updates.
        blobs: where their frames are.
        elements: elements of a delta.
        round_: number of the round.
        golden: the coordinator's own update (elements,), for the rule ``trust``.
        quarantined: agents whose updates are looked at and count for nothing.

    Raises:
        ModelError: there is nothing to combine, or the result is no model.
        SpoiltUpdateError: the blob of an update cannot be read.
    """
    state = msgpack.decode(rule_state, type=State) if rule_state else State(elements)
    outcome = combine(
        state,
        in_order(_handed_in(update, blobs, elements, round_) for update in used),
        job.federation,
        job.robustness,
        seed=seed_for(job.name, round_, "aggregation"),
        golden=Dense(golden) if golden is not None else None,
        quarantined=quarantined,
        rate=rate_of(job, round_),
    )
    return Aggregate(outcome.delta, msgpack.encode(outcome.state), outcome.report)


def rate_of(job: Job, round_: int) -> float:
    """The agents' learning rate in ``round_`` over that of the first one; never 0."""
    rate = learning_rate(job.learning, round_, job.federation.rounds)
    return max(1e-3, rate / job.learning.learning_rate)


def closed_record(
    current: RoundRecord,
    used: Sequence[UpdateRecord],
    report: Report,
    *,
    now_ns: int,
    traffic: Traffic,
    tally: Tally,
    quarantine: Sequence[Quarantine] = (),
    excluded: Collection[str] = (),
) -> RoundRecord:
    """``current`` as it ends now with ``used``, and with the bytes that ``traffic`` counted.

    ``quarantine`` is of the next round; agents of this one that count for nothing are ``excluded``.
    """
    up, down = traffic.total(current.job)
    details = {
        "report": report,
        "loss": loss_of_round(used, excluded),
        "rejected": dict(tally.rejected),
        "discarded": dict(tally.discarded),
        "quarantine": quarantine,
    }
    return structs.replace(
        current,
        state="closed",
        closed_ns=now_ns,
        seconds=max(0.0, (now_ns - current.opened_ns) / 1e9),
        included=sorted({update.agent for update in used}),
        accepted=len(used),
        rejected=tally.rejected.total(),
        discarded=tally.discarded.total(),
        uplink_bytes=up,
        downlink_bytes=down,
        published_bytes=traffic.published(current.job),
        report=json.encode(details).decode(),
    )


def evaluation_records(
    job: Job, agent: str, report: EvaluationReport, now_ns: int
) -> list[EvaluationRecord]:
    """Rows of what ``agent`` scored: the version, and each model that it chose among.

    A candidate that is not known here is left out.

    Raises:
        FrameError: its statistics are those of another task or of other classes.
    """
    told = {TEST: report.statistic, f"{TEST}-last": report.last}
    # Of names that nothing here reads, an agent could think of new ones until the disk is full.
    candidates = {name: report.candidates[name] for name in CANDIDATES if name in report.candidates}
    told |= {f"{TEST}-{name}": each for name, each in candidates.items()}
    if report.served in candidates:
        told[f"{TEST}-{SERVED}"] = candidates[report.served]
    return [
        EvaluationRecord(
            job=job.name,
            version=report.version,
            agent=agent,
            split=split,
            statistic=msgpack.encode(_of_the_task(job, agent, statistic)),
            windows=statistic.count,
            received_ns=now_ns,
        )
        for split, statistic in told.items()
    ]


def _of_the_task(job: Job, agent: str, statistic: Statistic) -> Statistic:
    classes = statistic.classes if isinstance(statistic, ClassificationStatistic) else 0
    if classes != len(job.labels.classes):
        raise FrameError(
            f"evaluation: agent {agent} reports on {classes} classes, job {job.name} has "
            f"{len(job.labels.classes)} (0 for a regression)",
            remedy="bring agent and coordinator to one version of the software",
        )
    if task_of(statistic) != job.job.task:
        raise FrameError(
            f"evaluation: agent {agent} reports on a {task_of(statistic)}, job {job.name} is a "
            f"{job.job.task}",
            remedy="bring agent and coordinator to one version of the software",
        )
    return statistic


def _handed_in(update: UpdateRecord, blobs: Blobs, elements: int, round_: int) -> Update:
    """``update`` as it goes into ``round_``; its frame is read whenever it is opened."""

    def open_() -> Payload:
        return _payload(update, blobs, elements)

    return Update(
        agent=update.agent,
        examples=update.examples,
        open=open_,
        # Rows of older software have no norm.
        norm=norm_of(open_()) if update.norm is None else update.norm,
        round=update.round,
        staleness=max(0, round_ - update.round),
        steps=update.steps,
    )


def _payload(update: UpdateRecord, blobs: Blobs, elements: int) -> Payload:
    try:
        # The blob's SHA-256 has just been checked, and its sums were when it came in.
        return open_frame(blobs.get(update.blob, BLOB_LIMIT), elements=elements, intact=True)[1]
    except (StoreError, FrameError) as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
            raise  # the disk fails, and may work again
        raise SpoiltUpdateError(update, error) from error
