# SPDX-License-Identifier: Apache-2.0
"""The model's standardisation in numpy: what windows are to the model, and how it is set anew.

The same sums as ``fedmill_shared.models.standardise``, in float64. Setting it anew is the idea of
AdaBN (Li et al. 2016, "Revisiting batch normalization for practical domain adaptation") at the
model's first layer: what comes now is given the mean and deviation that the reference had there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.drift.detector import Array
from fedmill_shared.errors import ModelError
from fedmill_shared.job import Job
from fedmill_shared.models.manifest import Manifest

MEAN, INVERSE = "standardise.mean", "standardise.inverse_scale"
CENTROIDS, RESOLUTION = "standardise.centroids", "standardise.inverse_resolution"
LEAST_SAMPLES = 50
"""Samples of a condition that its standardisation is set anew by."""
_WIDEST = 20.0
_TINY = 1e-6


@dataclass(slots=True, eq=False)
class Tally:
    """Sums of standardised samples by condition: counts (R,), totals and squares (R, S)."""

    count: Array
    total: Array
    squares: Array

    @classmethod
    def empty(cls, shape: tuple[int, ...]) -> Self:
        """Nothing yet, for ``shape`` (R, S)."""
        return cls(np.zeros(shape[0]), np.zeros(shape), np.zeros(shape))

    def add(self, conditions: NDArray[np.intp] | None, values: Array) -> None:
        """Count ``values`` (S, L), whose samples are of ``conditions`` (L,); None: of the first."""
        if conditions is None:
            self.count[0] += values.shape[1]
            self.total[0] += values.sum(1)
            self.squares[0] += (values * values).sum(1)
            return
        for condition in np.unique(conditions):
            own = values[:, conditions == condition]
            self.count[condition] += own.shape[1]
            self.total[condition] += own.sum(1)
            self.squares[condition] += (own * own).sum(1)

    def moments(self) -> tuple[Array, Array]:
        """Mean and deviation (R, S); 0 of what was never seen."""
        count = np.maximum(self.count, 1.0)[:, None]
        mean = self.total / count
        return mean, np.sqrt(np.maximum(self.squares / count - mean * mean, 0.0))


@dataclass(frozen=True, slots=True, eq=False)
class Normaliser:
    """Mean and inverse deviation (R, S) of each condition, and what tells conditions apart.

    Attributes:
        mean: (R, S), in the units of the job.
        inverse: (R, S), one over the deviation.
        centroids: (R, K); without regime signals K is 0.
        resolution: (K,), one over the job's resolution.
        inputs: rows of a window that feed the network (S,).
        regimes: rows of a window that tell the condition (K,).
    """

    mean: Array
    inverse: Array
    centroids: Array
    resolution: Array
    inputs: Sequence[int]
    regimes: Sequence[int]

    def __post_init__(self) -> None:
        conditions, told = len(self.mean), len(self.regimes)
        whole, apart = (conditions, len(self.inputs)), (conditions, told)
        parts = self.mean, self.inverse, self.centroids, self.resolution
        shapes = [part.shape for part in parts]
        if not conditions or shapes != [whole, whole, apart, (told,)]:
            raise ModelError(f"a standardisation of {shapes} does not fit the job's signals")

    @classmethod
    def of(cls, job: Job, manifest: Manifest, vector: NDArray[np.float32]) -> Self:
        """The standardisation of a model; one that has none leaves values as they are.

        Raises:
            ModelError: it is for other signals.
        """
        found = {
            tensor.name: vector[tensor.offset : tensor.offset + tensor.size]
            .reshape(tensor.shape)
            .astype(np.float64)
            for tensor in manifest.tensors
            if tensor.name in (MEAN, INVERSE, CENTROIDS, RESOLUTION)
        }
        shape = (1, len(job.inputs))
        mean = found.get(MEAN, np.zeros(shape))
        return cls(
            mean,
            found.get(INVERSE, np.ones(shape)),
            found.get(CENTROIDS, np.zeros((len(mean), 0))),
            found.get(RESOLUTION, np.zeros(0)),
            job.inputs,
            job.regimes if CENTROIDS in found else [],
        )

    def standardise(self, values: NDArray[np.float32]) -> tuple[NDArray[np.intp] | None, Array]:
        """Conditions (L,), None where there is one, and the standardised inputs (S, L)."""
        inputs = values[self.inputs].astype(np.float64)
        if not self.regimes:
            return None, (inputs - self.mean[0][:, None]) * self.inverse[0][:, None]
        told = values[self.regimes].astype(np.float64)
        steps = (told[None] - self.centroids[:, :, None]) * self.resolution[:, None]
        conditions = np.square(steps).sum(1).argmin(0)
        return conditions, (inputs - self.mean[conditions].T) * self.inverse[conditions].T

    def anew(self, reference: Tally, recent: Tally) -> tuple[Self, int]:
        """The standardisation under which ``recent`` samples look as the reference did.

        Conditions of which too little was seen keep theirs. The number says how many do not.
        """
        seen = np.minimum(reference.count, recent.count) >= LEAST_SAMPLES
        before, spread = reference.moments()
        now, wide = recent.moments()
        known = (spread > _TINY) & (wide > _TINY)
        ratio = np.where(known, wide / np.where(known, spread, 1.0), 1.0)
        ratio = np.where(seen[:, None], np.clip(ratio, 1.0 / _WIDEST, _WIDEST), 1.0)
        moved = np.where(seen[:, None], (now - before * ratio) / self.inverse, 0.0)
        made = type(self)(
            self.mean + moved,
            self.inverse / ratio,
            self.centroids,
            self.resolution,
            self.inputs,
            self.regimes,
        )
        return made, int(seen.sum())

    def placed(self, manifest: Manifest, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """A copy of ``vector`` (size,) with this standardisation."""
        manifest.check(vector)
        made = vector.copy()
        for tensor in manifest.tensors:
            if tensor.name in (MEAN, INVERSE):
                values = self.mean if tensor.name == MEAN else self.inverse
                made[tensor.offset : tensor.offset + tensor.size] = values.ravel()
        return made
