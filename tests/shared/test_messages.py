# SPDX-License-Identifier: Apache-2.0
import math
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from fedmill_shared.errors import FrameError
from fedmill_shared.messages import (
    ALL,
    COUNT_LIMIT,
    DOWN,
    ENROL,
    MESSAGE_LIMIT,
    UP,
    AgentState,
    BlobName,
    BlobRequest,
    Echo,
    EnrolmentAnswer,
    EnrolmentRequest,
    EvaluationReport,
    InstallReport,
    InstallState,
    JobNotice,
    JobPhase,
    Join,
    MomentsReport,
    Reason,
    Receipt,
    Refusal,
    ReleaseNotice,
    RenewalAnswer,
    RenewalRequest,
    RoundNotice,
    UpdateOffer,
    VersionNotice,
    Wait,
    Wish,
    decode,
    encode,
)
from fedmill_shared.metrics import ClassificationStatistic, RegressionStatistic
from fedmill_shared.signals.moments import Cell, Moments

A, B = "a" * 64, "b" * 64
BLOB = BlobName(sha256=B, size=4096)
INSTALL = InstallReport(
    version=A,
    state=InstallState.REJECTED,
    release=2,
    gate="shadow",
    reason="12 of 40 windows differ",
    evidence={"agreement": 0.7},
    since_ns=5,
    serving=B,
)
PHASE = JobPhase(
    phase="joined",
    version=A,
    windows={"train": 9},
    windows_scored=3,
    windows_bad=1,
    ineligible="outside the shifts",
    served="local",
    scores={"global": 0.5, "local": 0.75},
    install=INSTALL,
)
NOTICE = VersionNotice(
    job="rig",
    number=4,
    version=A,
    manifest=BLOB,
    template=BLOB,
    canary_inputs=BLOB,
    canary_outputs=b"\0\1",
    snapshot=BLOB,
    base=B,
    delta=BLOB,
    evaluate=True,
    serve=False,
)
OFFER = UpdateOffer(
    job="rig",
    round=3,
    base=A,
    sha256=B,
    size=99,
    examples=640,
    loss=0.25,
    seconds=1.5,
    protocol=2,
    offered_again=True,
    steps=12.5,
    shift={"vibration": (-6.25, 1.5)},
)
STATISTIC = {"type": "classification", "classes": 1, "counts": [1], "log_loss": 0.5}
LABELS = {"line": "A", "spare": False, "axes": 5, "load": 0.5, "tags": ["press", "old"]}
ENROLMENT = EnrolmentRequest(agent="gw7", csr=b"csr", proof=bytes(64), software="0.1.0")
RENEWAL = RenewalRequest(csr=b"csr", key="0123456789abcdef", signature=bytes(64))
MESSAGES: tuple[Struct, ...] = (
    AgentState(
        online=True,
        software="0.1.0",
        newest=2,
        sent_ns=5,
        resident_bytes=1 << 26,
        labels=LABELS,
        jobs={"rig": PHASE},
    ),
    Join(job="rig", schema=A, windows={"train": 640, "test": 64}),
    MomentsReport(job="rig", moments=Moments([Cell((1, -2), 8, [0.5], [0.25])], 8, 1.0, 2.0)),
    Refusal(job="rig", reason="SchemaError", text="unit °C is not K"),
    OFFER,
    EvaluationReport(
        job="rig",
        version=A,
        statistic=ClassificationStatistic(2, (3, 1, 0, 4), 0.5),
        last=RegressionStatistic(8, 2.0, 3.0, 4.0, 5.0, 6.0),
        served="personal",
        candidates={"global": ClassificationStatistic(2, (3, 1, 0, 4), 0.5)},
        validation={"global": 0.875, "personal": 1.0},
    ),
    BlobRequest(job="rig", blob=A, missing=[0, 7]),
    Receipt(
        job="rig",
        round=3,
        sha256=A,
        fate="late",
        reason="the round was closed",
        code=Reason.TOO_STALE,
    ),
    Wait(job="rig", sha256=A, retry_after=2.5),
    JobNotice(job="rig", text=b"{}", state="running", newest=2, spread=3.5),
    NOTICE,
    RoundNotice(
        job="rig",
        round=4,
        base=A,
        deadline_ns=9,
        closed=3,
        included={"press-1": B},
        sent_ns=7,
        seconds_left=1.5,
        cohort=["press-1", "press-2"],
        attempt=1,
        uplink="stc-25",
    ),
    Wish(job="rig", kind="round", reason="the force has changed", evidence={"psi": 0.4}),
    ReleaseNotice(
        job="rig", release=2, notice=NOTICE, agents=["press-1", "press-2"], signature=b"\0\1"
    ),
    ENROLMENT,
    EnrolmentAnswer(state="issued", certificate=b"pem", ca=b"ca", reason="welcome", sent_ns=5),
    RENEWAL,
    RenewalAnswer(state="pending", reason="it is too early", retry_after=3600.0, sent_ns=5),
    Echo(nonce=b"12345678"),
)
TYPES = [type(message) for message in MESSAGES]
NAMES = [kind.__name__ for kind in TYPES]
DEEP_MESSAGEPACK = b"\x81\xa1x" + b"\x91" * 100_000
DEEP_JSON = b'{"x":' + b"[" * 100_000
STRANGE: tuple[object, ...] = (
    *(None, True, -1, 1 << 63, (1 << 64) - 1, 0.5, math.nan, math.inf, "", "x\n", "\0" * 33),
    *(b"", [], [None], [[]] * 3, {}, {"": {}}, {"x\n": 1}, {1: 2}, msgspec.msgpack.Ext(9, b"x")),
)


