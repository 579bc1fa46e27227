# SPDX-License-Identifier: Apache-2.0
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from fedmill_shared.codec.base import Section, Vector
from fedmill_shared.codec.int8 import BLOCK, INT8
from fedmill_shared.errors import FrameError

LARGEST = np.finfo(np.float32).max
SMALLEST = np.finfo(np.float32).smallest_subnormal
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
VECTORS = hnp.arrays(np.float32, st.integers(0, 30), elements=FINITE)


def _encode(vector: Sequence[float] | NDArray[np.floating], seed: int = 0) -> list[Section]:
    return INT8.encode(np.asarray(vector, np.float32), np.random.default_rng(seed), 0)


def _through(vector: Sequence[float] | NDArray[np.floating], seed: int = 0) -> Vector:
    return INT8.decode(_encode(vector, seed), len(vector), 0)


def _scales_of(vector: Sequence[float] | NDArray[np.floating]) -> NDArray[np.float64]:
    return np.frombuffer(_encode(vector)[0].data, "<f4").astype(np.float64)


def _foreign(scale: float = 1.0, values: bytes = b"\x01") -> list[Section]:
    return [Section("scales", np.float32(scale).tobytes()), Section("values", values)]


class TestRounding:
    def test_literal_numbers(self) -> None:
        """With 127 as the largest magnitude the scale is 1, and whole numbers are exact."""
        scales, values = _encode([127, -127, 0, 3, -64])
        assert scales == Section("scales", np.float32(1).tobytes())
        assert values == Section("values", np.array([127, -127, 0, 3, -64], np.int8).tobytes())

    def test_between_two_steps_both_neighbours_occur(self) -> None:
        """2.25 steps become 2 in three of four cases, and 3 else."""
        vector = np.full(4096, 2.25)
        vector[0] = 127
        values, counts = np.unique(_through(vector)[1:], return_counts=True)
        assert values.tolist() == [2.0, 3.0]
        assert abs(counts[1] / 4095 - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 4095)

    def test_mean_of_many_encodings_is_the_vector(self) -> None:
        """No bias: within 5 standard errors of the mean for each of 200 elements."""
        vector = np.random.default_rng(5).laplace(size=200).astype(np.float32)
        mean = np.mean([_through(vector, seed) for seed in range(2000)], axis=0, dtype=np.float64)
        scale = _scales_of(vector)[0]
        fraction = np.mod(vector / scale, 1)
        error = scale * np.sqrt(fraction * (1 - fraction) / 2000)
        assert (np.abs(mean - vector) <= 5 * error + 1e-5 * scale).all()

    def test_sum_over_a_large_vector_is_kept(self) -> None:
        """The error of the sum grows like the square root of the elements."""
        vector = np.random.default_rng(6).normal(size=100_000).astype(np.float32)
        error = float((_through(vector).astype(np.float64) - vector).sum())
        assert abs(error) < 5 * 0.5 * _scales_of(vector).max() * np.sqrt(100_000)

    @given(VECTORS, st.integers(0, 2**32))
    def test_error_is_at_most_one_step(self, vector: Vector, seed: int) -> None:
        """|x - decoded x| <= scale, from the smallest to the largest floats."""
        error = np.abs(_through(vector, seed).astype(np.float64) - vector)
        assert (error <= _scales_of(vector).sum() * (1 + 1e-5)).all()

    @given(VECTORS)
    def test_zeros_and_extremes_are_exact(self, vector: Vector) -> None:
        """Zero stays zero; the largest magnitude is hit within float32's precision."""
        decoded = _through(vector)
        assert not decoded[vector == 0].any()
        if vector.size and np.abs(vector).max() > 1e-30:
            peak = np.abs(vector).argmax()
            assert decoded[peak] == pytest.approx(float(vector[peak]), rel=1e-6)

    @given(hnp.arrays(np.float32, st.integers(1, 20), elements=st.floats(0, 2**-130, width=32)))
    def test_denormals(self, vector: Vector) -> None:
        """Blocks of numbers below float32's normal range keep the error bound."""
        error = np.abs(_through(vector).astype(np.float64) - vector)
        assert (error <= _scales_of(vector)[0]).all()

    @pytest.mark.parametrize("value", [LARGEST, -LARGEST, SMALLEST, -SMALLEST, 1.0, 0.0])
    def test_single_element(self, value: float) -> None:
        """One element is its own largest magnitude and survives."""
        assert _through([value])[0] == pytest.approx(float(value), rel=1e-6)

    def test_largest_floats_stay_finite(self) -> None:
        """No rounding of the scale may decode to infinity."""
        decoded = _through(np.full(10, LARGEST))
        assert np.isfinite(decoded).all()


class TestBlocks:
    @pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK])
    def test_sizes_around_a_block(self, size: int) -> None:
        """Sections have one scale per started block and one byte per element."""
        scales, values = _encode(np.ones(size))
        assert (len(scales.data), len(values.data)) == (4 * -(-size // BLOCK), size)
        assert len(scales.data) + len(values.data) == INT8.bound(size)
        assert np.allclose(_through(np.ones(size)), 1, rtol=1e-6)

    def test_each_block_has_its_own_scale(self) -> None:
        """A loud block does not drown its quiet neighbour."""
        vector = np.concatenate([np.full(BLOCK, 1e6), np.full(BLOCK, 1e-6), [0.0]])
        assert np.allclose(_through(vector), vector, rtol=1e-6, atol=0)

    def test_zero_blocks_decode_to_exact_zeros(self) -> None:
        """A block of zeros has scale zero."""
        vector = np.concatenate([np.zeros(BLOCK), np.ones(3)])
        assert _scales_of(vector)[0] == 0
        assert not _through(vector)[:BLOCK].any()


class TestForeignSections:
    @pytest.mark.parametrize("scale", [np.nan, np.inf, -np.inf, -1.0, LARGEST, LARGEST / 126])
    def test_scales_that_no_encoder_makes(self, scale: float) -> None:
        """A scale that is negative, not finite, or decodes to infinity is refused."""
        with pytest.raises(FrameError, match="scale"):
            INT8.decode(_foreign(scale), 1, 0)

    def test_value_outside_the_steps(self) -> None:
        """-128 is no step."""
        with pytest.raises(FrameError, match="-127"):
            INT8.decode(_foreign(values=b"\x80"), 1, 0)

    @pytest.mark.parametrize(
        "sections",
        [
            [],
            _foreign()[:1],
            _foreign()[::-1],
            _foreign() * 2,
            _foreign(values=b""),
            _foreign()[1:],
        ],
        ids=str,
    )
    def test_other_sections(self, sections: list[Section]) -> None:
        """Missing, swapped, doubled and short sections are refused."""
        with pytest.raises(FrameError, match="this codec has scales"):
            INT8.decode(sections, 1, 0)
