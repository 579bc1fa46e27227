# SPDX-License-Identifier: Apache-2.0
"""Alarms of principal components name the signals that they come from."""

import numpy as np
import pytest
from tests.shared.monitoring.kit import Line, job_of, windows_of

from fedmill_agent.explaining.explanation import UNEXPLAINED
from fedmill_agent.monitoring.explaining import MOST_CAUSES, ComponentsExplainer
from fedmill_shared.signals.windows import Window


@pytest.fixture(scope="module")
def line() -> Line:
    """A job after one round."""
    found = Line.start(job_of(inputs="mean"))
    found.round(windows_of(1, 500))
    return found


def window(values: np.ndarray) -> Window:
    """One window (3, 4)."""
    return Window("run", "pump 1", 0, 3, np.asarray(values, np.float32), 1.0, 0)


class TestExplain:
    @pytest.mark.parametrize(("position", "name"), [*enumerate(["pressure", "flow", "current"])])
    def test_the_signal_that_moved(self, line: Line, position: int, name: str) -> None:
        """In one sentence, with shares of the whole: none acts together with another."""
        values = windows_of(2, 1)[0]
        values[position] += 5.0
        explainer = ComponentsExplainer(line.job, lambda: (line.model.manifest, line.vector))
        explainer.note(window(values))
        found = explainer.explain(window(values), [])
        assert found.text.startswith(f"{name} carries ")
        assert found.causes[0].signal == name
        assert len(found.causes) <= MOST_CAUSES
        assert "act together" not in found.text

    def test_a_score_of_nothing(self, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
        """No signal carries it, and none acts together with another."""
        module = "fedmill_agent.monitoring.explaining.contributions"
        monkeypatch.setattr(module, lambda *_: [[("pressure", 0.0), ("flow", 0.0)]])
        explainer = ComponentsExplainer(line.job, lambda: (line.model.manifest, line.vector))
        found = explainer.explain(window(windows_of(2, 1)[0]), [])
        assert (found.text, found.causes) == ("no single signal explains it", ())

    def test_before_the_first_version(self, line: Line) -> None:
        """Nothing can be said."""
        explainer = ComponentsExplainer(line.job, lambda: None)
        assert explainer.explain(window(windows_of(2, 1)[0]), []) == UNEXPLAINED