def _decoded(payload: bytes, kind: type[Struct]) -> Struct | None:
    """The message, or None where it was refused as it must be."""
    try:
        return decode(payload, kind)
    except FrameError:
        return None


def _with(message: Struct, **fields: object) -> bytes:
    """``message`` with fields that its type does not allow."""
    return _encode(message, msgspec.to_builtins(message, builtin_types=(bytes,)) | fields)


def _encode(message: Struct, body: object) -> bytes:
    """``body`` in the format of ``message``'s type."""
    if type(message) is AgentState:
        return msgspec.json.encode(body)
    return msgspec.msgpack.encode(body)


class TestRoundTrip:
    def test_every_kind_has_an_example(self) -> None:
        """The three tables and the examples here name the same types."""
        assert set(TYPES) == {*UP.values(), *DOWN.values(), *ALL.values(), *ENROL.values()}

    @pytest.mark.parametrize("message", MESSAGES, ids=NAMES)
    def test_unchanged(self, message: Struct) -> None:
        """Encoded and decoded is the same message."""
        assert decode(encode(message), type(message)) == message

    @given(kind=st.sampled_from(TYPES), data=st.data())
    def test_unchanged_for_any_text(self, kind: type[Struct], data: st.DataObject) -> None:
        """Whatever text people and errors produce."""
        text = data.draw(st.text(max_size=60))
        message = MESSAGES[TYPES.index(kind)]
        free = {"text", "reason", "software"}.intersection(kind.__struct_fields__)
        value: object = text.encode() if kind is JobNotice else text
        changed = msgspec.structs.replace(message, **dict.fromkeys(free, value))
        assert decode(encode(changed), kind) == changed

    def test_state_is_json(self) -> None:
        """A person who subscribes with mosquitto_sub reads it; a will has one field to set."""
        assert encode(AgentState(online=False)) == (
            b'{"online":false,"software":"","protocol":1,"newest":0,"sent_ns":0,'
            b'"resident_bytes":0,"labels":{},"jobs":{},"trust":"","disk_free_bytes":0,'
            b'"rights":"","safe_mode":"","audit":"","certificate":null}'
        )
        assert decode(b'{"online": false}', AgentState) == AgentState(online=False)

    def test_others_are_messagepack(self) -> None:
        """The literal bytes of protocol 2; to change them is to break the other half."""
        receipt = Receipt(
            job="rig", round=3, sha256=A, fate="late", reason="closed", code=Reason.TOO_STALE
        )
        assert (
            encode(receipt)
            == (b"\x86\xa3job\xa3rig\xa5round\x03\xa6sha256\xd9\x40" + b"a" * 64)
            + b"\xa4fate\xa4late\xa6reason\xa6closed\xa4code\xa9too_stale"
        )

    def test_fields_of_a_later_version_are_skipped(self) -> None:
        """Protocols N and N-1 speak to each other."""
        for message in MESSAGES:
            assert decode(_with(message, later=[1, {"x": None}]), type(message)) == message

    @pytest.mark.parametrize(
        ("message", "since"),
        [
            (MESSAGES[0], {"newest": 0, "labels": {}}),
            (OFFER, {"protocol": 1, "offered_again": False, "steps": 0.0, "shift": {}}),
            (MESSAGES[5], {"served": "", "candidates": {}, "validation": {}}),
            (MESSAGES[7], {"code": ""}),
            (MESSAGES[9], {"newest": 0, "spread": 0.0}),
            (MESSAGES[11], {"sent_ns": 0, "seconds_left": 0.0, "cohort": None, "attempt": 0}),
            (MESSAGES[11], {"uplink": ""}),
            (NOTICE, {"serve": True}),
        ],
    )
    def test_what_protocol_1_leaves_out_has_its_meaning(
        self, message: Struct, since: dict[str, object]
    ) -> None:
        """Every agent is asked, nothing is spread, all blocks follow, and no reason has a code."""
        body = msgspec.to_builtins(message, builtin_types=(bytes,))
        old = {name: value for name, value in body.items() if name not in since}
        expected = msgspec.structs.replace(message, **since)
        assert decode(_encode(message, old), type(message)) == expected

    def test_a_reason_of_a_later_version_is_text(self) -> None:
        """A receipt is understood even if its code is not."""
        payload = _with(MESSAGES[7], code="moon_phase")
        assert decode(payload, Receipt).code == "moon_phase"
        assert all(len(reason) <= 32 for reason in Reason)


