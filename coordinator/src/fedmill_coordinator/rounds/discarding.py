# SPDX-License-Identifier: Apache-2.0
"""Updates that a close must do without: what cannot be read, and what makes no model."""

from collections.abc import Collection

from fedmill_coordinator.rounds.aggregate import SpoiltUpdateError, heaviest
from fedmill_coordinator.rounds.harvest import harvest
from fedmill_coordinator.rounds.means import Means
from fedmill_coordinator.rounds.tally import Tally
from fedmill_coordinator.store.records import UpdateRecord
from fedmill_shared.messages import Reason


def take_out(means: Means, error: SpoiltUpdateError, tally: Tally) -> None:
    """Let an update that can no longer be read wait no longer, and count it in ``tally``.

    Raises:
        StoreError: the disk fails; nothing has changed.
    """
    update = error.update
    means.services.store.discard_update(
        means.job.name,
        update.round,
        update.agent,
        update.base,
        state="late",
        code=Reason.DAMAGED.value,
        reason="it was received, and can no longer be read",
    )
    tally.discarded[Reason.DAMAGED.value] += 1
    means.services.counts.add("updates", means.job.name, "late", Reason.DAMAGED.value)
    means.services.log.error(
        "update.spoilt", agent=update.agent, round=update.round, error=str(error)
    )


def leave_out_worst(
    means: Means, number: int, quarantined: Collection[str], tally: Tally, why: str
) -> UpdateRecord | None:
    """Refuse the update that moves the model most, if enough agents remain without it.

    None, and nothing is done, if they do not.

    Args:
        means: of the job.
        number: the open round.
        quarantined: agents whose updates move nothing.
        tally: where it is counted.
        why: what is wrong with what it leads to.

    Raises:
        SpoiltUpdateError: the blob of an update cannot be read.
        StoreError: the disk fails; nothing has changed.
    """
    job, services = means.job, means.services
    waiting = harvest(services.store, job, number).used
    used = [update for update in waiting if update.agent not in quarantined]
    worst = heaviest(used, services.blobs, elements=means.versions.learned)
    others = {update.agent for update in used if worst and update.agent != worst.agent}
    if worst is None or len(others) < job.federation.minimum:
        return None
    services.store.discard_update(
        job.name,
        worst.round,
        worst.agent,
        worst.base,
        state="refused",
        code=Reason.IMPLAUSIBLE.value,
        reason=f"with it the round makes no model: {why}"[:2000],
    )
    tally.rejected[Reason.IMPLAUSIBLE.value] += 1
    services.counts.add("updates", job.name, "refused", Reason.IMPLAUSIBLE.value)
    return worst
