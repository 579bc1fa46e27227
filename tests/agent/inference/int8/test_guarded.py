# SPDX-License-Identifier: Apache-2.0
"""Two sessions that are used like one."""

import numpy as np
import pytest
from tests.agent.inference.int8.stand import LENGTH, a_convolving_job, session_of, values
from tests.agent.kit import Versions

from fedmill_agent.inference.int8.guarded import GuardedSession, Limits
from fedmill_agent.inference.runtime import Runtime
from fedmill_shared.errors import ModelError
from fedmill_shared.onnx_session import OnnxSession

LIMITS = Limits(np.array([-2.0], np.float32), np.array([2.0], np.float32))


def quiet(count: int) -> np.ndarray:
    """Windows within the limits."""
    return np.clip(values(count), -2.0, 2.0)


@pytest.fixture
def both() -> tuple[OnnxSession, OnnxSession]:
    """Two sessions that say different things: they stand for int8 and float32."""
    one, other = Versions(a_convolving_job()), Versions(a_convolving_job())
    other.advance(scale=0.6)
    return session_of(one), session_of(other)


class TestRun:
    def test_within_int8_beyond_float32(self, both: tuple[OnnxSession, OnnxSession]) -> None:
        """All windows of a call go one way."""
        int8, plain = both
        session = GuardedSession(int8, plain, LIMITS)
        np.testing.assert_array_equal(session.run(quiet(5)), int8.run(quiet(5)))
        for loud in (3.0, -3.0, np.nan):
            given = quiet(5)
            given[3, 0, 7] = loud
            np.testing.assert_array_equal(session.run(given), plain.run(given))
        assert (session.calls, session.beyond) == (4, 3)

    def test_by_bound_buffers(self, both: tuple[OnnxSession, OnnxSession]) -> None:
        """What stands in the buffer at the call decides, not what stood there when it was bound."""
        int8, plain = both
        runtime = Runtime(GuardedSession(int8, plain, LIMITS), 4)
        for given, expected in (
            (quiet(4), int8),
            (quiet(4) + np.float32(5.0), plain),
            (quiet(4), int8),
        ):
            outputs, features = runtime.infer(list(given), features=True)
            np.testing.assert_allclose(outputs, expected.run(given), rtol=1e-5, atol=1e-6)
            assert (features is None) == (plain.features is None)

    @pytest.mark.parametrize("shape", [(0, 1, LENGTH), (2, LENGTH), (2, 1, 7)])
    def test_other_windows_are_met_as_ever(
        self, both: tuple[OnnxSession, OnnxSession], shape: tuple[int, ...]
    ) -> None:
        """None, or of another shape: the float32 session says what it always said."""
        session = GuardedSession(*both, LIMITS)
        given = np.zeros(shape, np.float32)
        if shape[0] == 0:
            assert session.run(given).shape == (0, 2)
        else:
            with pytest.raises(ModelError, match="windows are float32"):
                session.run(given)
