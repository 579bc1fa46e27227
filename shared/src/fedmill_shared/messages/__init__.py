# SPDX-License-Identifier: Apache-2.0
"""Every message on the wire, typed. MessagePack, but JSON for the state a person may watch.

The topic's last part names the type (``UP``, ``DOWN``, ``ALL``); the sender is the topic's agent,
never a field, because only the topic is bound to a certificate. A field that came with protocol 2
has a default that means what its absence meant, and nobody sends a new kind of message to software
that speaks protocol 1 only.
"""

from typing import TypeVar

import msgspec
from msgspec import Struct

from fedmill_shared.errors import DataError, FrameError
from fedmill_shared.messages.down import (
    BlobName,
    JobNotice,
    Receipt,
    ReleaseNotice,
    RoundNotice,
    VersionNotice,
    Wait,
)
from fedmill_shared.messages.echo import Echo
from fedmill_shared.messages.fields import (
    COUNT_LIMIT,
    MESSAGE_LIMIT,
    Agent,
    Candidates,
    Digest,
    DigestOrNone,
    Evidence,
    Fate,
    Faults,
    Finite,
    Job,
    LabelName,
    LabelNumber,
    LabelText,
    LabelValue,
    Nanoseconds,
    Phase,
    Reason,
    Scores,
    Seconds,
    Shifts,
    Size,
    Steps,
    Text,
    Word,
)
from fedmill_shared.messages.identity import (
    EnrolmentAnswer,
    EnrolmentRequest,
    RenewalAnswer,
    RenewalRequest,
)
from fedmill_shared.messages.up import (
    AgentState,
    BlobRequest,
    CertificateState,
    EvaluationReport,
    InstallReport,
    InstallState,
    JobPhase,
    Join,
    MomentsReport,
    Refusal,
    UpdateOffer,
    Wish,
)

__all__ = [
    "ALL",
    "COUNT_LIMIT",
    "DOWN",
    "ENROL",
    "MESSAGE_LIMIT",
    "UNREADABLE",
    "UP",
    "Agent",
    "AgentState",
    "BlobName",
    "BlobRequest",
    "Candidates",
    "CertificateState",
    "Digest",
    "DigestOrNone",
    "Echo",
    "EnrolmentAnswer",
    "EnrolmentRequest",
    "EvaluationReport",
    "Evidence",
    "Fate",
    "Faults",
    "Finite",
    "InstallReport",
    "InstallState",
    "Job",
    "JobNotice",
    "JobPhase",
    "Join",
    "LabelName",
    "LabelNumber",
    "LabelText",
    "LabelValue",
    "MomentsReport",
    "Nanoseconds",
    "Phase",
    "Reason",
    "Receipt",
    "Refusal",
    "ReleaseNotice",
    "RenewalAnswer",
    "RenewalRequest",
    "RoundNotice",
    "Scores",
    "Seconds",
    "Shifts",
    "Size",
    "Steps",
    "Text",
    "UpdateOffer",
    "VersionNotice",
    "Wait",
    "Wish",
    "Word",
    "decode",
    "encode",
]

UP: dict[str, type[Struct]] = {
    "state": AgentState,
    "join": Join,
    "moments": MomentsReport,
    "refusal": Refusal,
    "update": UpdateOffer,
    "evaluation": EvaluationReport,
    "request": BlobRequest,
    "wish": Wish,
    "renew": RenewalRequest,
    "echo": Echo,
}
DOWN: dict[str, type[Struct]] = {
    "receipt": Receipt,
    "request": BlobRequest,
    "wait": Wait,
    "certificate": RenewalAnswer,
    "echo": Echo,
}
ALL: dict[str, type[Struct]] = {
    "job": JobNotice,
    "version": VersionNotice,
    "release": ReleaseNotice,
    "round": RoundNotice,
}

ENROL: dict[str, type[Struct]] = {"up": EnrolmentRequest, "down": EnrolmentAnswer}
"""Of who is no agent yet; here the topic names no sender."""

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
