# SPDX-License-Identifier: Apache-2.0
"""Vibration of a rig with a damaged bearing.

Impacts modulated by the load zone and ringing structural resonances: P. D. McFadden, J. D. Smith,
Model for the vibration produced by a single point defect in a rolling element bearing, J. Sound
Vib. 96 (1984) 69-82. Random slip that accumulates from impact to impact: R. B. Randall, J. Antoni,
Rolling element bearing diagnostics - a tutorial, Mech. Syst. Signal Process. 25 (2011) 485-520.
"""

from dataclasses import dataclass
from math import ceil, log, pi, sqrt

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.sources.rig.kinematics import BEARING_6205, Bearing, Fault

Signal = NDArray[np.float64]

SLIP = 0.01  # standard deviation of the spacing of impacts, Randall & Antoni: 1-2 %
_SPREAD = 0.1  # standard deviation of the strength of impacts
_SWAY = 0.002  # relative amplitude of the slow change of speed
_SHAFT = ((1, 0.05), (2, 0.02), (3, 0.008))  # order, amplitude in g at 1800 rpm
_SILENT = 1e-4  # a resonance that has decayed to this part of its peak has ended
_BLOCK = 2**19


@dataclass(frozen=True, slots=True)
class Rig:
    """A rig and its sensor.

    Attributes:
        bearing: geometry of the bearing.
        severity: peak of one impact at full load, g.
        speed_rpm: shaft speed, revolutions per minute.
        load: radial load, 1 is the rated one.
        resonance_hz: structural resonances.
        damping: damping ratio of the resonances.
        noise_g: standard deviation of the noise, g.
        sensor_gain: what the sensor shows for 1 g.
    """

    bearing: Bearing = BEARING_6205
    severity: float = 1.0
    speed_rpm: float = 1797.0
    load: float = 1.0
    resonance_hz: tuple[float, ...] = (2800.0, 4100.0)
    damping: float = 0.05
    noise_g: float = 0.05
    sensor_gain: float = 1.0


def simulate(rig: Rig, fault: Fault, count: int, rate_hz: float, seed: int) -> Signal:
    """Acceleration as the sensor shows it: float64 (1, count), in g times ``sensor_gain``.

    Noise, speed and impacts are drawn independently, so that two faults with one seed differ only
    in their impacts.

    Args:
        rig: the rig.
        fault: which part is damaged.
        count: number of samples.
        rate_hz: samples per second; the resonances are below half of it.
        seed: the same seed gives the same signal.
    """
    speed, impacts, noise = (np.random.default_rng([seed, i]) for i in range(3))
    turns = _turns(rig.speed_rpm / 60.0, count, rate_hz, speed)
    signal = rig.noise_g * noise.standard_normal(count)
    for order, amplitude in _SHAFT:
        # the force of an unbalance grows with the square of the speed
        grown = amplitude * (rig.speed_rpm / 1800.0) ** 2
        signal += grown * np.cos(2 * pi * (order * turns + speed.random()))
    if fault != "normal":
        at, strength = _impacts(rig, fault, turns, impacts)
        _ring(signal, at, strength, rig, rate_hz)
    return (rig.sensor_gain * signal)[np.newaxis]


def load_zone(turns: Signal, load: float) -> Signal:
    """Share of the largest rolling element load at an angle of ``turns`` from the load's direction.

    Stribeck's distribution ``(1 - (1 - cos(angle)) / (2 e))^1.5`` as used by McFadden & Smith; the
    zone's width ``e`` grows with the load from 0.2 towards 0.5, that is half of the ring.
    """
    width = 0.5 * (0.2 + load) / (0.5 + load)
    share: Signal = np.maximum(1.0 - (1.0 - np.cos(2 * pi * turns)) / (2.0 * width), 0.0) ** 1.5
    return share


def _turns(shaft_hz: float, count: int, rate_hz: float, rng: "np.random.Generator") -> Signal:
    """Angle of the shaft at every sample, in revolutions; the speed sways slowly."""
    time = np.arange(count) / rate_hz
    turns: Signal = shaft_hz * time
    for sway_hz in rng.uniform(0.05, 0.5, 3):
        phase = 2 * pi * (sway_hz * time + rng.random())
        turns += _SWAY * shaft_hz / (2 * pi * sway_hz) * np.sin(phase)
    turns -= turns[0]
    return turns


def _impacts(
    rig: Rig, fault: Fault, turns: Signal, rng: "np.random.Generator"
) -> tuple[Signal, Signal]:
    """Sample positions (not whole) of the impacts, and their strengths in g."""
    order = rig.bearing.impacts(fault)
    expected = ceil(turns[-1] * order * 1.05) + 100
    spacing = np.maximum(1.0 + SLIP * rng.standard_normal(expected), 0.1)
    angle = (np.cumsum(spacing) - rng.random()) / order
    angle = angle[angle < turns[-1]]
    strength = (
        rig.severity * (0.5 + 0.5 * rig.load) * (1.0 + _SPREAD * rng.standard_normal(angle.size))
    )
    if fault == "inner":
        strength *= load_zone(angle, rig.load)
    elif fault == "ball":
        strength *= load_zone(rig.bearing.cage * angle, rig.load)
    return np.interp(angle, turns, np.arange(turns.size, dtype=np.float64)), strength


def _ring(signal: Signal, at: Signal, strength: Signal, rig: Rig, rate_hz: float) -> None:
    """Add the decaying sinusoids that every impact starts in every resonance, in place."""
    share = strength / len(rig.resonance_hz)
    first = np.ceil(at).astype(np.int64)
    for resonance in rig.resonance_hz:
        natural = 2 * pi * resonance
        decay, ringing = rig.damping * natural, natural * sqrt(1.0 - rig.damping**2)
        length = min(ceil(-log(_SILENT) / decay * rate_hz), signal.size)
        ahead = np.arange(length)
        block = max(1, _BLOCK // length)
        for start in range(0, at.size, block):
            part = slice(start, start + block)
            place = first[part, np.newaxis] + ahead  # (impacts, length)
            time = (place - at[part, np.newaxis]) / rate_hz
            ring = share[part, np.newaxis] * np.exp(-decay * time) * np.sin(ringing * time)
            heard = place < signal.size
            np.add.at(signal, place[heard], ring[heard])
