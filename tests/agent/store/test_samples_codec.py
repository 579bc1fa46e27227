# SPDX-License-Identifier: Apache-2.0
"""Chunks of samples: nothing is lost, little is used, and no bytes do harm."""

import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fedmill_agent.store.samples_codec import MOST_SAMPLES, MOST_TEXT, Chunk, decode, encode, tally
from fedmill_shared.errors import DataError

NOW = 1_700_000_000_000_000_000
WHOLE = st.integers(-(1 << 63), (1 << 63) - 1)
SHORT = st.integers(-3, 3)


def chunk(
    times: Any, values: Any, *, counts: Any = None, quality: Any = 192, **fields: Any
) -> Chunk:
    """A chunk of one good piece unless told otherwise."""
    number = len(times)
    counts = [number] if counts is None else counts
    told = {"tags": [7] * len(counts), "arrived_ns": [NOW] * len(counts)} | fields
    return Chunk(
        tags=np.array(told["tags"], np.int64),
        counts=np.array(counts, np.int64),
        arrived_ns=np.array(told["arrived_ns"], np.int64),
        texts=told.get("texts", {}),
        times_ns=np.array(times, np.int64),
        quality=np.broadcast_to(np.array(quality, np.int64), number),
        values=np.array(values, np.float64),
    )


def same(one: Chunk, other: Chunk) -> bool:
    """Whether two chunks are equal, their values to the last bit."""
    columns = ("tags", "counts", "arrived_ns", "times_ns", "quality")
    return (
        all(np.array_equal(getattr(one, name), getattr(other, name)) for name in columns)
        and one.values.tobytes() == other.values.tobytes()
        and one.texts == other.texts
    )


def size(made: Chunk) -> float:
    """Bytes of a sample."""
    return sum(map(len, encode(made))) / len(made.times_ns)


@st.composite
def chunks(draw: st.DrawFn) -> Chunk:
    """Any chunk: wild or tame times, any bits of values."""
    counts = draw(st.lists(st.integers(1, 20), min_size=1, max_size=8))
    number, pieces = sum(counts), len(counts)

    def column(length: int) -> list[int]:
        each = draw(st.sampled_from([WHOLE, SHORT, st.just(5)]))
        return draw(st.lists(each, min_size=length, max_size=length))

    bits = draw(st.lists(st.integers(0, (1 << 64) - 1), min_size=number, max_size=number))
    wild = np.array(bits, np.uint64).view(np.float64)
    tame = np.array(column(number), np.float64)
    texts = draw(st.dictionaries(st.integers(0, pieces - 1), st.text(min_size=1, max_size=9)))
    quality = draw(
        st.lists(st.sampled_from([0, 192, 500, 65535]), min_size=number, max_size=number)
    )
    return chunk(
        column(number),
        draw(st.sampled_from([wild, tame])),
        counts=counts,
        quality=quality,
        tags=column(pieces),
        arrived_ns=column(pieces),
        texts=texts,
    )


