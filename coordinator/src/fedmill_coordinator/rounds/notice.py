# SPDX-License-Identifier: Apache-2.0
"""What agents are told of the rounds of a job."""

from fedmill_coordinator.rounds.past import Past
from fedmill_coordinator.store.records import RoundRecord
from fedmill_shared.messages import RoundNotice


def round_notice(
    job: str, current: RoundRecord | None, past: Past, *, now_ns: int, left: float, attempt: int
) -> RoundNotice:
    """The open round, if there is one, with ``left`` seconds, and how the last one ended."""
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
