# SPDX-License-Identifier: Apache-2.0
"""Every message on the wire, typed. MessagePack, but JSON for the state a person may watch.

The topic's last part names the type (``UP``, ``DOWN``, ``ALL``); the sender is the topic's agent,
never a field, because only the topic is bound to a certificate. A field that came with protocol 2
has a default that means what its absence meant, and nobody sends a new kind of message to software
that speaks protocol 1 only.
"""

import sys
from enum import StrEnum
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from fedmill_shared.errors import DataError, FrameError
from fedmill_shared.metrics import Statistic
from fedmill_shared.protocol import OLDEST
from fedmill_shared.signals.moments import Moments

MESSAGE_LIMIT = 1 << 20
COUNT_LIMIT = 1 << 40

# \Z, for $ would let a line break through. Numbers are bounded so that they and their sums fit the
# signed 64 bits of a database column.
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
DigestOrNone = Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z")]
Job = Annotated[str, Meta(pattern=r"^[a-z0-9_-]{1,32}\Z")]
Agent = Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,32}\Z")]
Text = Annotated[str, Meta(max_length=2000)]
Size = Annotated[int, Meta(ge=0, le=COUNT_LIMIT)]
Nanoseconds = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Finite = Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
Seconds = Annotated[float, Meta(ge=0.0, le=sys.float_info.max)]
Steps = Annotated[float, Meta(ge=0.0, le=sys.float_info.max)]
Phase = Literal["waiting", "replaying", "joined", "training", "refused"]
Fate = Literal["received", "included", "late", "refused"]
LabelText = Annotated[str, Meta(max_length=200)]
LabelNumber = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
LabelValue = (
    LabelText | bool | LabelNumber | float | Annotated[list[LabelText], Meta(max_length=32)]
)
LabelName = Annotated[str, Meta(max_length=32)]
Word = Annotated[str, Meta(pattern=r"^[a-z0-9_-]{0,32}\Z")]
"""A name that later software may add to: of a codec, or of a candidate to serve."""
Shifts = Annotated[dict[Job, tuple[Finite, Finite]], Meta(max_length=8)]
Scores = Annotated[dict[Word, Finite], Meta(max_length=8)]
Faults = Annotated[dict[Annotated[str, Meta(max_length=100)], Size], Meta(max_length=8)]
Candidates = Annotated[dict[Word, Statistic], Meta(max_length=8)]


class Reason(StrEnum):
    """Why an update was refused or discarded; text on the wire, so that a later one is no error."""

    FOREIGN_ROUND = "foreign_round"
    WRONG_BASE = "wrong_base"
    WRONG_SCHEMA = "wrong_schema"
    WRONG_CODEC = "wrong_codec"
    TOO_LARGE = "too_large"
    DAMAGED = "damaged"
    EMPTY = "empty"
    IMPLAUSIBLE = "implausible"
    SUPERSEDED = "superseded"
    TOO_STALE = "too_stale"
    OLD_PROTOCOL = "old_protocol"
    NOT_ASKED = "not_asked"
    ABANDONED = "abandoned"
    ENDED = "ended"


class JobPhase(Struct, frozen=True, kw_only=True):
    """Where an agent stands in one job; ``ineligible`` says why it does not train at present.

    ``served`` is the candidate that scores, where there is a choice, and ``scores`` what each of
    them reached on the agent's validation windows (accuracy, RMSE in the label's unit, or the mean
    squared error of a reconstruction).
    ``faults`` are the most frequent reasons why windows are bad, as ``signal: fault``, with their
    number.
    """

    phase: Phase
    version: DigestOrNone = ""
    windows: dict[Job, Size] = {}
    windows_scored: Size = 0
    windows_bad: Size = 0
    faults: Faults = {}
    ineligible: Text = ""
    served: Word = ""
    scores: Scores = {}


class AgentState(Struct, frozen=True, kw_only=True):
    """``up/state``, retained JSON: who is there and with which model; ``online`` false as will.

    ``protocol`` is the oldest version that the agent speaks, ``newest`` the newest (0: the same).
    """

    online: bool
    software: Text = ""
    protocol: Size = OLDEST
    newest: Size = 0
    sent_ns: Nanoseconds = 0
    resident_bytes: Size = 0
    labels: Annotated[dict[LabelName, LabelValue], Meta(max_length=32)] = {}
    jobs: dict[Job, JobPhase] = {}


