# SPDX-License-Identifier: Apache-2.0
"""The simulated bearing test rig."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from scipy.signal import hilbert

from fedmill_agent.sources.base import Event, LabelInterval, RunEnded, Samples
from fedmill_agent.sources.rig import Bearing, Fault, Rig, RigOptions, read, simulate
from fedmill_agent.sources.rig.vibration import load_zone
from fedmill_shared.errors import DataError

RATE = 12_000.0


def envelope_spectrum(signal: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies and power of the envelope of ``signal`` (n,) band-passed to low..high Hz.

    Power is summed over 2 Hz, because slip and the swaying speed spread every line.
    """
    spectrum = np.fft.rfft(signal)
    frequency = np.fft.rfftfreq(signal.size, 1 / RATE)
    spectrum[(frequency < low) | (frequency > high)] = 0
    envelope = np.abs(hilbert(np.fft.irfft(spectrum, signal.size)))
    power = np.abs(np.fft.rfft(envelope - envelope.mean())) ** 2
    return frequency, np.convolve(power, np.ones(round(2.0 / frequency[1])), "same")


def strongest(frequency: np.ndarray, amplitude: np.ndarray, low: float, high: float) -> float:
    """Frequency of the largest line between low and high Hz."""
    band = (frequency > low) & (frequency < high)
    return float(frequency[band][amplitude[band].argmax()])


def events(tags: list[str], **options: object) -> list[Event]:
    """All events of a simulated recording."""
    return list(read(RigOptions(name="rig1", **options), tags, RATE))


class TestKinematics:
    def test_published_orders_of_the_6205(self) -> None:
        """The CWRU data centre lists 3.5848, 5.4152, 0.39828 and 4.7135 for this bearing."""
        bearing = Bearing()
        assert bearing.outer == pytest.approx(3.5848, abs=2e-4)
        assert bearing.inner == pytest.approx(5.4152, abs=2e-4)
        assert bearing.cage == pytest.approx(0.39828, abs=1e-4)
        assert bearing.impacts("ball") == pytest.approx(4.7135, abs=5e-4)

    @pytest.mark.parametrize("angle", [0.0, 15.0, 40.0])
    def test_identities(self, angle: float) -> None:
        """Balls pass both races as often as there are balls, whatever the contact angle."""
        bearing = Bearing(balls=12, ball_mm=10.0, pitch_mm=60.0, contact_degrees=angle)
        assert bearing.outer + bearing.inner == pytest.approx(12)
        assert bearing.outer == pytest.approx(12 * bearing.cage)
        assert bearing.impacts("normal") == 0.0


