# SPDX-License-Identifier: Apache-2.0
"""A session with its buffers gives what the session gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.agent.kit import LENGTH, Versions

from fedmill_agent.inference import runtime as module
from fedmill_agent.inference.runtime import Runtime
from fedmill_shared.errors import ModelError
from fedmill_shared.onnx_session import OnnxSession


@pytest.fixture(scope="module")
def session() -> OnnxSession:
    """A model of the kit's job."""
    versions = Versions()
    return OnnxSession.from_template(versions.architecture.template, versions.newest.vector)


def windows(count: int, length: int = LENGTH) -> list[np.ndarray]:
    """Random values, each window an array of its own."""
    return list(np.random.default_rng(count).normal(size=(count, 1, length)).astype(np.float32))


class TestInfer:
    @given(counts=st.lists(st.integers(1, 20), min_size=1, max_size=4), batch=st.integers(1, 8))
    @settings(max_examples=25)
    def test_any_number_in_any_batch(
        self, session: OnnxSession, counts: list[int], batch: int
    ) -> None:
        """The outputs are those of one call with all windows, call after call."""
        runtime = Runtime(session, batch)
        for count in counts:
            given_windows = windows(count)
            outputs, features = runtime.infer(given_windows)
            np.testing.assert_allclose(outputs, session.run(np.stack(given_windows)), atol=1e-5)
            assert features is None

    def test_results_are_no_buffers(self, session: OnnxSession) -> None:
        """What was said stays as it was when the next windows are scored."""
        runtime = Runtime(session, 2)
        first, told = runtime.infer(windows(3), features=True)
        before = first.copy()
        assert told is not None
        features = told.copy()
        runtime.infer([-each for each in windows(3)], features=True)
        np.testing.assert_array_equal(first, before)
        np.testing.assert_array_equal(told, features)

    def test_features_are_those_of_the_windows(self, session: OnnxSession) -> None:
        """The same alone and among others, with the same outputs as without them."""
        runtime = Runtime(session, 2)
        outputs, features = runtime.infer(windows(5), features=True)
        plain, nothing = runtime.infer(windows(5))
        np.testing.assert_array_equal(outputs, plain)
        assert nothing is None
        assert features is not None
        assert features.shape == (5, session.features)
        for place, each in enumerate(windows(5)):
            _, alone = Runtime(session).infer([each], features=True)
            assert alone is not None
            np.testing.assert_allclose(alone[0], features[place], atol=1e-5)

    def test_windows_of_another_shape_are_refused(self, session: OnnxSession) -> None:
        """Also one among others, and one that would fit by repetition."""
        runtime = Runtime(session)
        for wrong in (
            windows(2, LENGTH + 1),
            [*windows(1), np.zeros((1, 1), np.float32)][::-1],
            [each.astype(np.float64) for each in windows(2)],
        ):
            with pytest.raises(ModelError):
                runtime.infer(wrong)
        assert len(runtime.infer(windows(2))[0]) == 2

    def test_buffers_are_bounded(
        self, session: OnnxSession, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of long windows only as many are scored at once as fit, but one at least."""
        monkeypatch.setattr(module, "MOST_BYTES", 3 * 4 * LENGTH)
        runtime = Runtime(session, 32)
        outputs, _ = runtime.infer(windows(8))
        assert len(runtime._windows) == 3
        np.testing.assert_allclose(outputs, session.run(np.stack(windows(8))), atol=1e-5)
        monkeypatch.setattr(module, "MOST_BYTES", 1)
        runtime = Runtime(session, 32)
        runtime.infer(windows(2))
        assert len(runtime._windows) == 1
