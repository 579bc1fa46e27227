# SPDX-License-Identifier: Apache-2.0
"""What the coordinator remembers: one frozen record for each kind of row.

Times are ns since 1970-01-01 UTC by the coordinator's clock. Blobs and versions are named by the
hexadecimal SHA-256 of their bytes.
"""

import sys
from typing import Annotated, Literal, TypedDict, TypeVar

from msgspec import Meta, Struct, ValidationError, convert, structs

from fedmill_shared.errors import StoreError

# The largest integer that both SQLite and PostgreSQL keep exactly.
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Amount = Annotated[float, Meta(ge=0.0, le=sys.float_info.max)]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
JobState = Literal["waiting", "statistics", "running", "finished", "stopped"]
Alias = Literal["candidate", "canary", "stable", "previous"]
RoundState = Literal["open", "closed", "abandoned"]
UpdateState = Literal["received", "included", "late", "refused"]
Discarded = Literal["late", "refused"]
Verb = Literal[
    "pause", "resume", "abort", "close", "promote", "rollback", "pause_rollout", "resume_rollout"
]


class JobRecord(Struct, frozen=True, kw_only=True):
    """A job and everything that its next round depends on.

    Attributes:
        name: unique name of the job.
        text: canonical text of the job file.
        sha256: SHA-256 of ``text``.
        state: how far the job is.
        created_ns: when the job was added.
        updated_ns: when the record last changed.
        normaliser: agreed normaliser (MessagePack), None until statistics are in.
        manifest: layout of the model vector, None until the model is built.
        template: blob of the graph-only ONNX template.
        canary_inputs: blob of the canary's inputs.
        rule_state: state of the aggregation rule (MessagePack).
        downlink_residual: blob of what the downlink codec dropped so far.
        paused: whether the operator holds it: no round opens.
        quantised: blob of the template's int8 form, None where it has no convolutions.
        further_rounds: rounds beyond those of the job file, granted on wishes of agents.
    """

    name: str
    text: str
    sha256: Sha256
    state: JobState
    created_ns: Count
    updated_ns: Count
    normaliser: bytes | None = None
    manifest: bytes | None = None
    template: Sha256 | None = None
    canary_inputs: Sha256 | None = None
    rule_state: bytes = b""
    downlink_residual: Sha256 | None = None
    paused: bool = False
    quantised: Sha256 | None = None
    further_rounds: Count = 0


class JobChanges(TypedDict, total=False):
    """Fields of a job that may change after it was added."""

    state: JobState
    normaliser: bytes | None
    manifest: bytes | None
    template: str | None
    canary_inputs: str | None
    rule_state: bytes
    downlink_residual: str | None
    paused: bool
    quantised: str | None
    further_rounds: int


class AgentRecord(Struct, frozen=True, kw_only=True):
    """What an agent last said about itself.

    Attributes:
        agent: identity of the agent.
        online: whether it is connected.
        last_seen_ns: when its last message arrived.
        software: version of its software.
        jobs: its jobs, as JSON text.
        model_version: version it scores with.
        resident_bytes: memory of the daemon (RSS).
        windows_scored: windows scored since its start.
        clock_skew_ms: its clock minus ours, ms.
        detail: one line for people.
        labels: what its operator calls it by, as JSON text.
        disk_free_bytes: what the disk of its state folder may still take; 0: not told.
        problems: what is wrong with the agent as a whole, by kind, as JSON text.
    """

    agent: str
    online: bool
    last_seen_ns: Count
    software: str = ""
    jobs: str = "{}"
    model_version: str | None = None
    resident_bytes: Count = 0
    windows_scored: Count = 0
    clock_skew_ms: float | None = None
    detail: str = ""
    labels: str = "{}"
    disk_free_bytes: Count = 0
    problems: str = "{}"


class MomentsRecord(Struct, frozen=True, kw_only=True):
    """Signal statistics that one agent sent for the normaliser of a job."""

    job: str
    agent: str
    payload: bytes
    received_ns: Count


class VersionRecord(Struct, frozen=True, kw_only=True):
    """A model version.

    Attributes:
        job: name of the job.
        number: 0 for the first version, then one more each time.
        version: SHA-256 of the weights vector.
        base: version that ``delta`` starts from.
        weights: blob of the weights, None once forgotten.
        delta: blob of the compressed delta, None for the first version or once forgotten.
        canary_outputs: what the canary's inputs must give.
        round: round that made it, None for the first version.
        created_ns: when it was made.
    """

    job: str
    number: Count
    version: Sha256
    base: Sha256 | None
    weights: Sha256 | None
    delta: Sha256 | None
    canary_outputs: bytes
    round: Count | None
    created_ns: Count


class AliasRecord(Struct, frozen=True, kw_only=True):
    """A movable name on a version of a job."""

    job: str
    alias: Alias
    version: Sha256
    updated_ns: Count


