# SPDX-License-Identifier: Apache-2.0
"""Protocol 1 as it was recorded: what was once on the wire, or on a disk, is understood for good.

The files in ``wire_v1`` were written by the first software that spoke protocol 1. They are never
written again; a later protocol gets recordings of its own.
"""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests.contract import recording
from tests.contract.recording import HEADER, HERE, OFFER, Folder, digest

from fedmill_shared.codec import CODECS
from fedmill_shared.codec.frame import decode_frame, encode_frame
from fedmill_shared.files import sha256
from fedmill_shared.link.blocks import blocks_of, parse_block
from fedmill_shared.link.outbox import Outbox, Parcel
from fedmill_shared.messages import (
    AgentState,
    EvaluationReport,
    JobNotice,
    JobPhase,
    Receipt,
    Refusal,
    RoundNotice,
)
from fedmill_shared.metrics import ClassificationStatistic, RegressionStatistic

LATER = {
    *("down-request", "down-wait", "all-release", "up-wish"),
    *("up-renew", "down-certificate", "enrol-up", "enrol-down"),
    *("up-echo", "down-echo"),
}
"""Kinds that software of protocol 1 has no use for."""
VECTOR = (np.arange(-50, 50, dtype=np.float32) / 64).astype(np.float32)
MESSAGES: dict[str, msgspec.Struct] = {
    **recording.MESSAGES,
    "up-state": AgentState(
        online=True,
        software="0.1.0",
        protocol=1,
        sent_ns=1_700_000_000_000_000_000,
        resident_bytes=70_000_000,
        jobs={
            "press": JobPhase(
                phase="joined",
                version=digest("version"),
                windows={"train": 10, "test": 3},
                windows_scored=7,
                windows_bad=1,
            )
        },
    ),
    "up-refusal": Refusal(job="press", reason="SchemaError", text="unit bar, not degC: größer"),
    "up-update": OFFER,
    "up-evaluation": EvaluationReport(
        job="press",
        version=digest("version"),
        statistic=ClassificationStatistic(2, (3, 1, 0, 4), 1.25),
        last=ClassificationStatistic(2, (1, 0, 0, 1), 0.25),
    ),
    "up-evaluation-regression": EvaluationReport(
        job="press",
        version=digest("version"),
        statistic=RegressionStatistic(4, 16.0, 8.0, 2.5, 100.0, 64.0),
        last=RegressionStatistic(1, 4.0, 2.0, 0.5, 90.0, 0.0),
    ),
    "down-receipt": Receipt(
        job="press", round=3, sha256=digest("frame"), fate="late", reason="the round was closed"
    ),
    "all-job": JobNotice(job="press", text=b'{"job":{"name":"press"}}', state="running"),
    "all-round": RoundNotice(
        job="press",
        round=4,
        base=digest("version"),
        deadline_ns=1_700_000_060_000_000_000,
        closed=3,
        included={"gw-1": digest("frame")},
    ),
}
FOLDER = Folder(HERE / "wire_v1", MESSAGES)


class TestMessages:
    @pytest.mark.parametrize("name", MESSAGES)
    def test_is_read_as_it_was_meant(self, name: str) -> None:
        """Every field has the value that was sent."""
        FOLDER.assert_meant(name)

    def test_every_kind_of_protocol_1_is_recorded(self) -> None:
        """Nothing that protocol 1 says is left to chance."""
        types = recording.types(without=LATER)
        assert FOLDER.kinds() == {*MESSAGES} == {*types, "up-evaluation-regression"}
        assert all(type(MESSAGES[name]) is of for name, of in types.items())

    @pytest.mark.parametrize("name", MESSAGES)
    def test_each_cut_is_refused(self, name: str) -> None:
        """A message that ends early is never taken for a shorter one."""
        FOLDER.assert_cuts_refused(name)


class TestBinary:
    @pytest.mark.parametrize("codec", ["fp32", "int8"])
    def test_frames(self, codec: str) -> None:
        """Header and vector, exactly for fp32 and within a step of the block for int8."""
        header, vector = decode_frame(FOLDER.read(f"frame_{codec}"), elements=len(VECTOR))
        assert (header.content, header.codec) == ("delta", codec)
        assert (header.round, header.base, header.schema) == (3, HEADER.base, HEADER.schema)
        assert (header.examples, header.seed, header.elements) == (567, 9, 100)
        step = 0.0 if codec == "fp32" else float(np.abs(VECTOR).max()) / 127
        np.testing.assert_allclose(vector, VECTOR, atol=step)

    def test_frames_are_still_written_so(self) -> None:
        """Same vector, same bytes: the frame format has one writer."""
        made = encode_frame(CODECS["fp32"], VECTOR, HEADER, np.random.default_rng(0))
        assert made == FOLDER.read("frame_fp32")

    def test_block(self) -> None:
        """The second block of a blob of two."""
        block = parse_block(FOLDER.read("block"))
        assert (block.index, block.total, block.size) == (1, 2, 131_072 + 5)
        assert block.blob == sha256(bytes(131_072) + b"hello")
        assert block.payload == b"hello"
        assert list(blocks_of(bytes(131_072) + b"hello", [1])) == [FOLDER.read("block")]

    def test_parcel(self, tmp_path: Path) -> None:
        """An update that was left on disk before an upgrade is still delivered after it."""
        outbox = Outbox(tmp_path)
        frame = FOLDER.read("frame_int8")
        (tmp_path / f"{sha256(frame)}.update").write_bytes(FOLDER.read("parcel"))
        [parcel] = outbox.parcels()
        offer = msgspec.structs.replace(OFFER, sha256=sha256(frame), size=len(frame))
        assert parcel == Parcel(offer, frame, VECTOR.tobytes())
