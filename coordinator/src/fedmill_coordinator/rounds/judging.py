# SPDX-License-Identifier: Apache-2.0
"""Who is in quarantine, as the reports of the closed rounds tell."""

import math
from collections.abc import Sequence

from msgspec import DecodeError, Struct, ValidationError, field, json

from fedmill_coordinator.aggregation import Report, Verdict
from fedmill_coordinator.rounds.quarantine import RELEASE, Judged, Quarantine, quarantines
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records import RoundRecord, UpdateRecord
from fedmill_shared.job import Job
from fedmill_shared.signals.shift import SignalShift

LOOK_BACK = 32
"""Rounds beyond those of a quarantine in which agents that are not always there are looked for."""
FARTHEST = 512
"""Rounds that are looked at in the end, where few of the agents take part in each."""


class _Verdicts(Struct):
    verdicts: dict[str, Verdict] = field(default_factory=dict)


class Told(Struct):
    """What the report of a round tells of its agents; nothing where the round is open.

    Attributes:
        report: verdicts on the agents of the round.
        quarantine: agents that count for nothing in the next one.
    """

    report: _Verdicts = field(default_factory=_Verdicts)
    quarantine: list[Quarantine] = field(default_factory=list)


def told_by(record: RoundRecord) -> Told:
    """What ``record`` holds of the agents of its round."""
    try:
        return json.decode(record.report, type=Told)
    except (DecodeError, ValidationError):  # an older version's, or of a round that is open
        return Told()


def in_quarantine(store: Store, job: Job) -> list[Quarantine]:
    """Agents whose updates count for nothing in the round after the last closed one."""
    if not job.robustness.quarantine_rounds:
        return []
    closed = [record for record in store.rounds(job.name, last=LOOK_BACK) if _is_closed(record)]
    return told_by(closed[-1]).quarantine if closed else []


def judge(
    store: Store,
    job: Job,
    number: int,
    report: Report,
    *,
    standing: Sequence[Quarantine],
    used: Sequence[UpdateRecord],
) -> list[Quarantine]:
    """Who is in quarantine once round ``number`` has closed with ``report``.

    ``standing`` are those who were in it; ``used`` are the round's updates, sorted by round, which
    tell how far the signals of their agents are from the fleet's.
    """
    span = job.robustness.quarantine_rounds
    if not span:
        return []
    judged = [*_history(store, job, number), Judged(number, report.verdicts)]
    # Software that tells no steps tells nothing of its signals either, and without the fleet's
    # normaliser there is nothing to tell.
    measured = job.window.normalise != "none"
    shifts = {update.agent: shifts_of(update) for update in used if update.steps and measured}
    return quarantines(judged, span, standing=standing, shifts=shifts)


def _history(store: Store, job: Job, number: int) -> list[Judged]:
    """What was found in the rounds before ``number``: where each has few agents, in more rounds."""
    last = RELEASE * job.robustness.quarantine_rounds + LOOK_BACK
    judged = _judged(store, job, number, last)
    agents = {agent for each in judged for agent in each.verdicts}
    taken = sum(len(each.verdicts) for each in judged)
    wanted = math.ceil(last * len(judged) * len(agents) / taken) if taken else last
    return judged if wanted <= last else _judged(store, job, number, min(FARTHEST, wanted))


def _judged(store: Store, job: Job, number: int, last: int) -> list[Judged]:
    return [
        Judged(record.round, told_by(record).report.verdicts)
        for record in store.rounds(job.name, last=last)
        if _is_closed(record) and record.round < number
    ]


def shifts_of(update: UpdateRecord) -> list[SignalShift]:
    """What an agent told of its signals with ``update``; nothing if that cannot be read."""
    try:
        told = json.decode(update.shift, type=dict[str, tuple[float, float]])
    except (DecodeError, ValidationError):
        return []
    return [SignalShift(signal, mean, spread) for signal, (mean, spread) in told.items()]


def _is_closed(record: RoundRecord) -> bool:
    return record.state == "closed"
