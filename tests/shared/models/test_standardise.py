# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from fedmill_shared.models.spec import ModelSpec
from fedmill_shared.models.standardise import Standardise


def layer(*, regime_signals: tuple[int, ...] = (), regimes: int = 1) -> Standardise:
    """A layer over four signals of which 0 and 3 are inputs."""
    return Standardise(
        ModelSpec(
            signals=4,
            inputs=(0, 3),
            regime_signals=regime_signals,
            regimes=regimes,
            length=5,
            outputs=1,
            regression=True,
        )
    )


class TestStandardise:
    def test_global(self) -> None:
        """Input signals are selected, centred and scaled."""
        standardise = layer()
        standardise.mean.copy_(torch.tensor([[10.0, 1.0]]))
        standardise.inverse_scale.copy_(torch.tensor([[0.5, 4.0]]))
        windows = torch.tensor([[[12.0] * 5, [7.0] * 5, [7.0] * 5, [2.0] * 5]])
        assert standardise(windows).tolist() == [[[1.0] * 5, [4.0] * 5]]

    def test_regime_brute_force(self) -> None:
        """Each sample takes the statistics of its own nearest centroid, as in plain loops."""
        generator = np.random.default_rng(1)
        standardise = layer(regime_signals=(1, 2), regimes=3)
        mean, inverse = generator.normal(size=(2, 3, 2)).astype(np.float32)
        centroids = generator.normal(size=(3, 2)).astype(np.float32)
        inverse_resolution = np.array([1.0, 0.1], np.float32)
        for name, value in (
            ("mean", mean),
            ("inverse_scale", inverse),
            ("centroids", centroids),
            ("inverse_resolution", inverse_resolution),
        ):
            getattr(standardise, name).copy_(torch.from_numpy(value))
        windows = generator.normal(size=(4, 4, 5)).astype(np.float32)
        expected = np.zeros((4, 2, 5), np.float32)
        seen = set()
        for window in range(4):
            for sample in range(5):
                point = windows[window, [1, 2], sample]
                distance = (((point - centroids) * inverse_resolution) ** 2).sum(1)
                regime = int(distance.argmin())
                seen.add(regime)
                for place, signal in enumerate((0, 3)):
                    value = windows[window, signal, sample] - mean[regime, place]
                    expected[window, place, sample] = value * inverse[regime, place]
        np.testing.assert_array_equal(standardise(torch.from_numpy(windows)).numpy(), expected)
        assert seen == {0, 1, 2}

    def test_resolution_decides(self) -> None:
        """A signal with a coarse resolution counts for less: altitude in feet beside Mach."""
        standardise = layer(regime_signals=(1, 2), regimes=2)
        standardise.centroids.copy_(torch.tensor([[0.0, 0.84], [1000.0, 0.20]]))
        standardise.inverse_resolution.copy_(torch.tensor([1 / 1000.0, 1 / 0.02]))
        windows = torch.tensor([0.0, 900.0, 0.83, 0.0]).reshape(1, 4, 1)
        assert standardise.regime_of(windows).tolist() == [[0]]

    def test_large_mean_keeps_its_digits(self) -> None:
        """A deviation of 1 at a mean of 3 million survives: centre first, then scale."""
        standardise = layer()
        standardise.mean.fill_(3_000_000.0)
        standardise.inverse_scale.fill_(0.7)
        windows = torch.full((1, 4, 5), 3_000_000.25)
        expected = pytest.approx(0.25 * 0.7, rel=1e-6)
        assert standardise(windows)[0, 0, 0].item() == expected

    def test_silenced_signal(self) -> None:
        """A constant signal gives exactly zero, even where it is off its mean."""
        standardise = layer()
        standardise.inverse_scale.copy_(torch.tensor([[0.0, 1.0]]))
        assert not standardise(torch.full((2, 4, 5), 518.67))[:, 0].any()

    def test_a_jump_of_a_still_sensor_is_limited(self) -> None:
        """One step of a sensor that never moved in training cannot drown the others."""
        standardise = layer()
        standardise.inverse_scale.copy_(torch.tensor([[1e6, 1.0]]))
        windows = torch.tensor([[[0.01] * 5, [0.0] * 5, [0.0] * 5, [-19.0] * 5]])
        assert standardise(windows).tolist() == [[[20.0] * 5, [-19.0] * 5]]
