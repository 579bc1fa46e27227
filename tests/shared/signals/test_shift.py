# SPDX-License-Identifier: Apache-2.0
import json
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.errors import ModelError
from fedmill_shared.job import Features, Job, Labels, Signal, Task, Window
from fedmill_shared.models.manifest import Manifest, Tensor
from fedmill_shared.models.normaliser import Normaliser
from fedmill_shared.signals import shift
from fedmill_shared.signals.shift import SignalShift, shift_of

ONE = Normaliser(mean=((10.0, -2.0),), scale=((2.0, 0.5),))
TWO = Normaliser(
    mean=((10.0, -2.0), (100.0, 0.0)),
    scale=((2.0, 0.5), (20.0, 0.5)),
    centroids=((600.0,), (1500.0,)),
    resolution=(100.0,),
)


def _job(normalise: Any = "global") -> Job:
    return Job(
        job=Task(name="press", task="classification"),
        signals=[
            Signal(name="force"),
            Signal(name="speed", role="regime", resolution=100.0),
            Signal(name="stroke"),
        ],
        window=Window(length=4, normalise=normalise),
        labels=Labels(classes=["good", "bad"]),
    )


def _version(normaliser: Normaliser) -> tuple[Manifest, np.ndarray]:
    """A layout with one weight before the statistics, and a vector with them."""
    regimes, signals = len(normaliser.resolution), 2
    shapes: dict[str, tuple[int, ...]] = {
        "standardise.mean": (normaliser.regimes, signals),
        "standardise.inverse_scale": (normaliser.regimes, signals),
    }
    if regimes:
        shapes["standardise.centroids"] = (normaliser.regimes, regimes)
        shapes["standardise.inverse_resolution"] = (regimes,)
    tensors = [Tensor("head.bias", (3,), 0, "head")]
    for name, shape in shapes.items():
        tensors.append(Tensor(name, shape, tensors[-1].offset + tensors[-1].size, "buffer"))
    manifest = Manifest(tuple(tensors))
    vector = np.full(manifest.size, 7.0, np.float32)
    normaliser.write(manifest, vector)
    return manifest, vector


def _windows(force: np.ndarray, speed: float, stroke: np.ndarray) -> np.ndarray:
    """Windows (n, 3, 4) of the samples."""
    speeds = np.full(force.size, speed)
    return np.stack([force, speeds, stroke]).reshape(3, -1, 4).transpose(1, 0, 2).astype(np.float32)


def _told(
    windows: np.ndarray, normaliser: Normaliser = ONE, normalise: Any = "global"
) -> dict[str, tuple[float, float]]:
    found = shift_of(_job(normalise), *_version(normaliser), windows)
    return {each.signal: (each.mean_sigmas, each.spread_ratio) for each in found}


FORCE = np.array([10.0, 14.0] * 4)
STROKE = np.array([-3.0, -3.5] * 4)

FEATURED = Job(
    job=Task(name="press"),
    signals=[Signal(name="force"), Signal(name="stroke")],
    window=Window(length=4),
    features=Features(steps=["time_statistics"]),
    labels=Labels(classes=["good", "bad"]),
)


class TestLiteral:
    def test_global(self) -> None:
        """Mean 12 is one deviation above 10, spread as the fleet's; mean -3.25 is 2.5 below."""
        told = _told(_windows(FORCE, 600.0, STROKE))
        assert told == {
            "force": pytest.approx((1.0, 1.0)),
            "stroke": pytest.approx((-2.5, 0.5)),
        }

    def test_each_sample_by_its_condition(self) -> None:
        """At 1400 rpm the fleet's force is 100 +- 20, so 10 and 14 are 4.4 deviations below."""
        told = _told(_windows(FORCE, 1400.0, STROKE), TWO, "regime")
        assert told["force"] == pytest.approx(((12 - 100) / 20, 0.1))
        told = _told(_windows(FORCE, 700.0, STROKE), TWO, "regime")
        assert told["force"] == pytest.approx((1.0, 1.0))

    def test_a_window_may_pass_through_conditions(self) -> None:
        """Half of the samples here, half there; both as the fleet has them."""
        low = _windows(np.array([8.0, 12.0] * 4), 600.0, np.full(8, -2.0))
        high = _windows(np.array([80.0, 120.0] * 4), 1500.0, np.full(8, 0.0))
        mixed = np.concatenate([low[:, :, :2], high[:, :, :2]], axis=2)
        told = _told(np.concatenate([mixed, mixed]), TWO, "regime")
        assert told["force"] == pytest.approx((0.0, 1.0))

    def test_a_stuck_sensor_has_no_spread(self) -> None:
        """And is as far off as where it is stuck."""
        told = _told(_windows(np.full(8, 22.0), 600.0, STROKE))
        assert told["force"] == (6.0, 0.0)


