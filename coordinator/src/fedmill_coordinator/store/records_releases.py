# SPDX-License-Identifier: Apache-2.0
"""What the coordinator remembers of releases, and of how far each agent is with them."""

from typing import Annotated, Literal, TypedDict

from msgspec import Meta, Struct

from fedmill_coordinator.store.records import Count, Sha256

ReleaseState = Literal["open", "paused", "done", "aborted", "superseded"]
Why = Literal["better", "last", "promoted", "rollback", "aborted"]
BACK: tuple[Why, ...] = ("rollback", "aborted")
"""Why a release is a way back, to a version that served before."""
LAST_WORDS = ("committed", "rejected", "rolled_back", "timed_out", "withdrawn")
"""States of an install after which nothing more is waited for."""


class ReleaseRecord(Struct, frozen=True, kw_only=True):
    """A version on its way to be served.

    Attributes:
        job: name of the job.
        release: 1 for the first of the job, then a greater one each time.
        version: what is to be served.
        before: what was served before and is gone back to if it is given up, None for nothing.
        why: better than the one before; the job's last one; promoted or rolled back to by an
            operator; or the way back from a release that was aborted.
        by: login name of the operator, where there was one.
        order_id: the order that began it, 0 where it began by itself.
        newest: number of the job's newest version when it began: no clock has to tell what was
            first.
        state: under way, held, or how it ended.
        rings: that it goes through, as the job file writes them.
        opened: how many of them are open.
        ring_ns: when the last of these opened, 0 before the first.
        soak_ns: until when it soaks, None while agents of it are still awaited.
        resumed_ns: when it last went on after a pause; agents' time counts from then.
        canary: the agent of the ring ``canary``, once that is open.
        created_ns: when it began.
        ended_ns: when it was over.
        reason: why it ended so, or is held; for people.
    """

    job: str
    release: Annotated[int, Meta(ge=1, le=2**40)]
    version: Sha256
    before: Sha256 | None
    why: Why
    by: str = ""
    order_id: Count = 0
    newest: Count = 0
    state: ReleaseState = "open"
    rings: Annotated[list[str], Meta(min_length=1)]
    opened: Count = 0
    ring_ns: Count = 0
    soak_ns: Count | None = None
    resumed_ns: Count = 0
    canary: str = ""
    created_ns: Count
    ended_ns: Count | None = None
    reason: str = ""


class ReleaseChanges(TypedDict, total=False):
    """Fields of a release that change while it goes on; see `ReleaseRecord`."""

    state: ReleaseState
    opened: int
    ring_ns: int
    soak_ns: int | None
    resumed_ns: int
    canary: str
    ended_ns: int | None
    reason: str


class InstallRecord(Struct, frozen=True, kw_only=True):
    """How far one agent is with a release.

    Attributes:
        job: name of the job.
        release: number of the release.
        agent: identity of the agent.
        ring: which ring it came with, from 1.
        state: ``asked`` until it is heard of; then an `InstallState`, ``timed_out``, or
            ``withdrawn`` where the release ended first.
        gate: where it was refused or gone back from.
        reason: the same for people.
        evidence: what was measured at the gates, as JSON text.
        since_ns: when its state began, by the agent's clock; 0 if it told none.
        asked_ns: when it was first told of the release.
        heard_ns: when the state was heard of, or made.
    """

    job: str
    release: Count
    agent: str
    ring: Count
    state: str = "asked"
    gate: str = ""
    reason: str = ""
    evidence: str = "{}"
    since_ns: Count = 0
    asked_ns: Count
    heard_ns: Count
