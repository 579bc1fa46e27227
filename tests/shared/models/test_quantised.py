# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedmill_shared.errors import FrameError, ModelError
from fedmill_shared.models import quantised as module
from fedmill_shared.models.quantised import (
    FULL_LEVELS,
    Quantised,
    Scales,
    bind,
    pack_quantised,
    scales_layout,
    unpack_quantised,
)

FORM = Quantised(template=b"graph", ranges=b"other graph", points=2)
NUMBERS = st.floats(-(2.0**40), 2.0**40, width=32)


def scales(**changes: object) -> Scales:
    """Sound ones for ``FORM``, or not."""
    fields: dict[str, object] = {
        "scale": np.array([0.5, 0.25], np.float32),
        "zero": np.array([0, 128], np.uint8),
        "levels": FULL_LEVELS,
    }
    return Scales(**(fields | changes))  # type: ignore[arg-type]


class TestScales:
    @given(arrays(np.float32, 7, elements=NUMBERS), arrays(np.float32, 7, elements=NUMBERS))
    def test_hold_the_range(self, one: np.ndarray, other: np.ndarray) -> None:
        """Every value of the range is stored within a step, and zero as itself."""
        low, high = np.minimum(one, other), np.maximum(one, other)
        found = Scales.of_ranges(low, high)
        assert (found.scale > 0).all()
        scale, zero = found.scale.astype(np.float64), found.zero.astype(np.float64)
        for value in (low, high, (low.astype(np.float64) + high) / 2, np.zeros(7)):
            stored = np.clip(np.rint(value / scale) + zero, 0, 255)
            assert (np.abs((stored - zero) * scale - value) <= 1.001 * scale).all()

    def test_of_what_never_moves(self) -> None:
        """An activation that is always zero has a scale all the same."""
        found = Scales.of_ranges(np.zeros(3, np.float32), np.zeros(3, np.float32))
        assert (found.scale > 0).all()
        assert (found.zero == 0).all()

    def test_after_a_relu_zero_is_the_lowest(self) -> None:
        """So that the runtime may drop the ReLU: it does nothing that the range does not."""
        found = Scales.of_ranges(np.array([0.0], np.float32), np.array([9.0], np.float32))
        assert found.zero[0] == 0

    @given(st.integers(1, 300))
    def test_layout_has_neither_gap_nor_overlap(self, points: int) -> None:
        """Levels, scales and zero points lie one behind the other."""
        end = 0
        for offset, length in sorted(scales_layout(points).values()):
            assert offset == end
            end = offset + length
        assert end == 4 + 5 * points


class TestBinding:
    @pytest.mark.parametrize(
        "damaged",
        [
            {"scale": np.array([0.5], np.float32)},
            {"zero": np.array([0, 1, 2], np.uint8)},
            {"scale": np.array([0.5, np.nan], np.float32)},
            {"scale": np.array([0.5, 0.0], np.float32)},
            {"scale": np.array([0.5, -1.0], np.float32)},
            {"scale": np.array([0.5, np.inf], np.float32)},
            {"scale": np.array([0.5, 0.5])},
            {"zero": np.array([0, 1], np.int8)},
            {"levels": 0},
            {"levels": 128},
        ],
    )
    def test_damaged_scales_are_refused(self, damaged: dict[str, object]) -> None:
        """Too few, too many, no numbers, of another type: nothing is made of them."""
        with pytest.raises(ModelError, match="int8"):
            bind(FORM, np.zeros(3, np.float32), scales(**damaged))

    def test_a_foreign_graph_is_refused(self) -> None:
        """What is no ONNX is told as such."""
        with pytest.raises(ModelError, match="cannot be loaded"):
            bind(FORM, np.zeros(3, np.float32), scales())


class TestBlob:
    def test_comes_back(self) -> None:
        """Both graphs and the number of points."""
        assert unpack_quantised(pack_quantised(FORM)) == FORM

    @given(st.binary(max_size=200))
    def test_noise_is_refused(self, noise: bytes) -> None:
        """Whatever comes, it is a frame error or a form."""
        try:
            found = unpack_quantised(noise)
        except FrameError:
            return
        assert found.points > 0

    @pytest.mark.parametrize("points", [0, -1, 10_001])
    def test_impossible_points(self, points: int) -> None:
        """No activation, or more than any model has."""
        blob = pack_quantised(Quantised(template=b"", ranges=b"", points=points))
        with pytest.raises(FrameError, match="quantised activations"):
            unpack_quantised(blob)

    def test_too_large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is not even decoded."""
        monkeypatch.setattr(module, "QUANTISED_LIMIT", 10)
        with pytest.raises(FrameError, match="exceeds 10"):
            unpack_quantised(pack_quantised(FORM))
