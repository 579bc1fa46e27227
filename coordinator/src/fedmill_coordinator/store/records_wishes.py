# SPDX-License-Identifier: Apache-2.0
"""What the coordinator remembers of what agents wish for."""

from msgspec import Struct

from fedmill_coordinator.store.records import Count


class WishRecord(Struct, frozen=True, kw_only=True):
    """What an agent asked for because its data has changed.

    Attributes:
        job: name of the job.
        agent: identity of the agent.
        kind: what it wishes for.
        reason: why, for people.
        evidence: what it measured, as JSON text.
        heard_ns: when that was heard.
        settled_ns: when rounds were granted, or it was clear that none would be; None while it
            waits.
        rounds: how many were granted.
    """

    job: str
    agent: str
    kind: str
    reason: str = ""
    evidence: str = "{}"
    heard_ns: Count
    settled_ns: Count | None = None
    rounds: Count = 0
