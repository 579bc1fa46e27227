# SPDX-License-Identifier: Apache-2.0
"""How the rounds before the open one ended."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records import UpdateRecord
from fedmill_shared.job import Job

RECENT_UPDATES = 1024
RECENT_ROUNDS = 256
"""What a start learns from; a job that runs for years has more."""
LOOK_BACK = 16
"""Rounds among which those are that were abandoned in a row."""
MOST_NAMED = 1000
"""Agents whose updates a round notice lists; each takes 100 bytes of one packet."""


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