class TestRefusal:
    @given(kind=st.sampled_from(TYPES), payload=st.binary(max_size=200))
    def test_foreign_bytes(self, kind: type[Struct], payload: bytes) -> None:
        """FrameError, or a message that can be sent on."""
        message = _decoded(payload, kind)
        assert message is None or encode(message)

    @given(kind=st.sampled_from(TYPES), data=st.data())
    def test_damaged_bytes(self, kind: type[Struct], data: st.DataObject) -> None:
        """One byte changed: FrameError, or another whole message."""
        payload = bytearray(encode(MESSAGES[TYPES.index(kind)]))
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
        message = _decoded(bytes(payload), kind)
        assert message is None or decode(encode(message), kind) == message

    @pytest.mark.parametrize("message", MESSAGES, ids=NAMES)
    def test_truncated_or_continued(self, message: Struct) -> None:
        """At every byte, and with one byte too many."""
        payload = encode(message)
        for length in range(len(payload)):
            with pytest.raises(FrameError, match=f"{type(message).__name__} cannot be decoded"):
                decode(payload[:length], type(message))
        with pytest.raises(FrameError):
            decode(payload + b"\0", type(message))

    @pytest.mark.parametrize("message", MESSAGES, ids=NAMES)
    def test_strange_values_in_every_field(self, message: Struct) -> None:
        """Wrong types, ranges, texts and nesting: what is accepted can be stored and sent on."""
        for field in message.__struct_fields__:
            for value in STRANGE:
                try:
                    payload = _with(message, **{field: value})
                except (TypeError, UnicodeDecodeError):
                    continue  # JSON has no such value
                accepted = _decoded(payload, type(message))
                if accepted is not None:
                    assert "x\n" not in repr(accepted) or field in ("text", "reason", "software")
                    assert "nan" not in repr(accepted)
                    assert decode(encode(accepted), type(message)) == accepted

    @pytest.mark.parametrize("message", MESSAGES, ids=NAMES)
    def test_missing_fields(self, message: Struct) -> None:
        """Each field without a default is needed."""
        body = msgspec.to_builtins(message, builtin_types=(bytes,))
        for field in msgspec.structs.fields(message):
            if not field.required:
                continue
            part = {name: value for name, value in body.items() if name != field.name}
            with pytest.raises(FrameError, match=f"missing required field `{field.name}`"):
                decode(_encode(message, part), type(message))

    @pytest.mark.parametrize("kind", TYPES, ids=NAMES)
    def test_too_large(self, kind: type[Struct]) -> None:
        """Refused by its length, before anything is read."""
        with pytest.raises(FrameError, match=f"{kind.__name__} of 1048577 bytes exceeds 1048576"):
            decode(bytes(MESSAGE_LIMIT + 1), kind)

    @pytest.mark.parametrize("kind", TYPES, ids=NAMES)
    def test_too_deep(self, kind: type[Struct]) -> None:
        """A hundred thousand lists in each other must not end the daemon."""
        with pytest.raises(FrameError):
            decode(DEEP_JSON if kind is AgentState else DEEP_MESSAGEPACK, kind)

    @pytest.mark.parametrize("code", [b"\xdd", b"\xdf", b"\xc6", b"\xdb", b"\xc9"])
    def test_a_length_that_lies(self, code: bytes) -> None:
        """Four thousand million elements are announced, and none follows."""
        for name in (b"job", b"windows", b"unknown"):
            key = bytes([0xA0 + len(name)]) + name
            with pytest.raises(FrameError):
                decode(b"\x81" + key + code + struct.pack(">I", 0xFFFFFFFF), Join)


