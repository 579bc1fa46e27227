# SPDX-License-Identifier: Apache-2.0
"""The bench of int8: its targets, and a small real run."""

import numpy as np
import pytest
from tests.bench import int8 as bench
from tests.laboratory.recordings import Recording


def recording(fault: str, tone: float) -> Recording:
    """Windows of one tone in noise."""
    generator = np.random.default_rng(int(100 * tone))

    def windows(count: int) -> np.ndarray:
        sound = np.sin(tone * np.arange(2048)) + generator.normal(0, 0.3, (count, 1, 2048))
        return sound.astype(np.float32)

    return Recording(fault, 0, windows(64), windows(20))


class TestTargets:
    @pytest.mark.parametrize(
        ("norm", "batch", "target"),
        [("none", 32, "<= 0.9"), ("batch", 32, "<= 0.9"), ("batch", 1, None), ("group", 32, None)],
    )
    def test_time_is_limited_where_int8_pays(
        self, norm: bench.Norm, batch: int, target: str | None
    ) -> None:
        """One window, or convolutions between float32 norms, are only reported."""
        assert bench.limited("it", 0.5, norm, batch).target == target
        assert bench.limited("it", 1.5, norm, batch).ok == (target is None)

    def test_a_small_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two tones are told apart in float32 and in int8; the int8 template is the larger one."""
        monkeypatch.setattr(bench, "compared", lambda *_: (2.0, 1.0))
        found = {
            each.name: each
            for each in bench.figures("none", [recording("a", 0.3), recording("b", 1.1)], rounds=6)
        }
        assert found["none: accuracy float32"].value == 100
        assert found["none: accuracy lost"].ok
        assert found["none: the same class"].value >= 97.5
        assert found["none: template int8"].value > found["none: template float32"].value
        assert found["none: 32 windows: int8"].value == 1000
        assert found["none: 32 windows: int8 / float32"].value == 0.5
