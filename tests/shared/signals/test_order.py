# SPDX-License-Identifier: Apache-2.0
"""Windows in equal steps of angle."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.interpolate import CubicHermiteSpline

from fedmill_shared.job import Cleaning, Features, Signal
from fedmill_shared.job import Window as WindowSettings
from fedmill_shared.job.features import channels
from fedmill_shared.signals import order
from fedmill_shared.signals.order import OrderTracker, interpolate
from fedmill_shared.signals.preparation import Preparation
from fedmill_shared.signals.quality import Fault
from fedmill_shared.signals.windows import Window

RATE = 8000.0
SIGNALS = [
    Signal(name="vibration", unit="g", rate_hz=RATE),
    Signal(name="speed", unit="rpm", rate_hz=RATE, role="regime"),
]


def run_up(samples: int, first_hz: float, last_hz: float) -> NDArray[np.float64]:
    """Shaft speed, Hz, that rises evenly."""
    return np.linspace(first_hz, last_hz, samples)


def angles(speed: NDArray[np.float64]) -> NDArray[np.float64]:
    """Revolutions since the first sample, by the exact integral of an even rise."""
    steps = (speed[1:] + speed[:-1]) / 2 / RATE
    return np.concatenate(([0.0], np.cumsum(steps)))


def tracker(**fields: Any) -> OrderTracker:
    """Of a vibration and a speed in rpm: 8 revolutions of 64 values unless told otherwise."""
    settings = {"order": "speed", "revolutions": 8, "per_revolution": 64, **fields}
    return OrderTracker.of(SIGNALS, WindowSettings(**settings))


def window(speed: NDArray[np.float64], *orders: float) -> NDArray[np.float32]:
    """A vibration with lines at these orders, and the speed in rpm."""
    turned = angles(speed)
    vibration = sum(np.sin(2 * np.pi * order * turned) for order in orders)
    return np.stack([vibration, 60 * speed]).astype(np.float32)


def shares(row: NDArray[np.float32]) -> NDArray[np.float64]:
    """How much of the power is in each bin of the spectrum."""
    power = np.abs(np.fft.rfft(row.astype(np.float64))) ** 2
    return power / power.sum()


class TestOrderTracker:
    @pytest.mark.parametrize("order", [1.0, 5.0, 12.5])
    def test_a_run_up_becomes_a_line(self, order: float) -> None:
        """From 20 to 60 Hz a tone of the shaft is a smear in time, and one line in orders."""
        values = window(run_up(4000, 20.0, 60.0), order)
        found = tracker().apply(values)
        assert found is not None
        assert found.shape == (2, 512)
        expected = np.sin(2 * np.pi * order * np.arange(512) / 64)
        np.testing.assert_allclose(found[0, 30:], expected[30:], atol=0.01)
        assert shares(found[0])[round(8 * order)] > 0.99
        assert shares(values[0]).max() < 0.3

    @pytest.mark.parametrize(("first", "last"), [(25.0, 25.0), (30.0, 50.0), (50.0, 22.0)])
    def test_the_same_at_every_speed(self, first: float, last: float) -> None:
        """What the shaft does looks alike, steady or up or down."""
        found = tracker().apply(window(run_up(4000, first, last), 3.0, 7.0))
        steady = tracker().apply(window(run_up(4000, 40.0, 40.0), 3.0, 7.0))
        assert found is not None
        assert steady is not None
        np.testing.assert_allclose(found[0, 30:-30], steady[0, 30:-30], atol=0.02)

    def test_nothing_folds_back(self) -> None:
        """Order 50 is above half of 64 values a revolution, and not to be seen as order 14."""
        values = window(run_up(4000, 20.0, 30.0), 2.0, 50.0)
        found = tracker().apply(values)
        assert found is not None
        expected = np.sin(2 * np.pi * 2.0 * np.arange(512) / 64)
        np.testing.assert_allclose(found[0, 30:], expected[30:], atol=0.005)

    def test_the_speed_at_each_angle(self) -> None:
        """Operating conditions are taken as they were, not filtered."""
        speed = run_up(4000, 20.0, 60.0)
        found = tracker().apply(window(speed, 1.0))
        assert found is not None
        expected = np.interp(np.arange(512) / 64, angles(speed), 60 * speed)
        assert np.abs(found[1] - expected).max() <= 60 * np.diff(speed).max() * 1.01
        switched = window(speed, 1.0)
        switched[1, 1000:] += 600.0
        found = tracker().apply(switched)
        assert found is not None
        assert set(found[1].tolist()) <= set(switched[1].tolist())

    def test_an_input_that_is_no_regime(self) -> None:
        """The speed may feed the network too; it is still taken as it was."""
        signals = [SIGNALS[0], Signal(name="speed", unit="Hz", rate_hz=RATE)]
        settings = WindowSettings(order="speed", revolutions=4, per_revolution=8)
        values = np.stack([np.ones(4000), np.full(4000, 25.0)]).astype(np.float32)
        found = OrderTracker.of(signals, settings).apply(values)
        assert found is not None
        assert found.tolist() == [[pytest.approx(1.0)] * 32, [25.0] * 32]

    def test_a_shaft_that_ends_at_the_last_value(self) -> None:
        """Rounding would take the last of 180 values away, at 2148 rpm and 1790 Hz exactly."""
        signals = [
            Signal(name="vibration", unit="g", rate_hz=1790.0),
            Signal(name="speed", unit="rpm", rate_hz=1790.0),
        ]
        settings = WindowSettings(order="speed", revolutions=36, per_revolution=5)
        values = np.stack([np.full(1791, 2.0), np.full(1791, 2148.0)]).astype(np.float32)
        found = OrderTracker.of(signals, settings).apply(values)
        assert found is not None
        assert found.shape == (2, 180)
        np.testing.assert_allclose(found[0], 2.0, rtol=1e-6)

    def test_a_shaft_that_starts_slowly_costs_no_memory(self) -> None:
        """Few values of many samples: the filter stays short, however slow the beginning."""
        speed = np.full(100_000, 0.05)
        speed[:1000] /= 50
        values = np.stack([np.ones(100_000), 60 * speed]).astype(np.float32)
        tracemalloc.start()
        try:
            found = tracker(revolutions=1, per_revolution=2).apply(values)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert found is not None
        assert most < 30 << 20

    @pytest.mark.parametrize("high", [3.4e38, 1e-45])
    def test_values_at_the_ends_of_float32(self, high: float) -> None:
        """The filter overshoots what 32 bits hold, and the model still gets numbers."""
        square = np.where(np.arange(4000) // 40 % 2, -high, high)
        values = np.stack([square, np.full(4000, 1500.0)]).astype(np.float32)
        found = tracker().apply(values)
        assert found is not None
        assert np.isfinite(found).all()

    def test_in_parts_as_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Points are interpolated in parts, and the bits are the same."""
        values = window(run_up(4000, 20.0, 60.0), 1.0, 7.0)
        whole = tracker().apply(values)
        monkeypatch.setattr(order, "_BLOCK", 7)
        parts = tracker().apply(values)
        assert whole is not None
        assert parts is not None
        assert parts.tobytes() == whole.tobytes()

    @pytest.mark.parametrize("unit", [("rpm", 1500.0), ("Hz", 25.0), ("rad/s", 50 * np.pi)])
    def test_units(self, unit: tuple[str, float]) -> None:
        """All the same speed."""
        signals = [SIGNALS[0], Signal(name="speed", unit=unit[0], rate_hz=RATE)]
        settings = WindowSettings(order="speed", revolutions=8, per_revolution=64)
        values = window(run_up(4000, 25.0, 25.0), 3.0)
        values[1] = unit[1]
        found = OrderTracker.of(signals, settings).apply(values)
        steady = tracker().apply(window(run_up(4000, 25.0, 25.0), 3.0))
        assert found is not None
        assert steady is not None
        np.testing.assert_allclose(found[0], steady[0], atol=1e-4)

    def test_exactly_enough(self) -> None:
        """Eight revolutions of 64 values end a step before the ninth begins."""
        speed = np.full(4001, RATE * (512 - 1) / 64 / 4000 * (1 + 1e-6))
        assert tracker().apply(window(speed, 1.0)) is not None
        assert tracker().apply(window(speed * 0.999, 1.0)) is None

    @pytest.mark.parametrize("speeds", [[0.0] * 4000, [25.0] * 300 + [0.0] * 3700, [-25.0] * 4000])
    def test_not_turning(self, speeds: list[float]) -> None:
        """At a standstill, or backwards, there is no angle to count."""
        values = np.stack([np.ones(4000), np.array(speeds) * 60]).astype(np.float32)
        assert tracker().apply(values) is None

    def test_stops_behind_what_is_needed(self) -> None:
        """A shaft that stands still after its eighth revolution was measured."""
        speed = np.where(np.arange(8000) < 3000, 25.0, 0.0)
        assert tracker().apply(window(speed, 1.0)) is not None

    def test_a_crawl_at_the_end_costs_no_memory(self) -> None:
        """However slow a sample is, points are no more than a few for each sample."""
        speed = np.full(4000, 30.0)
        speed[100] = 1e-9
        found = tracker().apply(window(speed, 1.0))
        assert found is not None
        assert np.isfinite(found).all()


