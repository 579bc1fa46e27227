# SPDX-License-Identifier: Apache-2.0
"""Whatever others send or leave on a disk, every decoder takes it or refuses it in our own words.

A short run over the table of ``python -m tests.bench fuzz``, which goes on for a million inputs.
"""

import io
import random
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bench.decoders import Decoder, decoders, inputs, spoiled

from fedmill_agent.residual import Residual, ResidualState
from fedmill_agent.training import protocol
from fedmill_shared.errors import FedmillError, TrainerError
from fedmill_shared.messages import ALL, DOWN, ENROL, UP

NUMBERS = st.integers(-(1 << 63), (1 << 64) - 1) | st.floats()
LEAVES = st.none() | st.booleans() | NUMBERS | st.text() | st.binary()
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> list[Decoder]:
    """Every decoder."""
    return decoders(tmp_path_factory.mktemp("hostile"))


def swallow(decoder: Decoder, data: bytes) -> None:
    """Let ``decoder`` take or refuse ``data``; anything but a FedmillError fails the test."""
    with suppress(FedmillError):
        decoder.decode(data)


class TestTable:
    def test_every_message_is_in_it(self, table: list[Decoder]) -> None:
        """A message that is added to the wire is fuzzed from then on."""
        names = {each.name for each in table}
        ways = {"up": UP, "down": DOWN, "all": ALL, "enrol": ENROL}
        assert {f"{way}-{kind}" for way, kinds in ways.items() for kind in kinds} <= names
        assert len(names) == len(table)

    def test_seeds_are_valid(self, table: list[Decoder]) -> None:
        """A decoder that refuses its seeds would be fuzzed at its first line only."""
        for decoder in table:
            assert decoder.seeds
            for seed in decoder.seeds:
                decoder.decode(seed)

    def test_repairing_changes_nothing_that_is_whole(self, table: list[Decoder]) -> None:
        """Checksums that are put right are those of the format."""
        assert [d.name for d in table for seed in d.seeds if d.repaired(seed) != seed] == []

    def test_inputs_repeat_with_their_seed(self, table: list[Decoder]) -> None:
        """A finding can be made again."""
        decoder = table[0]
        first, again = (list(islice(inputs(decoder, random.Random(5)), 50)) for _ in range(2))
        assert first == again
        assert len(set(first)) > 40


class TestHostile:
    def test_spoiled_inputs(self, table: list[Decoder]) -> None:
        """Flipped, cut, spliced, nested and repeated, with lengths and counts that lie."""
        foreign = tuple(seed for decoder in table for seed in decoder.seeds if len(seed) < 1000)
        for decoder in table:
            for data in islice(inputs(decoder, random.Random(decoder.name), foreign), 100):
                swallow(decoder, data)

    @given(seed=st.integers(0, 1 << 32), number=st.integers(0, 1000))
    def test_any_mutation_of_any_seed(self, table: list[Decoder], seed: int, number: int) -> None:
        """Hypothesis looks for the number that does it, and remembers it."""
        decoder = table[number % len(table)]
        data = spoiled(random.Random(seed).choice(decoder.seeds), random.Random(seed))
        swallow(decoder, decoder.repaired(data) if seed % 2 else data)

    @given(data=st.binary(max_size=300))
    def test_noise(self, table: list[Decoder], data: bytes) -> None:
        """Bytes that mean nothing, and bytes behind the right first four."""
        for decoder in table:
            swallow(decoder, data)
            swallow(decoder, decoder.seeds[0][:4] + data)

    @given(document=DOCUMENTS)
    def test_documents(self, table: list[Decoder], document: object) -> None:
        """Well-formed MessagePack and JSON of another shape than any of ours."""
        packed = msgspec.msgpack.encode(document)
        with suppress(msgspec.EncodeError, UnicodeEncodeError):
            for decoder in table:
                swallow(decoder, packed)
                swallow(decoder, msgspec.json.encode(document))

    def test_every_truncation(self, table: list[Decoder]) -> None:
        """A connection or a power supply may end at any byte."""
        for decoder in table:
            seed = decoder.seeds[0]
            for length in range(0, len(seed), max(1, len(seed) // 100)):
                swallow(decoder, seed[:length])


class Stingy(io.BytesIO):
    """A pipe that counts what it is asked for at once."""

    most = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """As a file, noting ``size``."""
        self.most = max(self.most, size or 0)
        return super().read(size)


class TestTrainerPipe:
    """What fuzzing found first stays found."""

    def test_a_length_that_lies_costs_no_memory(self) -> None:
        """Two gigabytes are announced, five bytes come: no more than a piece is asked for."""
        pipe = Stingy(b"FMT1\xff\xff\xff\x7fhello")
        assert protocol.receive_answer(pipe) is None
        assert pipe.most <= 1 << 20

    def test_a_long_message_comes_in_pieces(self) -> None:
        """And is the message that was sent."""
        stream = io.BytesIO()
        answer = protocol.Trained(
            number=1, frame=random.Random(0).randbytes(3_000_001), residual=b"", examples=1,
            loss=0.5, seconds=0.5,
        )  # fmt: skip
        protocol.send(stream, answer)
        protocol.send(stream, protocol.Ready(number=2))
        stream.seek(0)
        assert protocol.receive_answer(stream) == answer
        assert protocol.receive_answer(stream) == protocol.Ready(number=2)

    @pytest.fixture(params=["not UTF-8", "too deep", "impossible statistic", "no document"])
    def body(self, request: pytest.FixtureRequest) -> bytes:
        """A message that cannot be decoded, for each of the reasons there are."""
        statistic = {"type": "classification", "classes": 2, "counts": [1], "log_loss": 0.5}
        evaluated = {"type": "evaluated", "number": 1, "version": "", "statistic": statistic}
        bodies: dict[str, bytes] = {
            "not UTF-8": b"\x82\xa4type\xa5ready\xa6number\xa1\xff\xa1",
            "too deep": b"\x81\xa1x" + b"\x91" * 100_000,
            "impossible statistic": msgspec.msgpack.encode(evaluated | {"last": statistic}),
            "no document": b"\xc1",
        }
        return bodies[str(request.param)]

    def test_what_cannot_be_decoded_is_one_error(self, body: bytes) -> None:
        """For the daemon as for the training process, whatever is wrong with it."""
        sent = b"FMT1" + len(body).to_bytes(4, "little") + body
        receivers: tuple[Any, ...] = (protocol.receive_answer, protocol.receive_request)
        for receive in receivers:
            with pytest.raises(TrainerError, match="foreign"):
                receive(io.BytesIO(sent))


class TestResidual:
    def test_a_vector_of_half_a_number_is_set_aside(self, tmp_path: Path) -> None:
        """It used to stop the agent when the update's fate was settled."""
        state = msgspec.to_builtins(ResidualState(), builtin_types=(bytes,)) | {"vector": b"12345"}
        (tmp_path / "residual.msgpack").write_bytes(msgspec.msgpack.encode(state))
        assert Residual(tmp_path).set_aside == tmp_path / "residual.damaged"
