# SPDX-License-Identifier: Apache-2.0
"""Why updates were not used while a round was open."""

from collections import Counter
from dataclasses import dataclass, field

from fedmill_coordinator.rounds.past import RECENT_UPDATES
from fedmill_coordinator.store.base import KEPT_REFUSALS, Store
from fedmill_coordinator.store.records import UPDATE_REFUSED, RoundRecord


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts by reason code: of updates that were refused, and of those that came too late."""

    rejected: Counter[str] = field(default_factory=Counter)
    discarded: Counter[str] = field(default_factory=Counter)


def tally_of(store: Store, current: RoundRecord) -> Tally:
    """What was counted since the round ``current`` opened, as the store tells."""
    tally = Tally()
    for refusal in store.refusals(current.job, limit=KEPT_REFUSALS):
        kind, _, code = refusal.reason.partition(":")
        if kind == UPDATE_REFUSED and refusal.received_ns >= current.opened_ns:
            tally.rejected[code] += 1
    for update in store.recent_updates(current.job, RECENT_UPDATES):
        if update.state == "late" and update.received_ns >= current.opened_ns:
            tally.discarded[update.code] += 1
    return tally
