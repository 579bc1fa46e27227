# SPDX-License-Identifier: Apache-2.0
"""The model's standardisation in numpy: what windows are to the model, and how it is set anew.

Setting it anew is the idea of
AdaBN (Li et al. 2016, "Revisiting batch normalization for practical domain adaptation") at the
model's first layer: what comes now is given the mean and deviation that the reference had there.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.drift.detector import Array
from fedmill_shared.job import Job
from fedmill_shared.models.manifest import Manifest
from fedmill_shared.models.standardisation import Standardisation

MEAN, INVERSE = "standardise.mean", "standardise.inverse_scale"
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


class Normaliser(Standardisation):
    """The standardisation of the model that scores, and how it is set anew."""

    __slots__ = ()

    @classmethod
    def of(cls, job: Job, manifest: Manifest, vector: NDArray[np.float32]) -> Self:
        """The standardisation of a model; one that has none leaves values as they are.

        Raises:
            ModelError: it is for other signals.
        """
        if any(tensor.name == MEAN for tensor in manifest.tensors):
            return super().of(job, manifest, vector)
        one = (1, len(job.inputs))
        return cls(job.inputs, [], np.zeros(one), np.ones(one), np.zeros((1, 0)), np.zeros(0))

    def standardise(self, values: NDArray[np.float32]) -> tuple[NDArray[np.intp] | None, Array]:
        """Conditions (L,), None where there is one, and the inputs (S, L) of a window's values."""
        inputs = values[self.inputs].astype(np.float64)
        if not self.regimes:
            return None, (inputs - self.mean[0][:, None]) * self.inverse_scale[0][:, None]
        told = values[self.regimes].astype(np.float64)
        steps = (told[None] - self.centroids[:, :, None]) * self.inverse_resolution[:, None]
        conditions = np.square(steps).sum(1).argmin(0)
        return conditions, (inputs - self.mean[conditions].T) * self.inverse_scale[conditions].T

    def anew(self, reference: Tally, recent: Tally) -> tuple[Self, int]:
        """The standardisation under which ``recent`` samples look as the reference did.

        Conditions of which too little was seen keep theirs, and so do signals that were constant
        in the whole fleet. The number says how many conditions do not.
        """
        seen = np.minimum(reference.count, recent.count) >= LEAST_SAMPLES
        free = seen[:, None] & (self.inverse_scale > 0.0)
        before, spread = reference.moments()
        now, wide = recent.moments()
        known = (spread > _TINY) & (wide > _TINY)
        ratio = np.where(known, wide / np.where(known, spread, 1.0), 1.0)
        ratio = np.where(free, np.clip(ratio, 1.0 / _WIDEST, _WIDEST), 1.0)
        moved = np.where(
            free, (now - before * ratio) / np.where(free, self.inverse_scale, 1.0), 0.0
        )
        made = replace(self, mean=self.mean + moved, inverse_scale=self.inverse_scale / ratio)
        return made, int(seen.sum())

    def placed(self, manifest: Manifest, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """A copy of ``vector`` (size,) with this standardisation."""
        manifest.check(vector)
        made = vector.copy()
        for tensor in manifest.tensors:
            if tensor.name in (MEAN, INVERSE):
                values = self.mean if tensor.name == MEAN else self.inverse_scale
                made[tensor.offset : tensor.offset + tensor.size] = values.ravel()
        return made
