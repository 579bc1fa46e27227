# SPDX-License-Identifier: Apache-2.0
import os
import random
import struct
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.assembler import Assembler

from fedmill_shared.errors import FrameError, StoreError
from fedmill_shared.files import sha256
from fedmill_shared.link.blocks import (
    BLOB_LIMIT,
    BLOCK_SIZE,
    block_count,
    blocks_of,
    parse_block,
    read_blocks,
)

SIZES = [0, 1, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1, 2 * BLOCK_SIZE, 3 * BLOCK_SIZE + 7]
HEADER = 56


def _blob(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def _feed(assembler: Assembler, wires: list[bytes]) -> list[bytes]:
    """The blobs that became whole."""
    results = [assembler.add(parse_block(wire)) for wire in wires]
    return [blob for blob in results if blob is not None]


def _expecting(blob: bytes) -> Assembler:
    assembler = Assembler()
    assembler.expect(sha256(blob), len(blob))
    return assembler


def _forged(*, size: int, index: int, total: int, payload: bytes) -> bytes:
    fields = (b"FMB1", bytes(32), index, total, size, zlib.crc32(payload))
    return struct.pack("<4s32sIIQI", *fields) + payload


class TestRoundTrip:
    @pytest.mark.parametrize("size", SIZES)
    def test_any_size(self, size: int) -> None:
        """Cut, parsed and put together is the same blob; no block is larger than it may be."""
        blob = _blob(size)
        wires = list(blocks_of(blob))
        assert len(wires) == block_count(size)
        assert max(map(len, wires)) <= BLOCK_SIZE + HEADER
        assert _feed(_expecting(blob), wires) == [blob]

    def test_counts(self) -> None:
        """An empty blob is one block; an exact multiple has no empty block at its end."""
        assert [block_count(size) for size in SIZES] == [1, 1, 1, 1, 2, 2, 4]

    def test_header_is_as_documented(self) -> None:
        """56 bytes, little endian; the checksum is the check value of CRC-32."""
        (wire,) = blocks_of(b"123456789")
        assert wire.hex() == (
            "464d4231"
            "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"
            "00000000" + "01000000" + "0900000000000000" + "2639f4cb" + b"123456789".hex()
        )

    @settings(max_examples=30)
    @given(size=st.sampled_from(SIZES), seed=st.integers(0, 1 << 32))
    def test_any_order_with_repeats(self, size: int, seed: int) -> None:
        """MQTT may repeat and several sessions may mix: the blob comes out once, and is right."""
        blob, generator = _blob(size, seed), random.Random(seed)
        wires = list(blocks_of(blob))
        arriving = wires + generator.choices(wires, k=3)
        generator.shuffle(arriving)
        assembler = _expecting(blob)
        assert _feed(assembler, arriving) == [blob]
        assert _feed(assembler, arriving) == []

    def test_some_blocks(self) -> None:
        """Only those asked for, in the order asked for."""
        blob = _blob(SIZES[-1])
        wires = list(blocks_of(blob))
        assert list(blocks_of(blob, [3, 1])) == [wires[3], wires[1]]

    @pytest.mark.parametrize("index", [-1, 4, 1 << 40])
    def test_block_beyond_the_blob(self, index: int) -> None:
        """What a confused agent asks for is refused, not read from the wrong end."""
        with pytest.raises(FrameError, match=f"block {index} asked for, but the blob has 4"):
            list(blocks_of(_blob(SIZES[-1]), [index]))


class TestFile:
    @pytest.mark.parametrize("size", SIZES)
    def test_blocks_of_a_file_are_those_of_its_bytes(self, tmp_path: Path, size: int) -> None:
        """Bit by bit, in the order asked for."""
        blob, path = _blob(size), tmp_path / "blob"
        path.write_bytes(blob)
        indices = list(reversed(range(block_count(size))))
        found = list(read_blocks(path, sha256(blob), indices))
        assert found == list(blocks_of(blob, indices))

    @pytest.mark.parametrize("index", [-1, 4, 1 << 40])
    def test_block_beyond_the_file(self, tmp_path: Path, index: int) -> None:
        """Refused with the same words as for bytes."""
        path = tmp_path / "blob"
        path.write_bytes(_blob(SIZES[-1]))
        with pytest.raises(FrameError, match=f"block {index} asked for, but the blob has 4"):
            list(read_blocks(path, "0" * 64, [index]))

    def test_only_what_is_asked_for_is_read(self, tmp_path: Path) -> None:
        """One block of a sparse file of half a gigabyte costs one block of memory."""
        path = tmp_path / "blob"
        path.touch()
        os.truncate(path, BLOB_LIMIT)
        tracemalloc.start()
        try:
            for wire in read_blocks(path, "0" * 64, range(100, 4000, 1000)):
                assert len(wire) == BLOCK_SIZE + HEADER
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 5 * BLOCK_SIZE

    def test_a_lost_file(self, tmp_path: Path) -> None:
        """It is named, with what to do."""
        with pytest.raises(StoreError, match=r"gone: cannot be read: No such file.*backup"):
            list(read_blocks(tmp_path / "gone", "0" * 64, [0]))


class TestParse:
    @given(data=st.binary(max_size=80) | st.binary(max_size=80).map(b"FMB1".__add__))
    def test_foreign_bytes(self, data: bytes) -> None:
        """Nothing but FrameError."""
        with pytest.raises(FrameError):
            parse_block(data)

    @pytest.mark.parametrize("length", [0, 3, 4, HEADER - 1, HEADER, HEADER + 6])
    def test_truncated(self, length: int) -> None:
        """At any place, in the header or behind it."""
        (wire,) = blocks_of(b"fedmill")
        with pytest.raises(FrameError):
            parse_block(wire[:length])

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"size": BLOB_LIMIT + 1, "index": 0, "total": 4097}, "does not fit a blob"),
            ({"size": (1 << 64) - 1, "index": 0, "total": 1}, "does not fit a blob"),
            ({"size": 7, "index": 0, "total": (1 << 32) - 1}, "does not fit a blob"),
            ({"size": 7, "index": 0, "total": 0}, "does not fit a blob"),
            ({"size": 7, "index": 1, "total": 1}, "block 1 of 1 does not fit"),
            ({"size": 8, "index": 0, "total": 1}, "has 7 bytes of payload"),
            ({"size": 2 * BLOCK_SIZE, "index": 0, "total": 2}, "has 7 bytes of payload"),
            ({"size": 6, "index": 0, "total": 1}, "has 7 bytes of payload"),
        ],
    )
    def test_hostile_header(self, fields: dict[str, int], message: str) -> None:
        """Size, total, index and length of the payload must agree before anything is kept."""
        with pytest.raises(FrameError, match=message):
            parse_block(_forged(**fields, payload=b"fedmill"))

    def test_corrupt_payload(self) -> None:
        """The checksum tells."""
        (wire,) = blocks_of(b"fedmill")
        with pytest.raises(FrameError, match="block 0 is corrupt"):
            parse_block(wire[:-1] + b"m")
