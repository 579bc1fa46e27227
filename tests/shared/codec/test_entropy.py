# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.codec.entropy import deflate, inflate
from fedmill_shared.errors import FrameError


class TestInflate:
    @given(st.binary(max_size=5000))
    def test_round_trip(self, data: bytes) -> None:
        """Every byte string comes back."""
        assert inflate(deflate(data), len(data)) == data

    @pytest.mark.parametrize("length", [0, 99, 101])
    def test_other_length_than_claimed(self, length: int) -> None:
        """More or fewer bytes than the section table names are refused."""
        with pytest.raises(FrameError, match=f"its {length} bytes"):
            inflate(deflate(b"a" * 100), length)

    def test_bytes_behind_the_end(self) -> None:
        """Nothing can hide behind the deflated data."""
        with pytest.raises(FrameError, match="does not stand for"):
            inflate(deflate(b"abc") + b"\0", 3)

    def test_missing_end(self) -> None:
        """A stream without its end mark is refused even if all its bytes came out."""
        packed = deflate(b"abc" * 100)
        with pytest.raises(FrameError, match="does not stand for"):
            inflate(packed[:-1], 300)

    def test_not_deflate_at_all(self) -> None:
        """Block type 3 does not exist."""
        with pytest.raises(FrameError, match="corrupt"):
            inflate(b"\xff" * 10, 5)
