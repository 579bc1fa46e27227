# SPDX-License-Identifier: Apache-2.0
"""Finds stored model versions, and hands one out as a plain ONNX file."""

import numpy as np

from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.store.records import VersionRecord
from fedmill_shared.errors import StoreError, UsageError
from fedmill_shared.link.blocks import BLOB_LIMIT

SHORTEST_PREFIX = 6


def find_version(store: Store, job: str, wanted: str) -> VersionRecord:
    """The version of ``job`` that an alias, a number or the start of a SHA-256 names.

    Raises:
        UsageError: nothing, or more than one version, has that name.
    """
    aliases = {str(alias.alias): alias.version for alias in store.aliases(job)}
    sought = aliases.get(wanted, wanted)
    versions = store.versions(job)
    found = [v for v in versions if v.version == sought or str(v.number) == sought]
    if not found and len(sought) >= SHORTEST_PREFIX:
        found = [v for v in versions if v.version.startswith(sought)]
    if len(found) != 1:
        raise UsageError(
            f"version {wanted!r} of job {job}: {len(found) or 'no'} versions have that name",
            remedy=f"aliases: {', '.join(aliases) or 'none yet'}; see `fedmill models list`",
        )
    return found[0]


def export_bytes(store: Store, blobs: Blobs, record: VersionRecord) -> bytes:
    """The self-contained ONNX file of a version.

    Raises:
        StoreError: its weights were forgotten, or a blob is damaged.
    """
    from fedmill_coordinator.registry.export import self_contained  # noqa: PLC0415  imports onnx

    job = store.job(record.job)
    if job is None or job.template is None or record.weights is None:
        raise StoreError(
            f"version {record.number} of job {record.job}: its weights are no longer kept",
            remedy="choose one that `fedmill models list` shows as kept",
        )
    weights = np.frombuffer(blobs.get(record.weights, BLOB_LIMIT), "<f4")
    return self_contained(blobs.get(job.template, BLOB_LIMIT), weights)