class TestSimulate:
    @pytest.mark.parametrize("fault", ["outer", "inner", "ball"])
    @pytest.mark.parametrize("speed_rpm", [1797.0, 1200.0])
    def test_envelope_shows_the_fault(self, fault: Fault, speed_rpm: float) -> None:
        """The largest envelope line above the shaft's is at the closed-form frequency."""
        rig = Rig(speed_rpm=speed_rpm)
        signal = simulate(rig, fault, 120_000, RATE, seed=3)[0]
        shaft = speed_rpm / 60
        expected = rig.bearing.impacts(fault) * shaft
        frequency, power = envelope_spectrum(signal, 2000.0, 5000.0)
        found = strongest(frequency, power, 2.5 * shaft, 6.5 * shaft)
        assert found == pytest.approx(expected, rel=0.01)
        floor = np.median(power[(frequency > 50) & (frequency < 200)])
        assert power[frequency == found] > 10 * floor

    @pytest.mark.parametrize(("fault", "order"), [("inner", 1.0), ("ball", Bearing().cage)])
    def test_load_zone_modulates(self, fault: Fault, order: float) -> None:
        """Inner race damage turns with the shaft, ball damage with the cage."""
        signal = simulate(Rig(), fault, 120_000, RATE, seed=4)[0]
        frequency, power = envelope_spectrum(signal, 2000.0, 5000.0)
        expected = order * 1797 / 60
        found = strongest(frequency, power, 0.6 * expected, 1.5 * expected)
        assert found == pytest.approx(expected, rel=0.02)

    def test_healthy_rig_shows_its_shaft(self) -> None:
        """Without damage the shaft is the largest line, with the amplitude of its unbalance."""
        rig = Rig(speed_rpm=1800.0, noise_g=0.01)
        amplitude = np.abs(np.fft.rfft(simulate(rig, "normal", 120_000, RATE, seed=5)[0])) / 60_000
        frequency = np.fft.rfftfreq(120_000, 1 / RATE)
        assert strongest(frequency, amplitude, 1.0, 6000.0) == pytest.approx(30.0, abs=0.5)
        near = np.abs(frequency - 30.0) < 2.0
        assert np.sqrt(np.sum(amplitude[near] ** 2)) == pytest.approx(0.05, rel=0.1)

    def test_resonances_are_excited(self) -> None:
        """Energy of the impacts lies around the resonance."""
        rig = Rig(resonance_hz=(3300.0,), noise_g=0.0, damping=0.03)
        spectrum = np.abs(np.fft.rfft(simulate(rig, "outer", 60_000, RATE, seed=6)[0]))
        frequency = np.fft.rfftfreq(60_000, 1 / RATE)
        smooth = np.convolve(spectrum**2, np.ones(500), "same")
        assert strongest(frequency, smooth, 500.0, 5900.0) == pytest.approx(3300.0, rel=0.05)

    def test_one_impact_is_a_decaying_sinusoid(self) -> None:
        """A single ring agrees with its closed form, from a start between two samples."""
        rig = Rig(resonance_hz=(1000.0,), damping=0.1, noise_g=0.0)
        with_fault = simulate(rig, "outer", 400, RATE, seed=7)[0]
        ring = with_fault - simulate(rig, "normal", 400, RATE, seed=7)[0]
        time = np.arange(400) / RATE
        natural = 2 * np.pi * 1000.0
        ringing = natural * np.sqrt(1 - 0.1**2)
        first = np.flatnonzero(ring)[0]
        errors = []
        for start in np.linspace(time[first] - 1 / RATE, time[first], 501):
            late = np.maximum(time - start, 0.0)
            shape = np.exp(-0.1 * natural * late) * np.sin(ringing * late)
            part = slice(first, first + 60)
            scale = ring[part] @ shape[part] / (shape[part] @ shape[part])
            errors.append((np.abs(ring[part] - scale * shape[part]).max(), scale))
        error, scale = min(errors)
        assert error < 0.01
        assert scale == pytest.approx(1.0, abs=0.4)

    @pytest.mark.parametrize("fault", ["normal", "inner"])
    def test_gain_is_linear(self, fault: Fault) -> None:
        """The sensor scales everything, noise included."""
        base = simulate(Rig(), fault, 5000, RATE, seed=8)
        gained = simulate(Rig(sensor_gain=2.5), fault, 5000, RATE, seed=8)
        np.testing.assert_allclose(gained, 2.5 * base, rtol=1e-12)

    def test_severity_is_linear_in_the_impacts(self) -> None:
        """Noise and shaft do not depend on the damage."""
        healthy = simulate(Rig(), "normal", 5000, RATE, seed=9)
        weak = simulate(Rig(severity=0.5), "ball", 5000, RATE, seed=9)
        strong = simulate(Rig(severity=2.0), "ball", 5000, RATE, seed=9)
        np.testing.assert_allclose(strong - healthy, 4 * (weak - healthy), atol=1e-12)
        none = simulate(Rig(severity=0.0), "ball", 5000, RATE, seed=9)
        np.testing.assert_array_equal(none, healthy)

    def test_seed_repeats(self) -> None:
        """One seed one signal, another seed another."""
        first, again, other = (simulate(Rig(), "outer", 2000, RATE, seed=s) for s in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert first.shape == (1, 2000)
        assert first.dtype == np.float64
        assert np.abs(first - other).max() > 0.01

    def test_block_size_does_not_matter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Rings are summed block by block to bound memory, with the same result."""
        whole = simulate(Rig(), "outer", 6000, RATE, seed=1)
        monkeypatch.setattr("fedmill_agent.sources.rig.vibration._BLOCK", 1)
        np.testing.assert_allclose(simulate(Rig(), "outer", 6000, RATE, seed=1), whole, atol=1e-12)

    def test_noise_has_its_deviation(self) -> None:
        """What the shaft leaves over is the noise."""
        quiet, loud = (simulate(Rig(noise_g=n), "normal", 50_000, RATE, 1) for n in (0.0, 0.3))
        assert (loud - quiet).std() == pytest.approx(0.3, rel=0.02)

    def test_load_strengthens_and_widens(self) -> None:
        """More load, stronger impacts and a wider load zone."""
        rms = [
            (simulate(replace(Rig(), load=load), "inner", 24_000, RATE, 1)).std()
            for load in (0.0, 1.0, 2.0)
        ]
        assert rms[0] < rms[1] < rms[2]
        angle = np.linspace(-0.5, 0.5, 2001)
        light, rated, heavy = (load_zone(angle, load) for load in (0.0, 1.0, 100.0))
        assert light.max() == rated.max() == heavy.max() == 1.0
        assert (light > 0).mean() < (rated > 0).mean() < (heavy > 0).mean() <= 0.5


class TestSource:
    def test_events_and_names(self) -> None:
        """The label is the fault, run and unit are the source's name."""
        found = events(["vibration"], fault="inner", seconds=1.0)
        shapes = [(e.run, e.unit, e.values.shape) for e in found if isinstance(e, Samples)]
        assert shapes == [("rig1", "rig1", (1, 8192)), ("rig1", "rig1", (1, 3808))]
        assert isinstance(found[-2], LabelInterval)
        assert found[-2].text == "inner"
        assert found[-1] == RunEnded("rig1")

    def test_options_reach_the_simulation(self) -> None:
        """What is configured is what `simulate` gets."""
        options = {"fault": "ball", "severity": 3.0, "speed_rpm": 900.0, "load": 0.5, "balls": 8}
        found = events(["vibration"], seconds=0.25, seed=5, label="worn", unit="u", **options)
        rig = Rig(Bearing(balls=8), severity=3.0, speed_rpm=900.0, load=0.5)
        assert isinstance(found[0], Samples)
        np.testing.assert_array_equal(found[0].values, simulate(rig, "ball", 3000, RATE, 5))
        assert found[0].unit == "u"
        assert isinstance(found[1], LabelInterval)
        assert found[1].text == "worn"

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"seconds": 1e6}, "12000000000 samples"),
            ({"seconds": 1e-9}, "0 samples"),
            ({"resonance_hz": [2000.0, 6000.0]}, "resonance of 6000 Hz cannot be seen at 12000"),
        ],
    )
    def test_impossible_recordings(self, options: dict[str, object], message: str) -> None:
        """Too long, too short, or not visible at the job's rate."""
        with pytest.raises(DataError, match=message):
            events(["vibration"], **options)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("ball_mm", 40.0),
            ("fault", "cage"),
            ("speed_rpm", 0.0),
            ("damping", 0.0),
            ("resonance_hz", []),
            ("seed", -1),
        ],
    )
    def test_options_are_checked(self, field: str, value: object) -> None:
        """The configuration is refused when it is read."""
        with pytest.raises(msgspec.ValidationError, match=field):
            msgspec.convert({"kind": "rig", "name": "x", field: value}, RigOptions)
