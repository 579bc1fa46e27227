# SPDX-License-Identifier: Apache-2.0
"""Many samples of many tags in two short byte strings, without any loss.

A chunk is a list of pieces in the order of their arrival; a piece is some samples of one tag that
came together. Everything that is a whole number is a column, coded by its steps: all equal, a few
runs of equal ones, or each in as few bytes as the largest needs once their least is taken away and
a common divisor taken out. So a regular clock costs nothing, milliseconds cost little, and so do a
hundred tags that are read in turn. Values are stored in the shortest type that gives back the same
64 bits. A CRC-32 tells a damaged chunk.
"""

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.errors import DataError

MOST_SAMPLES = 1 << 16
"""Samples of one chunk at most; no decoder makes room for more."""
MOST_TEXT = 1000
"""Bytes of a text that are kept."""

Whole = NDArray[np.int64]
_VALUES = ("<i1", "<i2", "<f4", "<f8")
_STEPS, _RUNS = 0, 1
_CRC_BYTES = 4
_WORD = 8
_LONGEST_VARINT = 10


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """n samples in p pieces.

    Attributes:
        tags: int64 (p,), number of the tag of each piece.
        counts: int64 (p,), samples of each piece, at least 1; they sum to n.
        arrived_ns: int64 (p,), when each piece came.
        texts: position of a piece -> its text; pieces without one are left out.
        times_ns: int64 (n,), source time.
        quality: int64 (n,), 0 to 65535.
        values: float64 (n,).
    """

    tags: Whole
    counts: Whole
    arrived_ns: Whole
    texts: dict[int, str]
    times_ns: Whole
    quality: Whole
    values: NDArray[np.float64]


def encode(chunk: Chunk) -> tuple[bytes, bytes]:
    """What tells the pieces, and what holds their samples."""
    pieces = bytearray(_varint(len(chunk.tags)))
    for column in (chunk.tags, chunk.counts, chunk.arrived_ns):
        pieces += _column(column)
    pieces += _varint(len(chunk.texts))
    for position, text in chunk.texts.items():
        data = text.encode(errors="replace")[:MOST_TEXT]
        pieces += _varint(position) + _varint(len(data)) + data
    samples = _column(chunk.times_ns) + _column(chunk.quality) + _floats(chunk.values)
    check = zlib.crc32(samples, zlib.crc32(pieces))
    return bytes(pieces), samples + check.to_bytes(_CRC_BYTES, "little")


def decode(pieces: bytes, samples: bytes) -> Chunk:
    """The chunk that ``encode`` was given.

    Raises:
        DataError: the bytes are damaged.
    """
    body, check = samples[:-_CRC_BYTES], samples[-_CRC_BYTES:]
    if zlib.crc32(body, zlib.crc32(pieces)).to_bytes(_CRC_BYTES, "little") != check:
        raise DataError("a chunk of samples is damaged: its checksum differs")
    head = _Head.read(pieces)
    reader = _Reader(body)
    number = int(head.counts.sum())
    times, quality = reader.column(number), reader.column(number)
    return Chunk(
        head.tags, head.counts, head.arrived_ns, head.texts, times, quality, reader.floats(number)
    )


def tally(pieces: bytes) -> dict[int, int]:
    """Samples by the number of their tag, from the first of the two byte strings alone.

    Raises:
        DataError: the bytes are damaged.
    """
    head = _Head.read(pieces)
    found: dict[int, int] = {}
    for tag, count in zip(head.tags.tolist(), head.counts.tolist(), strict=True):
        found[tag] = found.get(tag, 0) + count
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Head:
    tags: Whole
    counts: Whole
    arrived_ns: Whole
    texts: dict[int, str]

    @classmethod
    def read(cls, data: bytes) -> "_Head":
        reader = _Reader(data)
        number = reader.varint()
        if not 1 <= number <= MOST_SAMPLES:
            raise _damaged(f"{number} pieces")
        tags, counts, arrived = (reader.column(number) for _ in range(3))
        if counts.min() < 1 or counts.max() > MOST_SAMPLES or counts.sum() > MOST_SAMPLES:
            raise _damaged("its counts are impossible")
        texts = {}
        for _ in range(reader.varint(number)):
            position = reader.varint(number - 1)
            texts[position] = reader.take(reader.varint(MOST_TEXT)).decode(errors="replace")
        return cls(tags, counts, arrived, texts)