class TestLimits:
    """What a database column, a file name or a terminal could not bear."""

    @pytest.mark.parametrize(
        ("message", "field", "value"),
        [
            (OFFER, "round", 0),
            (OFFER, "round", COUNT_LIMIT + 1),
            (OFFER, "examples", 1 << 32),
            (OFFER, "size", -1),
            (OFFER, "loss", math.nan),
            (OFFER, "loss", -math.inf),
            (OFFER, "seconds", math.inf),
            (OFFER, "seconds", -1.0),
            (OFFER, "sha256", A + "\n"),
            (OFFER, "sha256", A.upper()),
            (OFFER, "base", ""),
            (OFFER, "job", "rig\n"),
            (OFFER, "job", "../rig"),
            (MESSAGES[0], "sent_ns", 1 << 63),
            (MESSAGES[0], "resident_bytes", -1),
            (MESSAGES[0], "jobs", {"\x1b[2J": {"phase": "joined"}}),
            (MESSAGES[0], "jobs", {"rig": {"phase": "dancing"}}),
            (MESSAGES[0], "software", "x" * 2001),
            (MESSAGES[0], "labels", {f"label{n}": n for n in range(65)}),
            (MESSAGES[0], "labels", {"line": None}),
            (MESSAGES[0], "labels", {"line": [1]}),
            (MESSAGES[0], "jobs", {"rig": {"phase": "joined", "ineligible": "x" * 2001}}),
            (MESSAGES[0], "newest", -1),
            (OFFER, "protocol", -1),
            (OFFER, "offered_again", 1),
            (OFFER, "steps", -1.0),
            (OFFER, "steps", math.nan),
            (OFFER, "shift", {f"s{n}": [1.0, 1.0] for n in range(9)}),
            (OFFER, "shift", {"vibration": [math.inf, 1.0]}),
            (OFFER, "shift", {"vibration": [1.0]}),
            (OFFER, "shift", {"Vibration\n": [1.0, 1.0]}),
            (MESSAGES[0], "jobs", {"rig": {"phase": "joined", "served": "x\x1b"}}),
            (MESSAGES[5], "served", "x" * 33),
            (MESSAGES[5], "served", "the best"),
            (MESSAGES[5], "candidates", {f"c{n}": STATISTIC for n in range(9)}),
            (MESSAGES[5], "validation", {"global": math.nan}),
            (MESSAGES[5], "validation", {f"c{n}": 1.0 for n in range(9)}),
            (MESSAGES[11], "uplink", "x" * 33),
            (MESSAGES[11], "uplink", "stc-25\n"),
            (MESSAGES[7], "fate", "lost"),
            (MESSAGES[7], "code", "x" * 33),
            (MESSAGES[8], "retry_after", -0.5),
            (MESSAGES[8], "retry_after", math.inf),
            (MESSAGES[9], "spread", -1.0),
            (MESSAGES[11], "seconds_left", math.nan),
            (MESSAGES[11], "attempt", -1),
            (MESSAGES[11], "sent_ns", 1 << 63),
            (MESSAGES[11], "cohort", ["Press 1"]),
            (MESSAGES[11], "cohort", "press-1"),
            (MESSAGES[6], "missing", [0] * 65537),
            (MESSAGES[6], "missing", [-1]),
            (MESSAGES[11], "included", {"Press 1": B}),
            (MESSAGES[11], "included", {"press-1": "b"}),
            (ENROLMENT, "agent", "Gw7"),
            (ENROLMENT, "agent", "gw7\n"),
            (ENROLMENT, "csr", bytes(4097)),
            (ENROLMENT, "proof", bytes(63)),
            (ENROLMENT, "proof", bytes(65)),
            (ENROLMENT, "software", "x" * 65),
            (MESSAGES[15], "state", "perhaps"),
            (MESSAGES[15], "certificate", bytes(16_385)),
            (MESSAGES[15], "ca", bytes(16_385)),
            (MESSAGES[15], "reason", "x" * 2001),
            (MESSAGES[15], "retry_after", -1.0),
            (MESSAGES[15], "sent_ns", 1 << 63),
            (RENEWAL, "csr", bytes(4097)),
            (RENEWAL, "key", ""),
            (RENEWAL, "key", "0123456789abcdeF"),
            (RENEWAL, "signature", b""),
            (MESSAGES[17], "state", "later"),
            (MESSAGES[17], "retry_after", math.inf),
        ],
    )
    def test_refused(self, message: Struct, field: str, value: object) -> None:
        """The error names the type and the field."""
        place = rf"{type(message).__name__} cannot be decoded.*`\$\.{field}"
        with pytest.raises(FrameError, match=place):
            decode(_with(message, **{field: value}), type(message))

    @pytest.mark.parametrize(
        "statistic",
        [
            {"type": "classification", "classes": 2, "counts": [1], "log_loss": 0.5},
            {"type": "classification", "classes": 1, "counts": [1], "log_loss": math.nan},
            {"type": "classification", "classes": 1, "counts": [COUNT_LIMIT + 1], "log_loss": 0.5},
            {"type": "classification", "classes": 1, "counts": [-1], "log_loss": 0.5},
            {"type": "classification", "classes": 0, "counts": [], "log_loss": 0.5},
            {"type": "ranking"},
            {"type": "regression", "count": 1},
            {
                **dict.fromkeys(("squared_error", "absolute_error", "score", "m2"), 1.0),
                "type": "regression",
                "count": 1,
                "mean": math.inf,
            },
        ],
    )
    @pytest.mark.parametrize("field", ["statistic", "last"])
    def test_impossible_statistics(self, field: str, statistic: dict[str, object]) -> None:
        """The statistics' own checks speak of data; on the wire they are frames like any other."""
        with pytest.raises(FrameError, match="EvaluationReport cannot be decoded"):
            decode(_with(MESSAGES[5], **{field: statistic}), EvaluationReport)

    def test_impossible_counts_of_candidates(self) -> None:
        """They are counted like the others."""
        statistic = RegressionStatistic(COUNT_LIMIT + 1, 2.0, 3.0, 4.0, 5.0, 6.0)
        body = msgspec.to_builtins(statistic, builtin_types=(bytes,))
        with pytest.raises(FrameError, match="are not possible"):
            decode(_with(MESSAGES[5], candidates={"local": body}), EvaluationReport)
