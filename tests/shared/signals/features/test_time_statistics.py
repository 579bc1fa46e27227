# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from scipy import stats

from fedmill_shared.job.features import STATISTICS
from fedmill_shared.signals.features.time_statistics import time_statistics


def of(*rows: list[float]) -> dict[str, list[float]]:
    """Statistics of one window of these signals, by name."""
    found = time_statistics(np.array([rows], np.float64))[0]
    assert found.shape == (len(rows), len(STATISTICS))
    return dict(zip(STATISTICS, found.T.tolist(), strict=True))


class TestTimeStatistics:
    @pytest.mark.parametrize("law", ["normal", "exponential", "uniform"])
    def test_equal_scipy(self, law: str) -> None:
        """Moments of noise of three shapes, far from zero."""
        values = 40.0 + getattr(np.random.default_rng(1), law)(size=(3, 2, 500))
        found = dict(zip(STATISTICS, np.moveaxis(time_statistics(values), 2, 0), strict=True))
        np.testing.assert_allclose(found["mean"], values.mean(axis=2), rtol=1e-12)
        np.testing.assert_allclose(found["deviation"], stats.tstd(values, axis=2, ddof=0))
        np.testing.assert_allclose(found["rms"], stats.pmean(values, 2, axis=2))
        np.testing.assert_allclose(found["skewness"], stats.skew(values, axis=2), rtol=1e-9)
        kurtosis = stats.kurtosis(values, axis=2, fisher=False)
        np.testing.assert_allclose(found["kurtosis"], kurtosis, rtol=1e-9)

    def test_by_hand(self) -> None:
        """A square wave, and one impulse among four zeros."""
        found = of([1, -1, 1, -1, 1], [0, 0, -5, 0, 0])
        assert found["peak"] == [1, 5]
        assert found["rms"] == [1, np.sqrt(5.0)]
        assert found["crest"] == [1, np.sqrt(5.0)]
        assert found["impulse"] == [1, 5]
        assert found["mean"] == pytest.approx([0.2, -1])
        assert found["skewness"] == pytest.approx([-0.408248, -1.5], rel=1e-6)

    def test_a_sine(self) -> None:
        """Closed forms: rms 1/sqrt(2), kurtosis 3/2, crest sqrt(2)."""
        found = of(np.sin(2 * np.pi * 5 * np.arange(1000) / 1000).tolist())
        assert found["rms"][0] == pytest.approx(np.sqrt(0.5))
        assert found["kurtosis"][0] == pytest.approx(1.5)
        assert found["crest"][0] == pytest.approx(np.sqrt(2), rel=1e-4)
        assert found["skewness"][0] == pytest.approx(0, abs=1e-12)

    @pytest.mark.parametrize("level", [0.0, 0.1, -273.15, 1e30])
    def test_a_constant_has_no_shape(self, level: float) -> None:
        """Rounding of its mean is no deviation whose third power means anything."""
        found = of([level] * 7)
        assert (found["skewness"], found["kurtosis"]) == ([0], [0])
        assert found["peak"] == [abs(level)]
        assert found["crest"] == pytest.approx([1 if level else 0])
        assert found["impulse"] == pytest.approx([1 if level else 0])

    def test_impacts_are_seen(self) -> None:
        """A few strong samples in noise raise kurtosis and crest, and hardly the rms."""
        noise = np.random.default_rng(2).normal(size=2000)
        struck = noise.copy()
        struck[::400] += 12.0
        found = of(noise.tolist(), struck.tolist())
        assert found["kurtosis"][0] == pytest.approx(3, abs=0.3)
        assert found["kurtosis"][1] > 2 * found["kurtosis"][0]
        assert found["rms"][1] < 1.3 * found["rms"][0]
