# SPDX-License-Identifier: Apache-2.0
"""How two model versions differ: tensor by tensor, role by role, and in what they are fed with."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.store.records import VersionRecord
from fedmill_shared.errors import StoreError
from fedmill_shared.job_check import job_from_canonical
from fedmill_shared.link.blocks import BLOB_LIMIT
from fedmill_shared.models.manifest import Manifest, Tensor

FED = ("signals", "window", "cleaning", "features", "labels")
"""Sections of a job file that say what goes into a model, and what comes out of it."""

Part = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Difference:
    """How a tensor, or all of a role, differs between two versions.

    Attributes:
        name: of the tensor or the role.
        role: of the tensor; the same as the name for a role.
        elements: how many numbers it has.
        norm: Euclidean norm in the first version.
        change: Euclidean norm of second minus first.
        largest: largest change of one number.
    """

    name: str
    role: str
    elements: int
    norm: float
    change: float
    largest: float

    @property
    def relative(self) -> float | None:
        """The change as a share of the norm; None where there is no norm."""
        return self.change / self.norm if self.norm else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs between two versions.

    Attributes:
        roles: by role, in the manifest's order.
        tensors: by tensor.
        unlike: tensors that only one has, or in another shape.
        fields: dotted fields of the job files that say what a model is fed with -> both values.
        standardisation: whether the agreed standardisation is the same.
    """

    roles: list[Difference]
    tensors: list[Difference]
    unlike: list[str]
    fields: dict[str, tuple[object, object]]
    standardisation: bool


def compare(store: Store, blobs: Blobs, first: VersionRecord, second: VersionRecord) -> Comparison:
    """How ``second`` differs from ``first``; they may be of two jobs.

    Raises:
        StoreError: the weights of one were forgotten, or a blob is damaged.
    """
    old, new = _tensors(store, blobs, first), _tensors(store, blobs, second)
    both = [name for name in old if name in new and old[name][0].shape == new[name][0].shape]
    tensors = [
        _difference(name, old[name][0].role, [(old[name][1], new[name][1])]) for name in both
    ]
    roles = [
        _difference(role, role, [(old[n][1], new[n][1]) for n in both if old[n][0].role == role])
        for role in dict.fromkeys(old[name][0].role for name in both)
    ]
    jobs = store.job(first.job), store.job(second.job)
    same = jobs[0] is not None and jobs[1] is not None and jobs[0].normaliser == jobs[1].normaliser
    return Comparison(
        roles=roles,
        tensors=tensors,
        unlike=sorted({*old, *new}.difference(both)),
        fields=_fields(*(job.text if job is not None else "" for job in jobs)),
        standardisation=same,
    )


def _tensors(store: Store, blobs: Blobs, version: VersionRecord) -> dict[str, tuple[Tensor, Part]]:
    job = store.job(version.job)
    if job is None or job.manifest is None or version.weights is None:
        raise StoreError(
            f"version {version.number} of job {version.job}: its weights are no longer kept",
            remedy="choose one that `fedmill models list` shows as kept",
        )
    manifest = msgspec.json.decode(job.manifest, type=Manifest)
    vector = np.frombuffer(blobs.get(version.weights, BLOB_LIMIT), "<f4")
    parts = manifest.views(vector)
    return {
        tensor.name: (tensor, parts[tensor.name].ravel().astype(np.float64))
        for tensor in manifest.tensors
    }


def _difference(name: str, role: str, pairs: Sequence[tuple[Part, Part]]) -> Difference:
    old = _joined(first for first, _ in pairs)
    change = _joined(second for _, second in pairs) - old
    return Difference(
        name=name,
        role=role,
        elements=old.size,
        norm=float(np.linalg.norm(old)),
        change=float(np.linalg.norm(change)),
        largest=float(np.abs(change).max(initial=0.0)),
    )


def _joined(parts: Iterable[Part]) -> Part:
    return np.concatenate([*parts, np.zeros(0)])


def _fields(first: str, second: str) -> dict[str, tuple[object, object]]:
    """Fields in which two canonical job files feed their models differently."""
    if first == second or not first or not second:
        return {}
    old, new = (msgspec.to_builtins(job_from_canonical(text.encode())) for text in (first, second))
    found: dict[str, tuple[object, object]] = {}
    for section in FED:
        before, after = _flat(section, old[section]), _flat(section, new[section])
        for field in dict.fromkeys([*before, *after]):
            if before.get(field) != after.get(field):
                found[field] = before.get(field), after.get(field)
    return found


def _flat(name: str, value: object) -> dict[str, object]:
    """Every leaf of ``value`` by its dotted name."""
    inner: Iterable[tuple[object, object]] = ()
    if isinstance(value, Mapping):
        inner = value.items()
    elif isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
        inner = enumerate(value)
    else:
        return {name: value}
    return {k: v for key, each in inner for k, v in _flat(f"{name}.{key}", each).items()}
