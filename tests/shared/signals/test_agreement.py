# SPDX-License-Identifier: Apache-2.0
"""Agents' statistics become the normaliser that pooling all their windows would give."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fedmill_shared.errors import DataError
from fedmill_shared.job import Job, Labels, Mlp, Signal, Task, Window
from fedmill_shared.models.normaliser import Normaliser
from fedmill_shared.signals.agreement import normaliser_of
from fedmill_shared.signals.moments import Moments, collect

LENGTH = 8
Windows = NDArray[np.float32]


def _job(normalise: Any = "global", *, regression: bool = False) -> Job:
    """Inputs at positions 0 and 2, the regime signal between them."""
    return Job(
        job=Task(name="press", task="regression" if regression else "classification"),
        signals=[
            Signal(name="force"),
            Signal(name="speed", role="regime", resolution=50.0),
            Signal(name="stroke"),
        ],
        window=Window(length=LENGTH, normalise=normalise),
        labels=Labels(classes=[] if regression else ["good", "bad"]),
        model=Mlp(hidden=[2, 2]),
    )


def _told(job: Job, windows: Windows, targets: NDArray[np.float64] | None = None) -> Moments:
    regimes = job.regimes if job.window.normalise == "regime" else []
    resolution = [job.signals[i].resolution for i in job.regimes]
    return collect(windows, job.inputs, regimes, resolution, targets)


def _plants(speeds: list[float], seed: int = 0) -> list[Windows]:
    """Windows of one plant for each speed; force and stroke depend on the speed."""
    generator = np.random.default_rng(seed)
    plants = []
    for i, speed in enumerate(speeds):
        windows = generator.normal(speed, 2.0 + i, (5 + 3 * i, 3, LENGTH)).astype(np.float32)
        windows[:, 1] = speed + generator.uniform(-5, 5, (len(windows), LENGTH))
        plants.append(windows)
    return plants


def _pooled(windows: Windows) -> tuple[list[float], list[float]]:
    values = windows.astype(np.float64)[:, [0, 2]]
    return values.mean(axis=(0, 2)).tolist(), values.std(axis=(0, 2)).tolist()


class TestGlobal:
    def test_equals_pooling(self) -> None:
        """Mean and deviation of all plants' samples in one place; regime signals play no part."""
        job, plants = _job(), _plants([100.0, 400.0, 1000.0])
        normaliser = normaliser_of(job, [_told(job, windows) for windows in plants])
        mean, scale = _pooled(np.concatenate(plants))
        assert normaliser.mean[0] == pytest.approx(mean, rel=1e-12)
        assert normaliser.scale[0] == pytest.approx(scale, rel=1e-9)
        assert (normaliser.centroids, normaliser.resolution) == (((),), ())
        assert (normaliser.target_offset, normaliser.target_scale) == (0.0, 1.0)
        normaliser.check(job)

    def test_targets_of_a_regression(self) -> None:
        """Pooled too; agents with many windows weigh more."""
        job, plants = _job(regression=True), _plants([100.0, 400.0])
        targets = [np.arange(10.0), np.full(20, 50.0)]
        told = [_told(job, *each) for each in zip(plants, targets, strict=True)]
        normaliser = normaliser_of(job, told)
        pooled = np.concatenate(targets)
        assert normaliser.target_offset == pytest.approx(pooled.mean())
        assert normaliser.target_scale == pytest.approx(pooled.std())
        normaliser.check(job)


class TestRegime:
    def test_each_condition_for_itself(self) -> None:
        """Two plants at 100, one at 1000: two regimes, each with its plants' pooled statistics."""
        job, plants = _job("regime"), _plants([100.0, 1000.0, 100.0])
        normaliser = normaliser_of(job, [_told(job, windows) for windows in plants])
        slow, fast = np.concatenate([plants[0], plants[2]]), plants[1]
        for regime, windows in enumerate((slow, fast)):
            mean, scale = _pooled(windows)
            assert normaliser.mean[regime] == pytest.approx(mean, rel=1e-9)
            assert normaliser.scale[regime] == pytest.approx(scale, rel=1e-9)
            centroid = float(windows[:, 1].astype(np.float64).mean())
            assert normaliser.centroids[regime] == pytest.approx((centroid,))
        assert normaliser.resolution == (50.0,)
        normaliser.check(job)


class TestNone:
    def test_inputs_are_left_alone(self) -> None:
        """But a regression's target still gets its unit: a network cannot start far from it."""
        job = _job("none", regression=True)
        (windows,) = _plants([100.0])
        normaliser = normaliser_of(job, [_told(job, windows, np.arange(10.0))])
        assert normaliser == Normaliser(
            mean=((0.0, 0.0),),
            scale=((1.0, 1.0),),
            target_offset=4.5,
            target_scale=pytest.approx(8.25**0.5),
        )
        normaliser.check(job)


class TestOrder:
    def test_any_order_gives_the_same(self) -> None:
        """Up to rounding: reports come in the order of the network."""
        job = _job("regime")
        told = [_told(job, windows) for windows in _plants([100.0, 400.0, 1000.0, 410.0])]
        first, again = normaliser_of(job, told), normaliser_of(job, told[::-1])
        np.testing.assert_allclose(first.mean, again.mean, rtol=1e-12)
        np.testing.assert_allclose(first.scale, again.scale, rtol=1e-9)
        np.testing.assert_allclose(first.centroids, again.centroids, rtol=1e-12)


class TestRefusal:
    @pytest.mark.parametrize("told", [[], [Moments([])]])
    def test_nobody_told_anything(self, told: list[Moments]) -> None:
        """The remedy names the setting that needs no statistics."""
        with pytest.raises(DataError, match=r"window\.normalise"):
            normaliser_of(_job(), told)

    def test_reports_that_do_not_fit_together(self) -> None:
        """One agent still has the job of yesterday, with a signal less."""
        job, (windows,) = _job(), _plants([100.0])
        with pytest.raises(DataError, match="different jobs"):
            normaliser_of(job, [_told(job, windows), collect(windows[:, :2], [0], [], [])])
