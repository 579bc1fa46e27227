# SPDX-License-Identifier: Apache-2.0
"""What a job collects at present: statistics, updates of a round, or the last evaluations."""

from fedmill_coordinator.rounds.parts import Parts
from fedmill_coordinator.store.records import RoundRecord


def begin(parts: Parts) -> None:
    """Something new is to be collected, from everybody; what is there already counts."""
    if parts.rounds.current is not None:
        collect_updates(parts)
        return
    parts.rounds.begin_phase()
    if parts.stage.state in ("waiting", "statistics"):
        done = parts.statistics.agents()
    elif parts.versions.ready:
        told = parts.services.store.evaluations(parts.job.name, parts.versions.version)
        done = {evaluation.agent for evaluation in told}
    else:
        done = set()
    parts.agents.begin(done, done)


def collect_updates(parts: Parts) -> None:
    """The open round collects; updates of earlier rounds that wait count as well."""
    current, waiting = parts.rounds.current, parts.rounds.waiting()
    fresh = [u.agent for u in waiting if current is not None and u.round == current.round]
    parts.agents.begin([update.agent for update in waiting], fresh)


def extend(parts: Parts) -> RoundRecord | None:
    """The open round with another deadline, in which all are asked anew; None if none is open.

    Raises:
        StoreError: that cannot be stored; nothing has changed.
    """
    extended = parts.rounds.extend(parts.agents.ready(), parts.agents.known)
    if extended is not None:
        parts.agents.excused.clear()
    return extended
