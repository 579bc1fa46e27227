# SPDX-License-Identifier: Apache-2.0
"""A stored version as agents are told of it, with every blob that it is made of."""

from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.store.records import VersionRecord
from fedmill_shared.errors import StoreError
from fedmill_shared.messages import BlobName, VersionNotice


def version_notice(
    store: Store, blobs: Blobs, record: VersionRecord, *, evaluate: bool, serve: bool
) -> VersionNotice:
    """What agents are told of the version ``record``; see `VersionNotice` for the rest.

    Raises:
        StoreError: something that it is made of is gone.
    """

    def name(digest: str) -> BlobName:
        return BlobName(sha256=digest, size=blobs.size(digest))

    job = store.job(record.job)
    if job is None or not (job.manifest and job.template and job.canary_inputs and record.weights):
        raise StoreError(
            f"job {record.job}: version {record.number} is not whole",
            remedy="its weights were forgotten; choose one that `fedmill models` shows as kept",
        )
    return VersionNotice(
        job=record.job,
        number=record.number,
        version=record.version,
        manifest=name(blobs.put(job.manifest)),
        template=name(job.template),
        canary_inputs=name(job.canary_inputs),
        canary_outputs=record.canary_outputs,
        snapshot=name(record.weights),
        base=record.base or "",
        delta=name(record.delta) if record.delta else None,
        evaluate=evaluate,
        serve=serve,
        quantised=name(job.quantised) if job.quantised else None,
    )


def blobs_of(notice: VersionNotice) -> list[BlobName]:
    """Every blob that a version is made of, and what few agents want of it."""
    optional = [blob for blob in (notice.quantised, notice.delta) if blob is not None]
    return [notice.manifest, notice.template, notice.canary_inputs, notice.snapshot, *optional]
