# SPDX-License-Identifier: Apache-2.0
"""From windows to the rows that principal components see, and back to the signals' names."""

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.job import Job, Pca
from fedmill_shared.models.manifest import Manifest
from fedmill_shared.models.standardisation import LIMIT, Standardisation
from fedmill_shared.monitoring.scatter import Numbers
from fedmill_shared.monitoring.version import Vector, read


def rows_of(job: Job, manifest: Manifest, vector: Vector, windows: NDArray[np.floating]) -> Numbers:
    """Float64 (n, d): what the model makes of ``windows`` (n, channels, length) first.

    Raises:
        ModelError: ``vector`` (size,) does not fit the manifest, or standardises other signals.
    """
    standardise = Standardisation.of(job, manifest, vector)
    count, channels, length = windows.shape
    values, _ = standardise(windows.transpose(0, 2, 1).reshape(-1, channels))
    rows = np.clip(values, -LIMIT, LIMIT).reshape(count, length, values.shape[1])
    if isinstance(job.model, Pca) and job.model.inputs == "mean":
        averaged: Numbers = rows.mean(1)
        return averaged
    return rows.transpose(0, 2, 1).reshape(count, length * values.shape[1])


def contributions(
    job: Job, manifest: Manifest, vector: Vector, windows: NDArray[np.floating]
) -> list[list[tuple[str, float]]]:
    """Of each of ``windows`` (n, channels, length) its signals and their shares of the score.

    Largest first; the shares of a window sum to 1, or are all 0 where the score is. They are those
    of the complete decomposition of T2 or Q, whichever of them the score is.

    Raises:
        ModelError: ``vector`` (size,) is no version of a model of principal components.
    """
    monitor = read(manifest, vector)
    parts = monitor.contributions(rows_of(job, manifest, vector, windows))
    channels = [job.channels[position] for position in job.inputs]
    by_channel = parts.reshape(len(parts), len(channels), -1).sum(2)
    names = [job.signals[channel.signal].name for channel in channels]
    told = []
    for row in by_channel:
        total = float(row.sum())
        shares = dict.fromkeys(names, 0.0)
        for name, part in zip(names, row, strict=True):
            shares[name] += float(part) / total if total else 0.0
        told.append(sorted(shares.items(), key=lambda pair: -pair[1]))
    return told