class TestInterpolate:
    @given(st.integers(2, 30), st.integers(0, 99))
    def test_equals_scipy(self, count: int, seed: int) -> None:
        """A cubic with the slope of the neighbours at every sample (Catmull and Rom 1974)."""
        generator = np.random.default_rng(seed)
        values = generator.normal(size=(2, count))
        places = generator.uniform(0, count - 1, 50)
        padded = np.pad(values, ((0, 0), (1, 1)), mode="edge")
        slopes = (padded[:, 2:] - padded[:, :-2]) / 2
        spline = CubicHermiteSpline(np.arange(count), values, slopes, axis=1)
        np.testing.assert_allclose(interpolate(values, places), spline(places), atol=1e-9)

    def test_at_the_samples(self) -> None:
        """They are met exactly, the last one too."""
        values = np.random.default_rng(0).normal(size=(1, 9))
        assert interpolate(values, np.arange(9.0)).tobytes() == values.tobytes()

    @pytest.mark.parametrize(("frequency", "most"), [(0.1, 0.005), (0.2, 0.051), (0.25, 0.1)])
    def test_how_exact(self, frequency: float, most: float) -> None:
        """As its documentation says."""
        places = np.arange(100, 3900, 0.37)
        wave = np.sin(2 * np.pi * frequency * np.arange(4000))[None]
        error = interpolate(wave, places)[0] - np.sin(2 * np.pi * frequency * places)
        assert np.abs(error).max() < most


