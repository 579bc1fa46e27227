# SPDX-License-Identifier: Apache-2.0
"""The usual value of each signal by the normaliser of a version."""

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.errors import ModelError
from fedmill_shared.job import Job
from fedmill_shared.models.manifest import Manifest
from fedmill_shared.models.standardisation import Standardisation

Values = NDArray[np.float32]


def usual_levels(
    job: Job, manifest: Manifest, vector: NDArray[np.float32], values: Values
) -> Values | None:
    """A window (rows, length) in which each input stands at its mean, as the fleet has it.

    None where the version has no normaliser, or one of other signals.

    With operating conditions it is the mean of the one that ``values`` (rows, length) is nearest to
    on the whole.

    Args:
        job: of the version.
        manifest: layout of ``vector``.
        vector: the weights, with the normaliser in them.
        values: a window in canonical units.
    """
    try:
        known = Standardisation.of(job, manifest, vector)
    except ModelError:
        return None
    condition = 0
    if known.regimes:
        steps = (known.centroids - values[known.regimes].mean(axis=1)) * known.inverse_resolution
        condition = int(np.square(steps).sum(axis=1).argmin())
    usual = values.copy()
    usual[job.inputs] = known.mean[condition][:, None]
    return usual