class TestRoundTrip:
    @given(chunks())
    @example(chunk([0], [-0.0]))
    @example(chunk([-(1 << 63), (1 << 63) - 1, 0], [np.nan, np.inf, 1e-320]))
    def test_nothing_changes(self, given_: Chunk) -> None:
        """Every whole number of 64 bits, every bit of a value, every text."""
        assert same(decode(*encode(given_)), given_)

    @pytest.mark.parametrize("name", ["<i1", "<i2", "<f4", "<f8"])
    def test_values_of_every_width(self, name: str) -> None:
        """The bounds of each type, and one step beyond them."""
        info = np.iinfo(name) if "i" in name else np.finfo(name)
        ends = [float(info.min), float(info.max), 0.0]
        for values in (ends, [*ends, float(info.max) * 1.5], [*ends, 0.1], [*ends, -0.0]):
            made = chunk(range(len(values)), values)
            assert same(decode(*encode(made)), made)

    def test_the_largest(self) -> None:
        """As many samples as a chunk may have, in as many pieces."""
        number = MOST_SAMPLES
        made = chunk(range(number), np.zeros(number), counts=[1] * number)
        assert same(decode(*encode(made)), made)

    def test_a_long_text_is_cut(self) -> None:
        """A recording is no place for novels; a character that is cut in two is marked."""
        made = chunk([1], [2.0], texts={0: "ä" * MOST_TEXT})
        [text] = decode(*encode(made)).texts.values()
        assert text == "ä" * (MOST_TEXT // 2)

    @given(chunks())
    def test_samples_by_tag(self, given_: Chunk) -> None:
        """Told without the samples."""
        counts: dict[int, int] = {}
        for tag, count in zip(given_.tags.tolist(), given_.counts.tolist(), strict=True):
            counts[tag] = counts.get(tag, 0) + count
        assert tally(encode(given_)[0]) == counts


class TestSize:
    noise = np.random.default_rng(0).normal(size=12_000)

    def test_a_fast_signal_costs_its_values(self) -> None:
        """A second at 12 kHz: 8 bytes a sample, 4 where the device has single precision."""
        times = NOW + 83_333 * np.arange(12_000)
        assert size(chunk(times, self.noise)) < 8.01
        assert size(chunk(times, self.noise.astype(np.float32))) < 4.01
        assert size(chunk(times, np.round(1000 * self.noise) + 0.0)) < 2.01

    def test_rounded_times(self) -> None:
        """12 kHz is no whole number of nanoseconds: one byte more."""
        times = NOW + np.round(np.arange(12_000) * 1e9 / 12_000)
        assert size(chunk(times, self.noise)) < 9.01

    def test_blocks_with_gaps(self) -> None:
        """Ten blocks a second, each a little late, of a regular clock: runs, not a byte a time."""
        times = np.concatenate(
            [NOW + n * 10**8 + n**3 + 83_333 * np.arange(1200) for n in range(10)]
        )
        assert size(chunk(times, self.noise, counts=[1200] * 10)) < 8.03

    def test_a_hundred_tags_polled_together(self) -> None:
        """Once a second, or ten times: less than a byte beside the value."""
        for polls in (1, 10):
            times = np.repeat(NOW + np.arange(polls) * 10**8, 100)
            made = chunk(
                times,
                self.noise[: 100 * polls],
                counts=[1] * 100 * polls,
                tags=list(range(100)) * polls,
                arrived_ns=times,
            )
            assert size(made) < 9

    def test_a_hundred_tags_by_themselves(self) -> None:
        """Times in milliseconds, arrivals to the nanosecond, each its own: 15 bytes a sample."""
        generator = np.random.default_rng(1)
        made = chunk(
            NOW + 10**6 * generator.integers(0, 1000, 100),
            self.noise[:100],
            counts=[1] * 100,
            tags=range(100),
            arrived_ns=NOW + np.sort(generator.integers(0, 10**9, 100)),
        )
        assert size(made) < 15


class TestDamage:
    whole = chunk(
        NOW + np.arange(60) ** 2,
        np.linspace(0, 1, 60),
        counts=[20, 40],
        quality=[192] * 30 + [0] * 30,
        tags=[1, 2],
        texts={1: "part 7"},
    )

    @given(st.integers(0, 1), st.integers(0, 1 << 16), st.integers(1, 255))
    def test_one_wrong_byte(self, which: int, place: int, change: int) -> None:
        """Wherever it is, the checksum tells."""
        parts = [bytearray(part) for part in encode(self.whole)]
        parts[which][place % len(parts[which])] ^= change
        with pytest.raises(DataError, match="damaged"):
            decode(bytes(parts[0]), bytes(parts[1]))

    @given(st.binary(max_size=60), st.binary(max_size=60))
    def test_noise(self, pieces: bytes, samples: bytes) -> None:
        """Told as damaged, also where the checksum is made to fit."""
        check = zlib.crc32(samples, zlib.crc32(pieces)).to_bytes(4, "little")
        for end in (b"", check):
            try:
                found = decode(pieces, samples + end)
            except DataError:
                continue
            assert len(found.times_ns) == found.counts.sum() <= MOST_SAMPLES

    @given(st.data())
    def test_sound_checksum_over_wrong_bytes(self, data: st.DataObject) -> None:
        """What a hand changed and signed anew is refused, or is a chunk; nothing else happens."""
        pieces, samples = (bytearray(part) for part in encode(self.whole))
        part = data.draw(st.sampled_from([pieces, samples]))
        place = data.draw(st.integers(0, len(part) - 5))
        part[place] = data.draw(st.integers(0, 255))
        samples[-4:] = zlib.crc32(samples[:-4], zlib.crc32(pieces)).to_bytes(4, "little")
        try:
            found = decode(bytes(pieces), bytes(samples))
        except DataError:
            return
        assert len(found.values) == found.counts.sum()

    @pytest.mark.parametrize(
        "pieces",
        [
            b"\xff\xff\xff\xff\x0f",  # four thousand million pieces
            b"\x00",
            b"\x01\x00\x02\x00\xfe\xff\xff\xff\x1f\x00\x00",  # of one, 2^32 samples
            b"\x02\x07\x00",
        ],
    )
    def test_claims_without_bytes(self, pieces: bytes) -> None:
        """No room is made for what is only announced."""
        with pytest.raises(DataError, match="damaged"):
            tally(pieces)
