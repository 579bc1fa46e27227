# SPDX-License-Identifier: Apache-2.0
"""Streams of which it is known what changes when, and how drift is noticed in them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tests.bench.harness import Figure, at_most, figure

from fedmill_agent.drift.charts import Chart, calibrated
from fedmill_agent.drift.detector import Array
from fedmill_agent.drift.ewma import moments
from fedmill_shared.job import Job
from fedmill_shared.job_check import decode_job

CHANNELS, REFERENCE, RUN_LENGTH = 4, 500, 10_000
QUIET, LONGEST = 200, 3000
"""Windows before a change, and after it until it counts as missed."""
HINKLEY_SLACK, HINKLEY_LIMIT = 0.1, 12.0
ALLOWED = 1.3
JOB = """\
[job]
name = "synthetic"
[labels]
classes = ["good", "worn"]
[window]
length = 2
[model]
architecture = "mlp"
[drift]
watch = ["input"]
"""


@dataclass(frozen=True, slots=True)
class Shift:
    """What happens to the first channel from ``QUIET`` on: deviations added, and factor of it."""

    name: str
    mean: float = 0.0
    factor: float = 1.0
    ramp: int = 0


SHIFTS = (
    Shift("mean + 0.5 sigma", mean=0.5),
    Shift("mean + 1 sigma", mean=1.0),
    Shift("mean + 2 sigma", mean=2.0),
    Shift("variance x 2", factor=2.0**0.5),
    Shift("ramp of 2 sigma in 1000 windows", mean=2.0, ramp=1000),
)


def run(streams: int) -> list[Figure]:
    """False alarms on ``streams`` references of each kind, and delays on half as many."""
    found: list[Figure] = []
    for memory, name in ((0.0, "independent"), (0.5, "AR(1) 0.5"), (0.8, "AR(1) 0.8")):
        rates = np.array([false_alarms(seed, memory) for seed in range(streams)])
        found += [
            at_most(
                f"{name}: false alarms in {RUN_LENGTH} windows", rates[:, 0].mean(), "1", ALLOWED
            ),
            figure(f"{name}: the same of Page-Hinkley", rates[:, 1].mean(), "1"),
        ]
    for shift in SHIFTS:
        waits = np.array([delay(seed, shift) for seed in range(1000, 1000 + streams // 2)])
        missed = 100.0 * float(np.mean(waits >= LONGEST))
        found += [
            figure(f"{shift.name}: delay, median", float(np.median(waits)), "windows"),
            figure(f"{shift.name}: missed in {LONGEST} windows", missed, "%"),
        ]
    return found


def false_alarms(seed: int, memory: float) -> tuple[int, int]:
    """Alarms of the charts, and of Page-Hinkley, where nothing changes."""
    rows = stream(seed, REFERENCE + RUN_LENGTH, memory)
    charts = charts_of(rows[:REFERENCE])
    count, high = 0, False
    for row in rows[REFERENCE:]:
        alarmed = standing(charts, row)
        count += alarmed and not high
        high = alarmed
    return count, sum(1 for _ in hinkley(rows[:REFERENCE], rows[REFERENCE:]))


def delay(seed: int, shift: Shift) -> int:
    """Windows from the change of an independent stream until the alarm."""
    rows = stream(seed, REFERENCE + QUIET + LONGEST, 0.0)
    after = rows[REFERENCE + QUIET :, 0]
    grown = np.minimum(np.arange(LONGEST) / shift.ramp, 1.0) if shift.ramp else np.ones(LONGEST)
    after *= shift.factor
    after += shift.mean * grown
    charts = charts_of(rows[:REFERENCE])
    for place, row in enumerate(rows[REFERENCE:]):
        if standing(charts, row) and place >= QUIET:
            return place - QUIET + 1
    return LONGEST


def standing(charts: list[Chart], row: Array) -> bool:
    """Whether any chart is alarmed after ``row``."""
    for chart in charts:
        chart.step(row)
    return any(chart.standing == "alarmed" for chart in charts)


def charts_of(rows: Array) -> list[Chart]:
    """The charts of the input, calibrated on ``rows`` (n, channels) as an agent does it."""
    return calibrated(a_job(), "input", rows)


def a_job() -> Job:
    """A job that watches its input, with the defaults of everything else."""
    signals = "".join(
        f'[[signals]]\nname = "s{number}"\nunit = "g"\nrate_hz = 1.0\n'
        for number in range(CHANNELS)
    )
    return decode_job(JOB + signals, "synthetic.toml")


def stream(seed: int, count: int, memory: float) -> Array:
    """AR(1) with variance 1, (count, channels)."""
    generator = np.random.default_rng(seed)
    news = generator.normal(size=(count, CHANNELS)) * np.sqrt(1.0 - memory**2)
    rows = np.empty((count, CHANNELS))
    row = generator.normal(size=CHANNELS)
    for place, new in enumerate(news):
        row = memory * row + new
        rows[place] = row
    return rows


def hinkley(reference: Array, rows: NDArray[np.float64]) -> Iterator[int]:
    """Where an untuned test of Page and Hinkley alarms; it begins anew after each alarm.

    Page 1954, "Continuous inspection schemes"; both ways, every channel by itself.
    """
    mean, scale = moments(reference)
    high = np.zeros((2, rows.shape[1]))
    for place, row in enumerate(rows):
        far = (row - mean) / scale
        high = np.maximum(high + np.stack((far, -far)) - HINKLEY_SLACK, 0.0)
        if high.max() > HINKLEY_LIMIT:
            high[:] = 0.0
            yield place
