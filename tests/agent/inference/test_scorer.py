# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from tests.agent.kit import LENGTH, Versions

from fedmill_agent.inference.scorer import Scorer
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import ModelError
from fedmill_shared.onnx_session import OnnxSession
from fedmill_shared.signals.windows import Window


def windows(count: int, length: int = LENGTH) -> list[Window]:
    """Windows with random values."""
    values = np.random.default_rng(0).normal(size=(count, 1, length)).astype(np.float32)
    return [Window("run", "unit", n, n + 7, value, 1.0, n) for n, value in enumerate(values)]


class TestScore:
    def test_nothing_before_the_first_version(self) -> None:
        """Windows pass unscored."""
        scorer = Scorer(ManualClock())
        assert scorer.score(windows(3)) == []
        assert (scorer.scored, scorer.version) == (0, "")

    def test_outputs_are_those_of_the_model(self) -> None:
        """One prediction for each window, with run, end, version and time; torch agrees."""
        versions, clock = Versions(), ManualClock()
        scorer = Scorer(clock)
        session = OnnxSession.from_template(versions.architecture.template, versions.newest.vector)
        scorer.swap("v0", session)
        given = windows(5)
        found = scorer.score(given)
        versions.architecture.model.load(versions.newest.vector)
        expected = versions.architecture.model.predict(np.stack([w.values for w in given]))
        np.testing.assert_allclose([p.outputs for p in found], expected, atol=1e-5)
        assert [(p.run, p.end_ns, p.version) for p in found] == [
            ("run", n + 7, "v0") for n in range(5)
        ]
        assert {p.scored_ns for p in found} == {clock.now_ns()}
        assert scorer.scored == 5
        assert scorer.score([]) == []

    def test_windows_of_another_length_are_refused(self) -> None:
        """They are not counted as scored."""
        versions = Versions()
        scorer = Scorer(ManualClock())
        session = OnnxSession.from_template(versions.architecture.template, versions.newest.vector)
        scorer.swap("v0", session)
        with pytest.raises(ModelError, match="windows are float32"):
            scorer.score(windows(1, length=9))
        assert scorer.scored == 0
