# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.codec import CODECS
from fedmill_shared.codec.base import Vector
from fedmill_shared.codec.feedback import carry, compensate
from fedmill_shared.codec.frame import FrameHeader, encode_frame
from fedmill_shared.errors import ModelError


def _vector(*numbers: float) -> Vector:
    return np.array(numbers, np.float32)


def _coarse(compensated: Vector) -> Vector:
    """A biased codec: whole numbers, rounded towards zero."""
    return np.trunc(compensated).astype(np.float32)


class TestFeedback:
    def test_literal_round(self) -> None:
        """0.75 sent as 0 leaves 0.75; with the next 0.75 it is sent as 1 and leaves 0.5."""
        first = compensate(_vector(0.75, 2.0), None)
        residual = carry(first, _coarse(first))
        assert residual.tolist() == [0.75, 0.0]
        second = compensate(_vector(0.75, 2.0), residual)
        assert _coarse(second).tolist() == [1.0, 2.0]
        assert carry(second, _coarse(second)).tolist() == [0.5, 0.0]

    @given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=20))
    def test_nothing_is_lost(self, quarters: list[int]) -> None:
        """What was decoded plus the last residual is the sum of all deltas, exactly."""
        residual, received = _vector(0), _vector(0)
        for delta in quarters:
            compensated = compensate(_vector(delta / 4), residual)
            decoded = _coarse(compensated)
            received += decoded
            residual = carry(compensated, decoded)
        assert received[0] + residual[0] == sum(quarters) / 4
        assert abs(residual[0]) < 1

    def test_refused_update_keeps_the_old_residual(self) -> None:
        """Inputs are never changed, so not committing is doing nothing."""
        delta, residual = _vector(0.5), _vector(0.25)
        compensated = compensate(delta, residual)
        carry(compensated, _coarse(compensated))
        assert (delta.tolist(), residual.tolist()) == ([0.5], [0.25])

    def test_first_delta_is_a_copy(self) -> None:
        """Without a residual the result still is the caller's own array."""
        delta = _vector(1)
        compensate(delta, None)[0] = 5
        assert delta[0] == 1

    @pytest.mark.parametrize("operation", [compensate, carry])
    def test_residual_of_another_model(self, operation: Callable[[Vector, Vector], Vector]) -> None:
        """A residual of another size is refused with the remedy."""
        with pytest.raises(ModelError, match="drop the stored residual"):
            operation(_vector(1, 2), _vector(1))

    def test_overflow_is_refused_at_the_frame(self) -> None:
        """A residual that outgrows float32 raises no warning here and is never sent."""
        largest = float(np.finfo(np.float32).max)
        compensated = compensate(_vector(largest), _vector(largest))
        header = FrameHeader(content="delta", round=1, schema="00" * 8)
        with pytest.raises(ModelError, match="infinity"):
            encode_frame(CODECS["int8"], compensated, header, np.random.default_rng(0))
