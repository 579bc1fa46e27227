# SPDX-License-Identifier: Apache-2.0
"""The model's first layer in numpy, without torch: the sums of ``models/standardise.py``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.errors import ModelError
from fedmill_shared.job import Job
from fedmill_shared.models.manifest import Manifest

LIMIT = 20.0
"""Largest standardised value. A sensor that hardly moved in training has a tiny deviation; one step
of it later must not drown every other signal. Real vibration stays below: 20 deviations are far
beyond the impacts of a broken bearing."""
_LAYER = "standardise."

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Standardisation:
    """What each input is standardised by in each of R operating conditions.

    Attributes:
        inputs: channels of a window that feed the network (S,).
        regimes: channels that tell the condition (K,); empty where there is one.
        mean: float64 (R, S), in canonical units.
        inverse_scale: float64 (R, S), one over the deviation; 0 of what is constant.
        centroids: float64 (R, K).
        inverse_resolution: float64 (K,).
    """

    inputs: Sequence[int]
    regimes: Sequence[int]
    mean: Numbers
    inverse_scale: Numbers
    centroids: Numbers
    inverse_resolution: Numbers

    @classmethod
    def of(cls, job: Job, manifest: Manifest, vector: NDArray[np.float32]) -> Self:
        """That of the model version ``vector`` (size,).

        Raises:
            ModelError: the vector does not fit the manifest, or it standardises other signals.
        """
        layer = {
            name.removeprefix(_LAYER): view.astype(np.float64)
            for name, view in manifest.views(vector).items()
            if name.startswith(_LAYER)
        }
        regimes = job.regimes if "centroids" in layer else []
        conditions = layer["mean"].shape[:1] if "mean" in layer else ()
        layer.setdefault("centroids", np.zeros((*conditions, 0)))
        layer.setdefault("inverse_resolution", np.zeros(0))
        each, told = (*conditions, len(job.inputs)), (*conditions, len(regimes))
        wanted = {"mean": each, "inverse_scale": each, "centroids": told}
        wanted["inverse_resolution"] = (len(regimes),)
        found = {name: part.shape for name, part in layer.items()}
        if not all(conditions) or not conditions or found != wanted:
            raise ModelError(f"a standardisation of {found} is none of the job's inputs")
        return cls(job.inputs, regimes, **layer)

    def __call__(self, samples: NDArray[np.floating]) -> tuple[Numbers, Numbers]:
        """Standardised inputs (n, S) of ``samples`` (n, channels), and what they were divided by.

        They are not limited; the second is ``inverse_scale`` of each sample's condition (n, S).
        """
        exact = samples.astype(np.float64)
        regime = np.zeros(len(exact), np.int64)
        if self.regimes:
            steps = (exact[:, None, self.regimes] - self.centroids) * self.inverse_resolution
            regime = (steps**2).sum(axis=2).argmin(axis=1)  # (n, R, K) -> (n,)
        inverse = self.inverse_scale[regime]
        return (exact[:, self.inputs] - self.mean[regime]) * inverse, inverse
