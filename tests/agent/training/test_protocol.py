# SPDX-License-Identifier: Apache-2.0
import io
import struct

import msgspec
import numpy as np
import pytest

from fedmill_agent.training import protocol
from fedmill_shared.errors import TrainerError
from fedmill_shared.metrics import of_classes, of_numbers
from fedmill_shared.signals.moments import collect

TASK = {"number": 7, "job": b"{}", "store": "/state/w.sqlite"}
REQUESTS = [
    protocol.CollectMoments(**TASK),
    protocol.Train(
        **TASK,
        weights="w",
        regimes=2,
        base="a" * 64,
        schema="b" * 64,
        round=3,
        agent="a",
        residual="r",
    ),
    protocol.Evaluate(**TASK, weights="w", regimes=1, version="c" * 64),
    protocol.Warm(**TASK),
]
ANSWERS = [
    protocol.MomentsCollected(
        number=7, moments=collect(np.ones((2, 1, 4), np.float32), [0], [], [], None)
    ),
    protocol.Trained(number=7, frame=b"f", residual=b"r", examples=3, loss=0.5, seconds=1.5),
    protocol.Evaluated(
        number=7,
        version="c" * 64,
        statistic=of_classes(np.eye(2, dtype=np.float32), np.array([0, 1])),
        last=of_numbers(np.ones(2, np.float32), np.zeros(2)),
    ),
    protocol.Ready(number=7),
    protocol.Failed(number=7, error="DataError", message="none"),
]


class TestMessages:
    def test_come_back_as_they_were(self) -> None:
        """All of them, one behind the other, and then the end."""
        stream = io.BytesIO()
        for request in REQUESTS:
            protocol.send(stream, request)
        stream.seek(0)
        assert [protocol.receive_request(stream) for _ in REQUESTS] == REQUESTS
        assert protocol.receive_request(stream) is None
        stream = io.BytesIO()
        for answer in ANSWERS:
            protocol.send(stream, answer)
        stream.seek(0)
        assert [protocol.receive_answer(stream) for _ in ANSWERS] == ANSWERS
        assert protocol.receive_answer(stream) is None

    def test_length_goes_ahead(self) -> None:
        """Four bytes, little endian, then MessagePack."""
        stream = io.BytesIO()
        protocol.send(stream, ANSWERS[3])
        data = stream.getvalue()
        assert data[:4] == struct.pack("<I", len(data) - 4)
        assert msgspec.msgpack.decode(data[4:]) == {"type": "ready", "number": 7}


class TestFaults:
    def test_a_stream_that_ends_within_a_message_has_ended(self) -> None:
        """The other side was killed while it wrote."""
        stream = io.BytesIO()
        protocol.send(stream, ANSWERS[1])
        for length in range(len(stream.getvalue())):
            assert protocol.receive_answer(io.BytesIO(stream.getvalue()[:length])) is None

    @pytest.mark.parametrize("body", [b"\xc1", b"\x80", b"\x81\xa4type\xa5alien", b"\x93\x01"])
    def test_foreign_answers_are_refused(self, body: bytes) -> None:
        """Whatever was printed into the pipe is no answer."""
        with pytest.raises(TrainerError, match="something foreign"):
            protocol.receive_answer(io.BytesIO(struct.pack("<I", len(body)) + body))

    def test_an_impossible_length_is_refused(self) -> None:
        """Before anything is allocated."""
        with pytest.raises(TrainerError, match="message of 4294967295 bytes"):
            protocol.receive_answer(io.BytesIO(b"\xff\xff\xff\xff rest"))
