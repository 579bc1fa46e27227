# SPDX-License-Identifier: Apache-2.0
"""How far one agent's windows are from what the fleet agreed on, signal by signal. No torch."""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fedmill_shared.job import Job
from fedmill_shared.models.manifest import Manifest
from fedmill_shared.models.standardisation import Numbers, Standardisation
from fedmill_shared.signals.cells import FLOOR, LARGEST

_BLOCK = 1 << 20  # values handled at a time
_SMALLEST = 1e-9


class SignalShift(Struct, frozen=True):
    """One input signal of one agent against the fleet's normaliser.

    Attributes:
        signal: name in the job file; of its features the one that is furthest away counts.
        mean_sigmas: mean of the agent's samples less the fleet's, in the fleet's standard
            deviations; its sign says above or below.
        spread_ratio: standard deviation of the agent's samples over the fleet's.
    """

    signal: str
    mean_sigmas: float
    spread_ratio: float


def shift_of(
    job: Job, manifest: Manifest, vector: NDArray[np.float32], windows: NDArray[np.float32]
) -> tuple[SignalShift, ...]:
    """How far each input signal of ``windows`` is from the normaliser inside a model version.

    Where the job feeds the model with features, each signal tells of the one that differs most.

    Each sample counts against the operating condition it belongs to; samples with a value that is
    not finite do not count. A signal that is constant in the whole fleet has no deviation to count
    in and is left out. So is everything if the job does not normalise, or if there are fewer than
    8 samples.

    Args:
        job: names the signals.
        manifest: layout of ``vector``.
        vector: float32 (size,), any version of the job.
        windows: float32 (windows, channels, length) in canonical units, as the model takes them.

    Raises:
        ModelError: ``vector`` does not fit the manifest, or standardises other signals.
    """
    manifest.check(vector)
    if job.window.normalise == "none":
        return ()
    count, mean, m2 = _moments(Standardisation.of(job, manifest, vector), windows)
    furthest: dict[str, SignalShift] = {}
    rows = [channel for channel in job.channels if channel.role == "input"]
    for i, row in enumerate(rows):
        if count[i] >= FLOOR:
            name = job.signals[row.signal].name
            found = SignalShift(name, float(mean[i]), float(np.sqrt(m2[i] / count[i])))
            furthest[name] = max(furthest.get(name, found), found, key=_distance)
    return tuple(furthest.values())


def _distance(shift: SignalShift) -> float:
    """A mean one deviation away is as far as twice or half the spread."""
    return max(abs(shift.mean_sigmas), abs(float(np.log2(max(shift.spread_ratio, _SMALLEST)))))


def _moments(
    standardise: Standardisation, windows: NDArray[np.float32]
) -> tuple[Numbers, Numbers, Numbers]:
    """Count, mean and sum of squared deviations (inputs,) of the standardised samples.

    Blocks combine as in Chan, Golub and LeVeque 1979.
    """
    needed = [*standardise.inputs, *standardise.regimes]
    count, mean, m2 = np.zeros((3, len(standardise.inputs)))
    _, signals, length = windows.shape
    steps = standardise.centroids.size  # values of a sample's distances
    block = max(1, _BLOCK // max(1, length * max(signals, steps)))
    for first in range(0, len(windows), block):
        samples = windows[first : first + block].transpose(0, 2, 1).reshape(-1, signals)
        whole = (np.abs(samples[:, needed]) <= LARGEST).all(axis=1)
        values, inverse = standardise(samples[whole])
        varies = inverse > 0.0
        more = varies.sum(axis=0)
        centre = (values * varies).sum(axis=0) / np.maximum(more, 1)
        step, total = centre - mean, np.maximum(count + more, 1)
        mean += step * more / total
        m2 += (((values - centre) ** 2) * varies).sum(axis=0) + step**2 * count * more / total
        count += more
    return count, mean, m2