class TestLeftOut:
    def test_jobs_that_do_not_normalise(self) -> None:
        """Their deviations are none of the fleet's."""
        assert _told(_windows(FORCE, 600.0, STROKE), normalise="none") == {}

    def test_signals_that_are_constant_in_the_fleet(self) -> None:
        """There is nothing to count in."""
        still = Normaliser(mean=((10.0, -2.0),), scale=((0.0, 0.5),))
        assert list(_told(_windows(FORCE, 600.0, STROKE), still)) == ["stroke"]

    def test_a_condition_in_which_a_signal_is_constant(self) -> None:
        """Samples of the other condition are told."""
        still = msgspec.structs.replace(TWO, scale=((0.0, 0.5), (20.0, 0.5)))
        windows = np.concatenate(
            [_windows(FORCE, 600.0, STROKE), _windows(10 * FORCE, 1500.0, STROKE)]
        )
        assert _told(windows, still, "regime")["force"] == pytest.approx((1.0, 1.0))
        assert list(_told(windows[:2], still, "regime")) == ["stroke"]

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
    def test_samples_that_are_no_measurements(self, bad: float) -> None:
        """In any signal; the rest of the window counts."""
        windows = _windows(
            np.append(FORCE, [14.0, 10.0, 10.0, 14.0]), 600.0, np.tile(STROKE, 2)[:12]
        )
        windows[2, 2, 0] = bad
        windows[2, 0, 1] = bad
        told = _told(windows)
        assert told["force"] == pytest.approx((1.0, 1.0))

    @pytest.mark.parametrize("count", [0, 4])
    def test_too_few_samples(self, count: int) -> None:
        """Fewer than eight would give single values away."""
        assert _told(_windows(FORCE[:count], 600.0, STROKE[:count])) == {}

    def test_foreign_vector(self) -> None:
        """It must be the manifest's."""
        manifest, vector = _version(ONE)
        with pytest.raises(ModelError, match="manifest wants"):
            shift_of(_job(), manifest, vector[:-1], _windows(FORCE, 600.0, STROKE))


class TestArithmetic:
    @given(
        samples=st.lists(st.floats(-1e6, 1e6, width=32), min_size=8, max_size=64).filter(
            lambda values: len(values) % 4 == 0
        ),
    )
    def test_pooled_samples(self, samples: list[float]) -> None:
        """Mean and population deviation of all standardised samples at once."""
        force = np.array(samples)
        told = _told(_windows(force, 600.0, np.zeros(force.size)))["force"]
        standardised = (force - 10.0) / 2.0
        assert told == pytest.approx((standardised.mean(), standardised.std()), rel=1e-9, abs=1e-6)

    def test_blocks_combine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Window by window the same as all at once."""
        generator = np.random.default_rng(1)
        windows = generator.normal(50.0, 20.0, (40, 3, 4)).astype(np.float32)
        windows[:, 1] = generator.choice([600.0, 1500.0], (40, 4))
        whole = _told(windows, TWO, "regime")
        monkeypatch.setattr(shift, "_BLOCK", 1)
        parts = _told(windows, TWO, "regime")
        assert list(whole) == list(parts)
        for name, told in whole.items():
            assert parts[name] == pytest.approx(told, rel=1e-12)

    def test_a_large_offset_keeps_its_digits(self) -> None:
        """A pressure of 300 kPa that hardly moves."""
        far = Normaliser(mean=((3e5, -2.0),), scale=((0.5, 0.5),))
        told = _told(_windows(np.array([3e5, 3e5 + 1] * 4), 600.0, STROKE), far)
        assert told["force"] == pytest.approx((1.0, 1.0))


class TestSignalShift:
    def test_travels_as_json(self) -> None:
        """As text for people to read, and back."""
        told = SignalShift("force", 6.2, 0.9)
        data = msgspec.json.encode(told)
        assert json.loads(data) == {"signal": "force", "mean_sigmas": 6.2, "spread_ratio": 0.9}
        assert msgspec.json.decode(data, type=SignalShift) == told

    def test_real_manifest(self, make_version: Callable[..., Any]) -> None:
        """The layer's names are those of the network."""
        job, manifest, vector = make_version(_job("regime"), TWO)
        windows = _windows(FORCE, 1400.0, STROKE)
        found = shift_of(job, manifest, vector, windows)
        assert [each.signal for each in found] == ["force", "stroke"]
        assert found[0].mean_sigmas == pytest.approx(-4.4)


@pytest.fixture
def make_version() -> Callable[..., Any]:
    """Version 0 of a job."""
    from fedmill_shared.models import build, initial_vector, manifest_of

    def make(job: Job, normaliser: Normaliser) -> tuple[Job, Manifest, np.ndarray]:
        manifest = manifest_of(build(job, 0, regimes=normaliser.regimes))
        return job, manifest, initial_vector(job, normaliser, 0)

    return make


class TestFeatures:
    def test_the_signal_that_it_comes_from(self) -> None:
        """Of its features the one that is furthest away; the wire knows signals, not features."""
        rows = len(FEATURED.channels)
        lying = Normaliser(mean=((0.0,) * rows,), scale=((1.0,) * rows,))
        manifest = Manifest(
            (
                Tensor("standardise.mean", (1, rows), 0, "buffer"),
                Tensor("standardise.inverse_scale", (1, rows), rows, "buffer"),
            )
        )
        vector = np.zeros(manifest.size, np.float32)
        lying.write(manifest, vector)
        windows = np.random.default_rng(0).normal(size=(4000, rows, 1)).astype(np.float32)
        windows[:, 3] += 2.0  # force.peak
        windows[:, rows - 1] *= 8.0  # stroke.impulse
        force, stroke = shift_of(FEATURED, manifest, vector, windows)
        assert (force.signal, stroke.signal) == ("force", "stroke")
        assert force.mean_sigmas == pytest.approx(2.0, abs=0.1)
        assert force.spread_ratio == pytest.approx(1.0, abs=0.1)
        assert stroke.spread_ratio == pytest.approx(8.0, rel=0.1)
