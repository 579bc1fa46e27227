# SPDX-License-Identifier: Apache-2.0
"""The usual value of each signal by the normaliser of a version."""

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.job import Job
from fedmill_shared.models.manifest import Manifest

Values = NDArray[np.float32]


def usual_levels(
    job: Job, manifest: Manifest, vector: NDArray[np.float32], values: Values
) -> Values | None:
    """A window (rows, length) in which each input stands at its mean, as the fleet has it.

    With operating conditions it is the mean of the one that ``values`` (rows, length) is nearest to
    on the whole.

    Args:
        job: of the version.
        manifest: layout of ``vector``.
        vector: the weights, with the normaliser in them.
        values: a window in canonical units.
    """
    tables = {tensor.name: tensor for tensor in manifest.tensors}

    def table(name: str) -> NDArray[np.float32]:
        tensor = tables[name]
        flat = vector[tensor.offset : tensor.offset + tensor.size]
        return flat.reshape(tensor.shape)

    if "standardise.mean" not in tables:
        return None
    means, condition = table("standardise.mean"), 0
    if means.ndim != 2 or not len(means) or means.shape[1] != len(job.inputs):
        return None
    if job.regimes and {"standardise.centroids", "standardise.inverse_resolution"} <= tables.keys():
        found = values[job.regimes].mean(axis=1)
        centroids, resolution = (
            table("standardise.centroids"),
            table("standardise.inverse_resolution"),
        )
        if centroids.shape != (len(means), len(found)) or resolution.shape != found.shape:
            return None
        steps = (centroids - found) * resolution
        condition = int(np.square(steps).sum(axis=1).argmin())
    usual = values.copy()
    usual[job.inputs] = means[condition][:, None]
    return usual
