# SPDX-License-Identifier: Apache-2.0
"""Frames on a connection: what is asked is only ever a read, and what comes may be anything."""

import socket
import struct
from collections import Counter
from collections.abc import Iterator

import pymodbus
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.pdu import DecodePDU

from fedmill_agent.sources.modbus.answer import GARBLED, SILENT, Answer
from fedmill_agent.sources.modbus.declaration import KINDS
from fedmill_agent.sources.modbus.frames import Framing
from fedmill_agent.sources.modbus.plan import Request
from fedmill_agent.sources.modbus.wire import MOST_GARBAGE, TcpWire
from fedmill_shared.errors import SourceError

THREE = Request(1, "holding", 0x6B, 3)
REPLY = bytes.fromhex("0001 0000 0009 01 03 06 022B 0000 0064")
"""What the protocol's specification has as the answer to it (V1.1b3, 6.3)."""


class Pair:
    """A wire and the other end of its connection."""

    def __init__(self) -> None:
        own, self.other = socket.socketpair()
        own.settimeout(5.0)
        self.other.settimeout(5.0)
        self.counts = Counter[str]()
        self.wire = TcpWire(own, "plc:502", self.counts)

    def close(self) -> None:
        """Both ends."""
        self.wire.close()
        self.other.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    """An open connection."""
    made = Pair()
    yield made
    made.close()


def header(transaction: int, payload: str, *, device: int = 1, more: int = 0) -> bytes:
    """A frame with ``payload``; its header tells ``more`` bytes than there are."""
    data = bytes.fromhex(payload)
    return struct.pack(">HHHB", transaction, 0, len(data) + 1 + more, device) + data


class TestQuestions:
    def test_literal(self) -> None:
        """The example of the specification."""
        told = bytes.fromhex("0001 0000 0006 01 03 006B 0003")
        assert Framing().question(THREE, 1) == told

    @given(
        st.integers(0, 255),
        st.sampled_from(KINDS),
        st.integers(0, 65535),
        st.integers(1, 125),
        st.integers(1, 65535),
    )
    def test_all_are_reads(
        self, device: int, kind: str, address: int, count: int, transaction: int
    ) -> None:
        """By struct: the functions 1 to 4, one for each kind, and nothing after the count."""
        (kind,) = (each for each in KINDS if each == kind)
        sent = Framing().question(Request(device, kind, address, count), transaction)
        code = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}[kind]
        assert sent == struct.pack(">HHHBBHH", transaction, 0, 6, device, code, address, count)

    def test_the_library_is_the_one_that_was_tested(self) -> None:
        """It changes its interface between minor versions, so it is pinned exactly."""
        assert pymodbus.__version__ == "3.16.1"
        assert {1, 2, 3, 4} <= set(DecodePDU(is_server=False).list_function_codes())