class TestPrepared:
    SETTINGS = WindowSettings(length=4000, order="speed", revolutions=8, per_revolution=64)

    def window(self, values: NDArray[np.float32]) -> Window:
        """As the windower gives it."""
        return Window("run", "unit", 5, 10, values, 1.0, 3)

    def test_in_orders(self) -> None:
        """The window keeps its times, and has the length that the model takes."""
        preparation = Preparation.of(SIGNALS, Cleaning(), self.SETTINGS, Features())
        found = preparation.apply(self.window(window(run_up(4000, 20.0, 60.0), 5.0)))
        assert found.usable
        assert found.window.values.shape == (2, 512)
        assert (found.window.start_ns, found.window.end_ns, found.window.index) == (5, 10, 3)

    def test_too_few_revolutions(self) -> None:
        """The speed is to blame."""
        preparation = Preparation.of(SIGNALS, Cleaning(), self.SETTINGS, Features())
        found = preparation.apply(self.window(window(run_up(4000, 5.0, 6.0), 5.0)))
        assert not found.usable
        assert (found.codes[1] == Fault.SLOW).all()
        assert found.window.values.shape == (2, 4000)

    def test_bands_of_orders(self) -> None:
        """Features come behind it: order 5 is in the band of its name, whatever the speed."""
        features = Features(steps=["log_spectrum"], bands=16)
        preparation = Preparation.of(SIGNALS, Cleaning(), self.SETTINGS, features)
        rows = [row.name for row in channels(SIGNALS, self.SETTINGS, features)]
        for last in (20.0, 30.0, 60.0):
            found = preparation.apply(self.window(window(run_up(4000, 20.0, last), 5.0)))
            assert found.window.values.shape == (17, 1)
            loudest = int(found.window.values[:16].argmax())
            assert rows[loudest] == "vibration.spectrum_4-6_orders"
        assert rows[16] == "speed"