class Join(Struct, frozen=True, kw_only=True):
    """``up/join``: the agent's signals fit the job and it has windows to learn from."""

    job: Job
    schema: Digest
    windows: dict[Job, Size]


class MomentsReport(Struct, frozen=True, kw_only=True):
    """``up/moments``: statistics for the standardisation that the fleet agrees on."""

    job: Job
    moments: Moments


class Refusal(Struct, frozen=True, kw_only=True):
    """``up/refusal``: the agent cannot take part, and why."""

    job: Job
    reason: Text
    text: Text


class UpdateOffer(Struct, frozen=True, kw_only=True):
    """``up/update``: a frame named by its SHA-256 that is ready to be sent.

    In protocol 1 all its blocks follow. In protocol 2 the first window of them does, and the
    coordinator asks for the others; ``offered_again`` says that none follows unless asked for.

    Attributes:
        steps: local steps behind it as FedNova counts them; 0: not told.
        shift: signals of the agent that differ from the fleet's: by how many of the fleet's
            standard deviations the mean does, and spread as a multiple of the fleet's.
    """

    job: Job
    round: Annotated[int, Meta(ge=1, le=COUNT_LIMIT)]
    base: Digest
    sha256: Digest
    size: Size
    examples: Annotated[int, Meta(ge=0, le=2**32 - 1)]
    loss: Finite
    seconds: Seconds
    protocol: Size = OLDEST
    offered_again: bool = False
    steps: Steps = 0.0
    shift: Shifts = {}


class EvaluationReport(Struct, frozen=True, kw_only=True):
    """``up/evaluation``: sufficient statistics of one version on the agent's held-out windows.

    ``last`` counts only the last window of each run, as the literature does for remaining life.
    Where agents choose what they serve, the report comes again once the choice is made.

    Attributes:
        served: the candidate that scores from now on; empty where there is no choice, or not yet.
        candidates: each candidate on the held-out windows, which had no part in the choice.
        validation: each candidate on the validation windows, which decided: accuracy, RMSE in the
            label's unit, or the mean squared error of a reconstruction.
    """

    job: Job
    version: Digest
    statistic: Statistic
    last: Statistic
    served: Word = ""
    candidates: Candidates = {}
    validation: Scores = {}

    def __post_init__(self) -> None:
        told = (self.statistic, self.last, *self.candidates.values())
        if max(statistic.count for statistic in told) > COUNT_LIMIT:
            raise DataError(f"evaluation: more than {COUNT_LIMIT} windows are not possible")


class BlobRequest(Struct, frozen=True, kw_only=True):
    """``up/request``, ``down/request``: blocks that the sender lacks."""

    job: Job
    blob: Digest
    missing: Annotated[list[Size], Meta(max_length=65536)]


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
    """``all/version``, retained: the newest model version and every blob it is made of."""

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


UP: dict[str, type[Struct]] = {
    "state": AgentState,
    "join": Join,
    "moments": MomentsReport,
    "refusal": Refusal,
    "update": UpdateOffer,
    "evaluation": EvaluationReport,
    "request": BlobRequest,
}
DOWN: dict[str, type[Struct]] = {"receipt": Receipt, "request": BlobRequest, "wait": Wait}
ALL: dict[str, type[Struct]] = {"job": JobNotice, "version": VersionNotice, "round": RoundNotice}

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, DataError)
"""All that decoding of foreign bytes can raise: our own types check themselves with DataError."""

T = TypeVar("T", bound=Struct)
_JSON = AgentState


def encode(message: Struct) -> bytes:
    """Bytes of a message as they go on the wire."""
    if isinstance(message, _JSON):
        return msgspec.json.encode(message)
    return msgspec.msgpack.encode(message)


def decode(payload: bytes, type: type[T]) -> T:  # noqa: A002  the name msgspec itself uses
    """A message of ``type``, checked field by field.

    Raises:
        FrameError: it is larger than ``MESSAGE_LIMIT``, truncated, or not of this type.
    """
    if len(payload) > MESSAGE_LIMIT:
        raise FrameError(f"{type.__name__} of {len(payload)} bytes exceeds {MESSAGE_LIMIT}")
    try:
        if type is _JSON:
            return msgspec.json.decode(payload, type=type)
        return msgspec.msgpack.decode(payload, type=type)
    except UNREADABLE as error:
        raise FrameError(f"{type.__name__} cannot be decoded: {error}") from error