class RoundRecord(Struct, frozen=True, kw_only=True):
    """One round.

    Attributes:
        job: name of the job.
        round: number of the round.
        base: version that updates of the round start from.
        state: open, closed with a report, or abandoned.
        opened_ns: when it opened.
        deadline_ns: when it closes at the latest.
        closed_ns: when it ended.
        seconds: how long it took.
        asked: agents that were asked by name; none where all of them were.
        included: agents whose update went into the aggregate, sorted, each once.
        uplink_bytes: bytes that all agents sent for it, see `TrafficRecord`.
        downlink_bytes: bytes that all agents were sent for it.
        published_bytes: bytes that the coordinator handed to the broker for it: what goes to all
            agents counts once here, and once for each of them in ``downlink_bytes``. A restart
            forgets what it was before, and only that.
        uplink: codec that its updates are asked in.
        report: report of the aggregation, as JSON text.
        accepted: updates that went into the aggregate, of this round and of earlier ones.
        rejected: updates that were refused while it was open or at its close.
        discarded: updates that came too late for it and for every later close.
    """

    job: str
    round: Count
    base: Sha256
    state: RoundState
    opened_ns: Count
    deadline_ns: Count
    closed_ns: Count | None = None
    seconds: float | None = None
    asked: list[str] = []
    included: list[str] = []
    uplink_bytes: Count = 0
    downlink_bytes: Count = 0
    report: str = "{}"
    accepted: Count = 0
    rejected: Count = 0
    discarded: Count = 0
    published_bytes: Count = 0
    uplink: str = ""


class TrafficRecord(Struct, frozen=True, kw_only=True):
    """Bytes on the connection between one agent and the broker, for one job and round.

    A round has what was sent from the end of the round before it to its own end, so that nothing
    falls between two rounds. Bytes are those of MQTT packets, acknowledgements among them.

    Attributes:
        job: name of the job.
        round: number of the round; one more than the last for what came after its end, and 0 for
            the sum of rounds that are no longer kept apart.
        agent: identity of the agent.
        uplink_bytes: what the agent sent.
        downlink_bytes: what the agent was sent.
    """

    job: str
    round: Count
    agent: str
    uplink_bytes: Count
    downlink_bytes: Count


class UpdateRecord(Struct, frozen=True, kw_only=True):
    """An update as it arrived; (job, round, agent, base) names it.

    Attributes:
        job: name of the job.
        round: round it was made for.
        agent: who made it.
        base: version it starts from.
        blob: blob of the frame.
        sha256: SHA-256 of the frame, which the receipt names.
        examples: windows it was learned from.
        loss: mean training loss; not a number where the training diverged.
        wire_bytes: bytes of the frame, as they are cut into blocks.
        seconds: training time.
        received_ns: when it was complete.
        state: waiting for a close, used, or discarded.
        reason: why it was discarded, for people.
        code: why it was discarded, for programs.
        included_in: round whose close used it, which may be later than its own.
        norm: Euclidean norm of its delta, measured at reception.
        steps: local steps behind it as FedNova counts them; 0: not told.
        shift: how far its windows are from those of the fleet, as JSON text.
        key: short name of the key that signed it; empty where it is unsigned.
        origin: what was signed, MessagePack; empty where it is unsigned.
        signature: Ed25519 signature over ``origin``; empty where it is unsigned.
    """

    job: str
    round: Count
    agent: str
    base: Sha256
    blob: Sha256
    sha256: Sha256
    examples: Count
    loss: float
    wire_bytes: Count
    seconds: float
    received_ns: Count
    state: UpdateState = "received"
    reason: str = ""
    code: str = ""
    included_in: Count | None = None
    norm: Amount | None = None
    steps: Amount = 0.0
    shift: str = "{}"
    key: str = ""
    origin: bytes = b""
    signature: bytes = b""


class EvaluationRecord(Struct, frozen=True, kw_only=True):
    """How one version did on one split of one agent; ``statistic`` is MessagePack."""

    job: str
    version: Sha256
    agent: str
    split: str
    statistic: bytes
    windows: Count
    received_ns: Count


UPDATE_REFUSED = "update"
"""How the reason of a refusal begins that was of an update, not of an agent."""


class RefusalRecord(Struct, frozen=True, kw_only=True):
    """Something of an agent that was refused: a short ``reason`` and a ``text`` for people."""

    job: str
    agent: str
    reason: str
    text: str
    received_ns: Count


class OrderRecord(Struct, frozen=True, kw_only=True):
    """What the operator wants done with a job.

    Attributes:
        id: number of the order; a later order has a greater one.
        job: name of the job.
        verb: what to do: hold the job, go on, end it, close its open round now; begin a release,
            go back to what was served before, hold a roll-out, or let it go on.
        by: login name of who gave it.
        given_ns: when it was given.
        done_ns: when the coordinator dealt with it, None while it is open.
        outcome: what came of it; begins with ``REFUSED_ORDER`` where nothing was done.
        argument: what the verb needs to know, as JSON text; empty where that is nothing.
    """

    id: Count
    job: str
    verb: Verb
    by: str
    given_ns: Count
    done_ns: Count | None = None
    outcome: str = ""
    argument: str = ""


REFUSED_ORDER = "refused: "
"""How the outcome of an order begins that was not carried out."""

Record = TypeVar("Record", bound=Struct)


def checked(record: Record) -> Record:
    """A copy of ``record`` whose every field is of its declared type and range.

    Constructors of records do not check; a database would keep a number of NumPy as bytes and
    fail on a count beyond 63 bits.

    Raises:
        StoreError: a field does not fit.
    """
    try:
        return convert(structs.asdict(record), type(record))
    except ValidationError as error:
        raise StoreError(
            f"{type(record).__name__}: {error}",
            remedy="the value is impossible; report this with the coordinator's log",
        ) from error