class _Reader:
    """Takes bytes from the front, and never makes room for more than there are bytes for."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._place = 0

    def take(self, number: int) -> bytes:
        place = self._place
        if number > len(self._data) - place:
            raise _damaged("it is cut short")
        self._place = place + number
        return bytes(self._data[place : self._place])

    def varint(self, most: int = (1 << 64) - 1) -> int:
        value = 0
        for position in range(_LONGEST_VARINT):
            byte = self.take(1)[0]
            value |= (byte & 127) << (7 * position)
            if byte < 128:
                break
        if value > most:
            raise _damaged(f"{value} where at most {most} is possible")
        return value

    def whole(self) -> int:
        value = self.varint()
        return value >> 1 ^ -(value & 1)

    def column(self, number: int) -> Whole:
        """``number`` whole numbers, at least one."""
        kind, first = self.take(1)[0], self.whole()
        if kind == _RUNS:
            runs = self.varint(number)
            steps, counts = self.packed(runs), self.packed(runs)
            if counts.min(initial=1) < 1 or counts.max(initial=1) > number:
                raise _damaged("its runs are impossible")
            if counts.sum() != number - 1:
                raise _damaged("its runs do not add up")
            steps = np.repeat(steps, counts)
        elif kind == _STEPS:
            steps = self.packed(number - 1)
        else:
            raise _damaged(f"{kind} is no kind of column")
        made = np.empty(number, np.int64)
        made[0] = first
        np.cumsum(steps, out=made[1:])
        made[1:] += first
        return made

    def packed(self, number: int) -> Whole:
        if number == 0:
            return np.empty(0, np.int64)
        least, divisor, width = self.whole(), self.varint(), self.take(1)[0]
        if width > _WORD:
            raise _damaged(f"numbers of {width} bytes")
        wide = np.zeros((number, _WORD), np.uint8) if width else None
        if wide is None:
            return np.full(number, least, np.int64)
        wide[:, :width] = np.frombuffer(self.take(number * width), np.uint8).reshape(-1, width)
        return (wide.view("<u8")[:, 0] * np.uint64(divisor)).view(np.int64) + np.int64(least)

    def floats(self, number: int) -> NDArray[np.float64]:
        kind = self.take(1)[0]
        if kind >= len(_VALUES):
            raise _damaged(f"{kind} is no type of value")
        dtype = np.dtype(_VALUES[kind])
        return np.frombuffer(self.take(number * dtype.itemsize), dtype).astype(np.float64)


def _column(numbers: Whole) -> bytes:
    """Whole numbers by their steps, whichever of the two ways is shorter."""
    steps = np.diff(numbers)
    plain = _packed(steps)
    if len(plain) > _WORD:
        starts = np.flatnonzero(np.diff(steps, prepend=~steps[:1]))
        if len(starts) * 2 < len(plain):
            counts = np.diff(starts, append=len(steps))
            runs = _varint(len(starts)) + _packed(steps[starts]) + _packed(counts)
            if len(runs) < len(plain):
                return bytes([_RUNS]) + _zigzag(int(numbers[0])) + runs
    return bytes([_STEPS]) + _zigzag(int(numbers[0])) + plain


def _packed(numbers: Whole) -> bytes:
    """Their least, what divides the rest, and the rest in as few bytes each as the largest takes.

    Differences are taken modulo 2^64, so that no pair of numbers is too far apart.
    """
    if len(numbers) == 0:
        return b""
    least = int(numbers.min())
    rest = (numbers - np.int64(least)).view(np.uint64)
    largest = int(rest.max())
    if largest == 0:
        return _zigzag(least) + _varint(0) + bytes([0])
    divisor = int(np.gcd.reduce(rest))
    rest = (rest // np.uint64(divisor)).astype("<u8")
    width = -(-(largest // divisor).bit_length() // 8)
    body = rest.view(np.uint8).reshape(-1, _WORD)[:, :width].tobytes()
    return _zigzag(least) + _varint(divisor) + bytes([width]) + body


def _floats(values: NDArray[np.float64]) -> bytes:
    exact = values.astype("<f8", copy=False)
    with np.errstate(invalid="ignore", over="ignore"):
        for kind, name in enumerate(_VALUES):
            # The first number mostly says no.
            if _same(exact[:1], exact[:1].astype(name)) and _same(exact, exact.astype(name)):
                return bytes([kind]) + exact.astype(name).tobytes()
    return bytes([len(_VALUES) - 1]) + exact.tobytes()  # signalling NaN


def _same(values: NDArray[np.float64], short: NDArray[np.generic]) -> bool:
    """Whether a shorter type keeps every bit."""
    return np.array_equal(short.astype("<f8").view("<i8"), values.view("<i8"))


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    made.append(value)
    return bytes(made)


def _zigzag(value: int) -> bytes:
    """A whole number of 64 bits with the sign last, so that small ones are short."""
    return _varint(value << 1 if value >= 0 else ~value << 1 | 1)


def _damaged(what: str) -> DataError:
    return DataError(f"a chunk of samples is damaged: {what}")
