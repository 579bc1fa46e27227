# SPDX-License-Identifier: Apache-2.0
import struct
from contextlib import suppress

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from fedmill_shared.errors import FrameError
from fedmill_shared.tensors import ELEMENT_LIMIT, pack_tensor, unpack_tensor

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
NUMBERS = st.floats(width=32)


def _packed(shape: object, data: object = b"") -> bytes:
    return msgspec.msgpack.encode({"shape": shape, "data": data})


class TestRoundTrip:
    @given(array=hnp.arrays(np.float32, SHAPES, elements=NUMBERS))
    def test_same_bits(self, array: NDArray[np.float32]) -> None:
        """Any shape, empty and scalar ones too; infinities and NaN keep their bits."""
        result = unpack_tensor(pack_tensor(array))
        assert result.shape == array.shape
        assert result.dtype == np.float32
        assert result.tobytes() == array.tobytes()

    def test_literal(self) -> None:
        """Little endian, row by row, whatever the array's own order is."""
        array = np.array([[1.0, -2.0]], np.float32)
        expected = b"\x82\xa5shape\x92\x01\x02\xa4data\xc4\x08" + struct.pack("<2f", 1.0, -2.0)
        assert pack_tensor(array) == expected
        assert pack_tensor(array.T.copy().T) == expected
        assert pack_tensor(array.astype(">f4")) == expected


class TestRefusal:
    @given(data=st.binary(max_size=64))
    def test_foreign_bytes(self, data: bytes) -> None:
        """FrameError, or an array."""
        with suppress(FrameError):
            assert unpack_tensor(data).dtype == np.float32

    def test_truncated(self) -> None:
        """At every byte."""
        data = pack_tensor(np.ones((2, 3), np.float32))
        for length in range(len(data)):
            with pytest.raises(FrameError, match="tensor"):
                unpack_tensor(data[:length])

    @given(
        shape=st.lists(st.integers(-2, 3) | st.integers(-(1 << 63), (1 << 64) - 1), max_size=10),
        size=st.integers(0, 64),
    )
    def test_any_shape_that_is_claimed(self, shape: list[int], size: int) -> None:
        """Only a shape that fits the bytes and numpy passes; nothing else is ever raised."""
        try:
            array = unpack_tensor(_packed(shape, bytes(size)))
        except FrameError:
            return
        assert array.nbytes == size
        assert list(array.shape) == shape

    @pytest.mark.parametrize(
        ("shape", "message"),
        [
            ([ELEMENT_LIMIT + 1], "is not possible"),
            ([1 << 13, 1 << 14], "is not possible"),
            ([0, 1 << 62], "is not possible"),
            ([0, (1 << 64) - 1], "is not possible"),
            ([-1, -1], "is not possible"),
            ([1] * 9, "is not possible"),
            ([2, 3], "has 0 bytes"),
            ([], "has 0 bytes"),
            ("2, 3", "cannot be decoded"),
            ([1.5], "cannot be decoded"),
            (None, "cannot be decoded"),
        ],
    )
    def test_hostile_shape(self, shape: object, message: str) -> None:
        """Refused before anything of that size is made."""
        with pytest.raises(FrameError, match=message):
            unpack_tensor(_packed(shape))

    def test_too_deep(self) -> None:
        """A hundred thousand lists in each other."""
        with pytest.raises(FrameError, match="cannot be decoded"):
            unpack_tensor(b"\x81\xa1x" + b"\x91" * 100_000)
