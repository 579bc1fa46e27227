# SPDX-License-Identifier: Apache-2.0
"""Which of the updates that wait the close of a round uses, and which are too late for it."""

from collections import Counter
from dataclasses import dataclass

from msgspec import structs

from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records import UpdateRecord
from fedmill_shared.job import Job
from fedmill_shared.messages import Reason

TURNS = 2
"""Updates of one agent that one close uses: a slow agent may have a late one beside a fresh one.

One where a robust rule decides, for there each agent has one vote: of three one with two would win.
"""


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
