# SPDX-License-Identifier: Apache-2.0
"""What an agent leaves behind in a job once it is no agent of the plant any more."""

from fedmill_coordinator.rounds import phases
from fedmill_coordinator.rounds.parts import Parts
from fedmill_shared.messages import Reason

REVOKED = "update: the certificates of its agent were revoked before it was used"


def deny(parts: Parts, agent: str) -> int:
    """Refuse the updates of ``agent`` that wait for a close, and wait for it no more; how many.

    Raises:
        StoreError: the disk fails; those that are refused by then stay so.
    """
    parts.agents.joined.discard(agent)
    store, job = parts.services.store, parts.job.name
    theirs = [update for update in store.pending(job) if update.agent == agent]
    for update in theirs:
        store.discard_update(
            job,
            update.round,
            agent,
            update.base,
            state="refused",
            code=Reason.REVOKED.value,
            reason=REVOKED,
        )
        parts.rounds.tally.rejected[Reason.REVOKED.value] += 1
        parts.services.counts.add("updates", job, "refused", Reason.REVOKED.value)
        parts.services.log.warning("update.revoked", agent=agent, round=update.round)
    if theirs and parts.rounds.current is not None:
        phases.collect_updates(parts)
    return len(theirs)