class TestAnswers:
    def test_literal(self, pair: Pair) -> None:
        """The example of the specification."""
        pair.wire.ask(THREE)
        assert pair.other.recv(100) == bytes.fromhex("0001 0000 0006 01 03 006B 0003")
        pair.other.sendall(REPLY)
        assert pair.wire.receive(5.0) == Answer(bytes.fromhex("022B00000064"))
        assert pair.counts == {}

    def test_bits(self, pair: Pair) -> None:
        """The specification's example of coils (6.1)."""
        pair.wire.ask(Request(1, "coil", 0x13, 19))
        pair.other.sendall(header(1, "01 03 CD6B05"))
        assert pair.wire.receive(5.0) == Answer(bytes.fromhex("CD6B05"))

    def test_piece_by_piece(self, pair: Pair) -> None:
        """However a network cuts it."""
        pair.wire.ask(THREE)
        for each in REPLY[:-1]:
            pair.other.sendall(bytes([each]))
            assert pair.wire.receive(5.0) is None
        pair.other.sendall(REPLY[-1:])
        assert pair.wire.receive(5.0) == Answer(bytes.fromhex("022B00000064"))

    @pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 6, 8, 10, 11, 0x55])
    def test_exceptions_have_their_code_and_a_sentence(self, pair: Pair, code: int) -> None:
        """Unknown ones too."""
        pair.wire.ask(THREE)
        pair.other.sendall(header(1, f"83 {code:02x}"))
        answer = pair.wire.receive(5.0)
        assert answer == Answer(code=code)
        assert not answer.good
        assert f"exception {code}" in answer.reason
        assert pair.counts == {}

    @pytest.mark.parametrize(
        "frame",
        [
            header(1, "03 06 022B00000064", device=2),
            header(1, "04 06 022B00000064"),
            header(1, "03 04 022B0000"),
            header(1, "03 08 022B000000640000"),
            header(1, "03 06 022B0000"),
            header(1, "03 06 022B00000064 00"),
            header(1, "03 05 022B000000"),
            header(1, "03"),
            header(1, "84 02"),
            header(1, "83 00"),
            header(1, "10 0001 0002"),
            header(1, "5a 90"),
            bytes.fromhex("0001 0001 0009 01 03 06 022B 0000 0064"),
            bytes.fromhex("0001 0000 00FF 01 03 06 022B 0000 0064"),
            bytes.fromhex("0001 0000 0001 01 03 06 022B 0000 0064"),
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
        ],
    )
    def test_what_is_no_answer_to_the_question(self, pair: Pair, frame: bytes) -> None:
        """Device, function, length and protocol are all checked, and the next answer counts."""
        pair.wire.ask(THREE)
        pair.other.sendall(frame)
        assert pair.wire.receive(5.0) is GARBLED
        assert pair.counts == {"garbage": 1}
        pair.wire.ask(THREE)
        pair.other.sendall(b"\0\2" + REPLY[2:])
        assert pair.wire.receive(5.0) == Answer(bytes.fromhex("022B00000064"))

    def test_another_transaction_is_waited_past(self, pair: Pair) -> None:
        """The right answer may stand behind it, in the same piece; else nothing made sense."""
        pair.wire.ask(THREE)
        pair.other.sendall(b"\x12\x34" + REPLY[2:] + REPLY)
        assert pair.wire.receive(5.0) == Answer(bytes.fromhex("022B00000064"))
        assert pair.counts == {"garbage": 1}
        pair.wire.ask(THREE)
        pair.other.sendall(b"\x12\x34" + REPLY[2:])
        assert pair.wire.receive(5.0) is None
        assert pair.wire.give_up() is GARBLED

    def test_late_answers_are_told_from_garbage(self, pair: Pair) -> None:
        """They answer no later question, and say that their device lives."""
        pair.wire.ask(THREE)
        assert pair.wire.receive(0.0) is None
        assert pair.wire.give_up() is SILENT
        pair.wire.ask(THREE)
        pair.other.sendall(REPLY + b"\0\2" + REPLY[2:8] + b"\6\0\1\0\2\0\3")
        assert pair.wire.receive(5.0) == Answer(b"\0\1\0\2\0\3")
        assert pair.counts == {"late answer": 1}
        assert pair.wire.late == [1]

    def test_a_truncated_answer_spoils_no_later_one(self, pair: Pair) -> None:
        """Its rest is garbage, and what comes after that is understood."""
        pair.wire.ask(THREE)
        pair.other.sendall(REPLY[:10])
        assert pair.wire.receive(5.0) is None
        assert pair.wire.give_up() is GARBLED
        pair.wire.ask(THREE)
        pair.other.sendall(REPLY[10:])
        pair.wire.receive(5.0)
        pair.wire.give_up()
        pair.wire.ask(THREE)
        pair.other.sendall(b"\0\3" + REPLY[2:])
        answer = pair.wire.receive(5.0)
        if answer is not None and not answer.good:  # the rest had taken its beginning along
            pair.wire.ask(THREE)
            pair.other.sendall(b"\0\4" + REPLY[2:])
            answer = pair.wire.receive(5.0)
        assert answer == Answer(bytes.fromhex("022B00000064"))
        assert pair.counts["garbage"] >= 1

    def test_what_nobody_asked_for_is_garbage(self, pair: Pair) -> None:
        """Between questions too."""
        pair.other.sendall(REPLY)
        assert pair.wire.receive(5.0) is None
        assert pair.counts == {"garbage": 1}

    def test_an_answer_twice_counts_once(self, pair: Pair) -> None:
        """The second is garbage."""
        pair.wire.ask(THREE)
        pair.other.sendall(REPLY + REPLY)
        assert pair.wire.receive(5.0) == Answer(bytes.fromhex("022B00000064"))
        assert pair.counts == {"garbage": 1}

    @given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=10))
    def test_no_bytes_are_more_than_garbage(self, pieces: list[bytes]) -> None:
        """Whatever comes, the wire holds no more than one frame and asks on."""
        made = Pair()
        try:
            made.wire.ask(THREE)
            for each in pieces:
                made.other.sendall(each)
                made.wire.receive(5.0)
                assert len(made.wire._held) <= 260
            assert made.wire.give_up() in (GARBLED, SILENT)
        finally:
            made.close()

    @given(st.binary(max_size=20))
    def test_no_answer_is_made_of_another_frame(self, payload: bytes) -> None:
        """A frame of the right transaction and device with any content: six bytes or nothing."""
        made = Pair()
        try:
            made.wire.ask(THREE)
            made.other.sendall(struct.pack(">HHHB", 1, 0, len(payload) + 1, 1) + payload)
            answer = made.wire.receive(5.0)
            if answer is not None and answer.good:
                assert payload == b"\3\6" + answer.data
                assert len(answer.data) == 6
        finally:
            made.close()


