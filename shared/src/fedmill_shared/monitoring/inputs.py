# SPDX-License-Identifier: Apache-2.0
"""From windows to the rows that principal components see, and back to the signals' names. No torch.

The same arithmetic as the model's first layer (``models/standardise.py``), in float64.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.errors import ModelError
from fedmill_shared.job import Job, Pca
from fedmill_shared.models.manifest import Manifest
from fedmill_shared.monitoring.scatter import Numbers
from fedmill_shared.monitoring.version import Vector, read

LIMIT = 20.0
"""Largest standardised value, as in the model's first layer."""
_LAYER = "standardise."


def rows_of(job: Job, manifest: Manifest, vector: Vector, windows: NDArray[np.floating]) -> Numbers:
    """Float64 (n, d): what the model makes of ``windows`` (n, channels, length) first.

    Raises:
        ModelError: ``vector`` (size,) does not fit the manifest.
    """
    manifest.check(vector)
    layer = {
        tensor.name.removeprefix(_LAYER): vector[tensor.offset : tensor.offset + tensor.size]
        .reshape(tensor.shape)
        .astype(np.float64)
        for tensor in manifest.tensors
        if tensor.name.startswith(_LAYER)
    }
    _check(job, layer)
    exact = windows.astype(np.float64)
    regime = np.zeros((len(exact), exact.shape[2]), np.int64)
    if "centroids" in layer:
        values = exact[:, job.regimes].transpose(0, 2, 1)[:, :, None]  # (n, L, 1, K)
        steps = (values - layer["centroids"]) * layer["inverse_resolution"]
        regime = (steps**2).sum(3).argmin(2)
    mean, inverse = (layer[name][regime].transpose(0, 2, 1) for name in ("mean", "inverse_scale"))
    standardised = np.clip((exact[:, job.inputs] - mean) * inverse, -LIMIT, LIMIT)
    if isinstance(job.model, Pca) and job.model.inputs == "mean":
        averaged: Numbers = standardised.mean(2)
        return averaged
    return standardised.reshape(len(exact), -1)


def _check(job: Job, layer: Mapping[str, Numbers]) -> None:
    """Raise ModelError unless ``layer`` standardises the job's inputs."""
    conditions = layer["mean"].shape[:1] if "mean" in layer else ()
    each = (*conditions, len(job.inputs))
    wanted = {"mean": each, "inverse_scale": each}
    if "centroids" in layer:
        wanted["centroids"] = (*conditions, len(job.regimes))
        wanted["inverse_resolution"] = (len(job.regimes),)
    found = {name: part.shape for name, part in layer.items()}
    if not all(conditions) or not conditions or not wanted.items() <= found.items():
        raise ModelError(f"a standardisation of {found} is none of the job's inputs")


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
