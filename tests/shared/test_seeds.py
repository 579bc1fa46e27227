# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.seeds import seed_for

PARTS = st.lists(st.integers(-9, 9) | st.text("abc-19", max_size=3), max_size=4)


class TestSeedFor:
    @pytest.mark.parametrize(
        ("parts", "seed"), [((), 724655455495936113), (("rig", 1, "press-1"), 6337741845150694614)]
    )
    def test_literal(self, parts: tuple[str | int, ...], seed: int) -> None:
        """The same on every machine and after every release (taken with ``sha256sum``)."""
        assert seed_for(*parts) == seed

    @given(left=PARTS, right=PARTS)
    def test_parts_are_separated(self, left: list[str | int], right: list[str | int]) -> None:
        """Equal seeds for equal texts, different ones for different."""
        # No part at all and one empty part are the same text.
        same = ([*map(str, left)] or [""]) == ([*map(str, right)] or [""])
        assert (seed_for(*left) == seed_for(*right)) is same

    @given(parts=PARTS)
    def test_fits_every_generator(self, parts: list[str | int]) -> None:
        """Numpy wants it not negative, torch within signed 64 bits."""
        assert 0 <= seed_for(*parts) < 1 << 63