class TestLoss:
    def test_a_closed_connection_is_an_error(self, pair: Pair) -> None:
        """It names the place."""
        pair.other.close()
        with pytest.raises(SourceError, match="plc:502 closed the connection"):
            pair.wire.receive(5.0)

    def test_so_is_one_that_breaks(self, pair: Pair) -> None:
        """While asking, and after it was closed on this side."""
        pair.other.close()
        with pytest.raises(SourceError, match="the connection to plc:502 is lost"):
            pair.wire.ask(THREE)
        pair.wire.close()
        with pytest.raises(SourceError, match="is lost"):
            pair.wire.receive(0.0)

    def test_endless_garbage_is_an_error(self, pair: Pair) -> None:
        """What has nothing else to say is no Modbus server."""
        for _ in range(MOST_GARBAGE):
            pair.other.sendall(b"220 ftp ready\r\n")
            pair.wire.receive(5.0)
        pair.other.sendall(b"220 ftp ready\r\n")
        with pytest.raises(SourceError, match="plc:502 answers, and not in Modbus TCP"):
            pair.wire.receive(5.0)
        assert pair.counts == {"garbage": MOST_GARBAGE + 1}

    def test_garbage_between_answers_is_not(self, pair: Pair) -> None:
        """It is counted, and the connection goes on."""
        for number in range(1, 3 * MOST_GARBAGE):
            pair.wire.ask(THREE)
            pair.other.recv(100)
            pair.other.sendall(b"\xff\xff" + REPLY[2:] + struct.pack(">H", number) + REPLY[2:])
            answer = pair.wire.receive(5.0)
            assert answer is not None
            assert answer.good

    def test_transactions_begin_again_after_the_last(self, pair: Pair) -> None:
        """65535 is followed by 1."""
        pair.wire._transaction = 65534
        for number in (65535, 1, 2):
            pair.wire.ask(THREE)
            assert int.from_bytes(pair.other.recv(100)[:2], "big") == number
