# SPDX-License-Identifier: Apache-2.0
"""What agents say to the coordinator; requests for blocks go both ways."""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from fedmill_shared.errors import DataError
from fedmill_shared.messages.fields import (
    COUNT_LIMIT,
    AuditHead,
    Candidates,
    Digest,
    DigestOrNone,
    Evidence,
    Examples,
    Faults,
    Finite,
    Job,
    KeyId,
    LabelName,
    LabelValue,
    Nanoseconds,
    Phase,
    RoundNumber,
    Scores,
    Seconds,
    Shifts,
    Signature,
    Size,
    Space,
    Statement,
    Steps,
    Text,
    Word,
)
from fedmill_shared.metrics import Statistic
from fedmill_shared.protocol import OLDEST
from fedmill_shared.signals.moments import Moments


class InstallState(StrEnum):
    """How far a version is on its way to scoring on one agent.

    ``committed``, ``rejected`` and ``rolled_back`` are last words; ``soaking`` serves already.
    """

    OFFERED = "offered"
    DOWNLOADED = "downloaded"
    VERIFIED = "verified"
    SHADOWING = "shadowing"
    SOAKING = "soaking"
    COMMITTED = "committed"
    REJECTED = "rejected"
    ROLLED_BACK = "rolled_back"


class InstallReport(Struct, frozen=True, kw_only=True):
    """How far an agent is with the newest version that it was to serve; part of its state.

    The state is retained, so it is the report: none is lost with a crash of either side.

    Attributes:
        release: number of the release; 0 for a version that is served without one.
        version: the version that it is about.
        state: an :class:`InstallState`, as a word so that a later one is no error.
        gate: where it was refused or gone back from; empty while nothing is wrong.
        reason: the same for people.
        evidence: what was measured at the gates, with units in the names.
        since_ns: when ``state`` began, by the agent's clock.
        serving: the version that scores now; the agent's own parts may be in it.
    """

    version: DigestOrNone
    state: Word
    release: Size = 0
    gate: Word = ""
    reason: Text = ""
    evidence: Evidence = {}
    since_ns: Nanoseconds = 0
    serving: DigestOrNone = ""


class JobPhase(Struct, frozen=True, kw_only=True):
    """Where an agent stands in one job; ``ineligible`` says why it does not train at present.

    ``served`` is the candidate that scores, where there is a choice, and ``scores`` what each of
    them reached on the agent's validation windows (accuracy, RMSE in the label's unit, or the mean
    squared error of a reconstruction).
    ``faults`` are the most frequent reasons why windows are bad, as ``signal: fault``, with their
    number. ``windows_skipped`` are those whose turn came too late. ``install`` tells of the version
    that is to be served, ``version`` of the one that is trained from. ``int8`` is what was measured
    of the int8 session that scores (times in ms); it is empty where float32 scores.
    ``updates_waiting`` are those whose fate is not known, ``alarms_raised`` those that stand now,
    and ``drift`` is ``quiet``, ``warned`` or ``alarmed``, empty where nothing watches for it.
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
    install: InstallReport | None = None
    windows_skipped: Size = 0
    int8: Evidence = {}
    updates_waiting: Size = 0
    alarms_raised: Size = 0
    drift: Word = ""


class CertificateState(Struct, frozen=True, kw_only=True):
    """What an agent says of its certificate: number, last moment, and what is wrong with it."""

    serial: Annotated[str, Meta(pattern=r"^[0-9a-f]{0,40}\Z")] = ""
    not_after_ns: Nanoseconds = 0
    problem: Text = ""


class AgentState(Struct, frozen=True, kw_only=True):
    """``up/state``, retained JSON: who is there and with which model; ``online`` false as will.

    ``protocol`` is the oldest version that the agent speaks, ``newest`` the newest (0: the same).
    ``safe_mode`` says why it does nothing but say so, empty where it works.
    ``disk_free_bytes`` is what its state folder may still take, 0 where that is not known.
    ``audit`` is number and digest of the last record of its audit log.
    ``rights`` says what is wrong with what the broker lets it do; empty while nothing is.
    ``trust`` says what is wrong with what is signed, and since when; empty while nothing is.
    ``certificate`` tells of the one that it signs in with, None where it needs none.
    """

    online: bool
    software: Text = ""
    protocol: Size = OLDEST
    newest: Size = 0
    sent_ns: Nanoseconds = 0
    resident_bytes: Size = 0
    labels: Annotated[dict[LabelName, LabelValue], Meta(max_length=32)] = {}
    jobs: dict[Job, JobPhase] = {}
    trust: Text = ""
    disk_free_bytes: Space = 0
    rights: Text = ""
    safe_mode: Text = ""
    audit: AuditHead = ""
    certificate: CertificateState | None = None


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
        key: short name of the key that it is signed with; empty, as the two after it, if it is not.
        origin: its label of origin (:class:`~fedmill_shared.messages.origin.Origin`), MessagePack.
        signature: Ed25519 over ``origin``, 64 bytes.
    """

    job: Job
    round: RoundNumber
    base: Digest
    sha256: Digest
    size: Size
    examples: Examples
    loss: Finite
    seconds: Seconds
    protocol: Size = OLDEST
    offered_again: bool = False
    steps: Steps = 0.0
    shift: Shifts = {}
    key: KeyId = ""
    origin: Statement = b""
    signature: Signature = b""


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


class Wish(Struct, frozen=True, kw_only=True):
    """``up/wish``: what an agent asks for because its data has changed; ``kind`` is ``round``."""

    job: Job
    kind: Word
    reason: Text = ""
    evidence: Evidence = {}
