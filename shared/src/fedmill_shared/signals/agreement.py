# SPDX-License-Identifier: Apache-2.0
"""From the statistics that agents told to the normaliser of their job."""

from collections.abc import Sequence

from fedmill_shared.job import Job
from fedmill_shared.models.normaliser import Normaliser, identity
from fedmill_shared.signals.moments import Moments, agree, merge


def normaliser_of(job: Job, told: Sequence[Moments]) -> Normaliser:
    """What the fleet agrees on, given the statistics of its agents.

    Raises:
        DataError: nobody told anything, or the statistics do not fit together.
    """
    regimes = job.regimes if job.window.normalise == "regime" else []
    plain = identity(job)
    by_statistics = job.window.normalise != "none"
    if not by_statistics and not any(report.cells for report in told):
        return plain
    resolution = job.resolution if regimes else []
    agreement = agree(merge(told), resolution, job.inputs, regimes)
    return Normaliser(
        mean=tuple(map(tuple, agreement.mean.tolist())) if by_statistics else plain.mean,
        scale=tuple(map(tuple, agreement.scale.tolist())) if by_statistics else plain.scale,
        centroids=tuple(map(tuple, agreement.centroids.tolist())),
        resolution=tuple(agreement.resolution.tolist()),
        target_offset=agreement.target_offset,
        target_scale=agreement.target_scale,
    )
