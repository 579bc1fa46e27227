# SPDX-License-Identifier: Apache-2.0
"""Versions that a broken or captured coordinator might release."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from msgspec import structs
from tests.system.fleet import Fleet

from fedmill_coordinator.store.records import VersionRecord
from fedmill_shared.link.blocks import BLOB_LIMIT
from fedmill_shared.models.manifest import vector_bytes, version_of
from fedmill_shared.tensors import pack_tensor, unpack_tensor

Poison = Callable[[Fleet], VersionRecord]


def last(fleet: Fleet) -> VersionRecord:
    """The version that the job ended with."""
    return next(
        each for each in fleet.store.versions(fleet.job.name) if each.version == fleet.stable()
    )


def weights(fleet: Fleet) -> np.ndarray[Any, Any]:
    """Its weights."""
    return np.frombuffer(fleet.blobs.get(last(fleet).weights or "", BLOB_LIMIT), "<f4").copy()


def made(fleet: Fleet, vector: np.ndarray[Any, Any], **fields: Any) -> VersionRecord:
    """Another version, with these weights and the canary of the last one unless told otherwise."""
    record = structs.replace(
        last(fleet),
        number=len(fleet.store.versions(fleet.job.name)),
        version=version_of(vector),
        weights=fleet.blobs.put(vector_bytes(vector)),
        base=None,
        delta=None,
        round=None,
    )
    return structs.replace(record, **fields)


def near(fleet: Fleet, nudge: float) -> np.ndarray[Any, Any]:
    """Weights that compute all but the same; ``nudge`` tells them from others."""
    vector = weights(fleet)
    vector[0] += np.float32(nudge)
    return vector


def not_a_number(fleet: Fleet) -> VersionRecord:
    """Training has diverged, and nobody looked."""
    vector = weights(fleet)
    vector[:] = np.nan
    return made(fleet, vector)


def of_another_canary(fleet: Fleet) -> VersionRecord:
    """It computed something else where it was made."""
    outputs = unpack_tensor(last(fleet).canary_outputs)[:, ::-1].copy()
    return made(fleet, near(fleet, 1e-6), canary_outputs=pack_tensor(outputs))


def of_other_weights(fleet: Fleet) -> VersionRecord:
    """What is sent is not what was named."""
    blob = fleet.blobs.put(vector_bytes(near(fleet, 2e-6)))
    return made(fleet, near(fleet, 3e-6), weights=blob)


def of_other_units(fleet: Fleet) -> VersionRecord:
    """The graph is for windows in another unit."""
    job = fleet.store.job(fleet.job.name)
    assert job is not None
    assert job.template is not None
    graph = onnx.load_from_string(fleet.blobs.get(job.template, BLOB_LIMIT))
    for entry in graph.metadata_props:
        entry.value = entry.value.replace('"unit":"g"', '"unit":"m/s2"')
    template = fleet.blobs.put(graph.SerializeToString())
    assert template != job.template
    fleet.store.update_job(job.name, updated_ns=job.updated_ns, template=template)
    return made(fleet, near(fleet, 4e-6))
