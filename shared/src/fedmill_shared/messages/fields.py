# SPDX-License-Identifier: Apache-2.0
"""Types of the fields that messages share, each of them bounded."""

import sys
from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta

from fedmill_shared.metrics import Statistic

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
Space = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
"""Bytes of a disk."""
Nanoseconds = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Finite = Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
Seconds = Annotated[float, Meta(ge=0.0, le=sys.float_info.max)]
Steps = Annotated[float, Meta(ge=0.0, le=sys.float_info.max)]
RoundNumber = Annotated[int, Meta(ge=1, le=COUNT_LIMIT)]
Examples = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Software = Annotated[str, Meta(max_length=64)]
KeyId = Annotated[str, Meta(pattern=r"^([0-9a-f]{16})?\Z")]
"""Short name of a public key; empty where nothing is signed."""
AuditHead = Annotated[str, Meta(pattern=r"^([0-9]{1,15}:[0-9a-f]{64})?\Z")]
"""Number and digest of the last record of an audit log; empty where there is none."""
Statement = Annotated[bytes, Meta(max_length=4096)]
Signature = Annotated[bytes, Meta(max_length=64)]
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
Evidence = Annotated[dict[Word, Finite], Meta(max_length=16)]
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
    UNSIGNED = "unsigned"
    FORGED = "forged"
    REVOKED = "revoked"
