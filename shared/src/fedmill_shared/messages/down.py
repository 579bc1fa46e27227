# SPDX-License-Identifier: Apache-2.0
"""What the coordinator says to one agent, or to all."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from fedmill_shared.messages.fields import (
    COUNT_LIMIT,
    Agent,
    Digest,
    DigestOrNone,
    Fate,
    Job,
    Nanoseconds,
    Seconds,
    Size,
    Text,
    Word,
)
from fedmill_shared.protocol import OLDEST


class Receipt(Struct, frozen=True, kw_only=True):
    """``down/receipt``: the update with this SHA-256 is durable at the coordinator, or refused.

    ``received`` is not the last word: the update waits for the close of a round. ``code`` is a
    :class:`Reason`, ``reason`` says it to people.
    """

    job: Job
    round: Size
    sha256: Digest
    fate: Fate
    reason: Text = ""
    code: Annotated[str, Meta(max_length=32)] = ""


class Wait(Struct, frozen=True, kw_only=True):
    """``down/wait``: too many send at once; offer the update again after ``retry_after`` s."""

    job: Job
    sha256: Digest
    retry_after: Seconds


class JobNotice(Struct, frozen=True, kw_only=True):
    """``all/job``, retained: the canonical job file and the state of the job.

    ``protocol`` is the oldest version that the coordinator speaks, ``newest`` the newest (0: the
    same). Agents spread what they answer over ``spread`` seconds.
    """

    job: Job
    text: bytes
    state: Literal["waiting", "statistics", "running", "finished", "stopped"]
    protocol: Size = OLDEST
    newest: Size = 0
    spread: Seconds = 0.0


class BlobName(Struct, frozen=True, kw_only=True):
    """A content-addressed blob and its size in bytes."""

    sha256: Digest
    size: Size


class VersionNotice(Struct, frozen=True, kw_only=True):
    """``all/version``, retained: the newest model version and every blob it is made of.

    ``serve``: agents also score with it once it has passed their gates; otherwise they only train
    from it, and what they score with comes as a release. ``quantised`` is the template's int8 form,
    for agents that want it (``models.quantised``).
    """

    job: Job
    number: Size
    version: Digest
    manifest: BlobName
    template: BlobName
    canary_inputs: BlobName
    canary_outputs: bytes
    snapshot: BlobName
    base: DigestOrNone = ""
    delta: BlobName | None = None
    evaluate: bool = False
    serve: bool = True
    quantised: BlobName | None = None


class ReleaseNotice(Struct, frozen=True, kw_only=True):
    """``all/release``, retained: which version agents are to serve.

    Attributes:
        release: counts the releases of a job from 1; agents ignore one that is lower than what
            they have, so that going back to an old version is a new, higher release of it.
        notice: the version, with every blob it is made of.
        agents: those that may take it now, the rings that are open; None for every agent.
        signature: over the release and its blobs; empty where releases are not signed.
        back: whether the version served before and is gone back to: agents check that it is whole
            and sound, and compare it with nothing.
    """

    job: Job
    release: Annotated[int, Meta(ge=1, le=COUNT_LIMIT)]
    notice: VersionNotice
    agents: Annotated[list[Agent], Meta(max_length=65536)] | None = None
    signature: Annotated[bytes, Meta(max_length=4096)] = b""
    back: bool = False


class RoundNotice(Struct, frozen=True, kw_only=True):
    """``all/round``, retained: the open round (0: none) and how the one before it ended.

    Attributes:
        deadline_ns: when the round closes by the coordinator's clock.
        included: agent -> SHA-256 of its newest update that the closed round used.
        sent_ns: the coordinator's clock as it sent this: agents compare theirs.
        seconds_left: until the deadline, for agents whose clock is wrong.
        cohort: agents that are asked for an update; None for every agent.
        attempt: how often the round has been given another deadline.
        uplink: codec of its updates; empty for the job's own.
    """

    job: Job
    round: Size
    base: DigestOrNone = ""
    deadline_ns: Nanoseconds = 0
    closed: Size = 0
    included: dict[Agent, Digest] = {}
    sent_ns: Nanoseconds = 0
    seconds_left: Seconds = 0.0
    cohort: list[Agent] | None = None
    attempt: Size = 0
    uplink: Word = ""
