# SPDX-License-Identifier: Apache-2.0
"""One job's newest version: made and durable in store and blobs, then announced."""

from collections.abc import Sequence

import numpy as np
from msgspec import msgpack, structs
from numpy.typing import NDArray

from fedmill_coordinator.registry.ancestry import inherited
from fedmill_coordinator.registry.frames import last_frames
from fedmill_coordinator.registry.golden import GoldenSet
from fedmill_coordinator.registry.notices import blobs_of, version_notice
from fedmill_coordinator.registry.offers import Offers
from fedmill_coordinator.registry.versions import Architecture, NewVersion
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.store.records import (
    RoundRecord,
    TrafficRecord,
    UpdateRecord,
    VersionRecord,
)
from fedmill_coordinator.voice import Voice
from fedmill_shared.clock import Clock
from fedmill_shared.errors import ModelError, StoreError
from fedmill_shared.files import sha256
from fedmill_shared.job import Job
from fedmill_shared.link.blocks import BLOB_LIMIT
from fedmill_shared.models.manifest import vector_bytes
from fedmill_shared.models.normaliser import Normaliser

KEPT_VERSIONS = 12
PRUNE_EVERY = 16


SHELF = "newest"
"""Where its blobs are on offer."""


class Versions:
    """Owns the newest version of one job, which its rounds train from.

    Attributes:
        offers: the blobs that agents may ask for.
    """

    def __init__(self, job: Job, store: Store, blobs: Blobs, voice: Voice, clock: Clock) -> None:
        """There is no version before ``create`` or ``restore``."""
        self._job = job
        self._store = store
        self._blobs = blobs
        self._voice = voice
        self._clock = clock
        self._architecture: Architecture | None = None
        self._current: VersionRecord | None = None
        self._vector: NDArray[np.float32] | None = None
        self._pruned = 0
        self.offers = Offers(job.name, blobs, voice)

    @property
    def ready(self) -> bool:
        """Whether there is a version."""
        return self._current is not None

    @property
    def newest(self) -> VersionRecord | None:
        """The newest version as it is stored; None before the first."""
        return self._current

    @property
    def version(self) -> str:
        """The newest version."""
        return self._record.version

    @property
    def learned(self) -> int:
        """Elements of a delta."""
        return self._parts.learned

    @property
    def layout(self) -> str:
        """Digest of the manifest."""
        return self._parts.manifest.digest

    def create(self, normaliser: Normaliser) -> None:
        """Export the architecture and store version 0.

        Raises:
            ModelError: it cannot be built, torch and ONNX Runtime disagree, or what the job starts
                from does not fit it.
            StoreError: what the job starts from is gone.
        """
        # Imports onnx: a coordinator that only goes on with its jobs starts without it.
        from fedmill_coordinator.registry.quantised import quantise  # noqa: PLC0415

        architecture = Architecture.create(self._job, normaliser)
        start = inherited(self._job, architecture.manifest, self._store, self._blobs)
        made = architecture.first(normaliser, start)
        int8 = quantise(architecture.template)
        now = self._clock.now_ns()
        self._store.update_job(
            self._job.name,
            updated_ns=now,
            manifest=architecture.manifest_blob,
            template=self._blobs.put(architecture.template),
            canary_inputs=self._blobs.put(architecture.canary),
            quantised=self._blobs.put(int8) if int8 is not None else None,
        )
        self._blobs.put(architecture.manifest_blob)
        record = self._version_record(made, number=0, base=None, round_=None)
        if self._store.version(self._job.name, made.version) is None:
            self._store.add_version(record)
        self._store.set_alias(self._job.name, "candidate", made.version, updated_ns=now)
        self._architecture, self._current, self._vector = architecture, record, made.vector

    def restore(self) -> None:
        """Take up the newest version of the store.

        Raises:
            StoreError: something it is made of is gone.
        """
        job = self._store.job(self._job.name)
        versions = self._store.versions(self._job.name)
        if (
            job is None
            or not versions
            or not (job.normaliser and job.template and job.canary_inputs)
        ):
            raise StoreError(
                f"job {self._job.name}: the store says it runs, but holds no version",
                remedy="restore the state folder from a backup, or start it anew",
            )
        normaliser = msgpack.decode(job.normaliser, type=Normaliser)
        template = self._blobs.get(job.template, BLOB_LIMIT)
        canary = self._blobs.get(job.canary_inputs, BLOB_LIMIT)
        self._architecture = Architecture.restore(self._job, normaliser, template, canary)
        self._current = versions[-1]
        self._pruned = versions[-1].number // PRUNE_EVERY
        self._vector = np.frombuffer(self._blobs.get(versions[-1].weights or "", BLOB_LIMIT), "<f4")

    def advance(
        self,
        delta: NDArray[np.float32],
        closed: RoundRecord,
        *,
        rule_state: bytes,
        included: Sequence[UpdateRecord],
        discarded: Sequence[UpdateRecord],
        traffic: Sequence[TrafficRecord] = (),
        codec: str = "",
    ) -> bool:
        """Make and store the version that ``delta`` (learned,) leads to; False if it is the same.

        The updates ``included`` made it, those ``discarded`` came too late; ``traffic`` is what
        the round cost; ``codec`` is another one than the job's for the way down.

        Raises:
            ModelError: torch and ONNX Runtime disagree on it, or it is an older version again;
                nothing is stored.
            StoreError: it cannot be stored; the round stays open.
        """
        if self._vector is None:
            raise StoreError(f"job {self._job.name}: no version to start from")
        left, examples = self._residual(), sum(each.examples for each in included)
        made = self._parts.next(self._vector, delta, left, closed.round, codec, examples=examples)
        record = self._successor(made, closed.round)
        self._store.close_round(
            closed,
            record,
            included=included,
            discarded=discarded,
            traffic=traffic,
            rule_state=rule_state,
            downlink_residual=self._blobs.put(made.residual.astype("<f4").tobytes()),
            job_state="running",
        )
        if record is not None:
            self._current, self._vector = record, made.vector
        return record is not None

    def reference(self, golden: GoldenSet, round_: int) -> NDArray[np.float32]:
        """What the golden windows make of the newest version in ``round_``: a delta (learned,).

        Raises:
            ModelError: training on them diverged.
            StoreError: there is no version yet.
        """
        if self._vector is None:
            raise StoreError(f"job {self._job.name}: no version to start from")
        return golden.update(self._parts, self._vector, round_)

    def tidy(self) -> None:
        """Forget old weights, and blobs that nothing needs, every now and then.

        Raises:
            StoreError: the disk fails; it is tried again after some more versions.
        """
        if self._current is None:
            return
        if self._current.number // PRUNE_EVERY > self._pruned:
            self._pruned = self._current.number // PRUNE_EVERY
            self._prune()

    def promote(self) -> None:
        """Call the newest version stable."""
        self._store.set_alias(
            self._job.name, "stable", self.version, updated_ns=self._clock.now_ns()
        )

    def announce(self, *, evaluate: bool, with_delta: bool, serve: bool = True) -> None:
        """Tell every agent of the newest version; `Offers.serve` then sends what all of them lack.

        ``with_delta``: that is its delta, or all of the first version; otherwise nothing.
        ``serve``: agents score with it too, once it has passed their gates.
        """
        notice = version_notice(
            self._store, self._blobs, self._record, evaluate=evaluate, serve=serve
        )
        self.offers.lay_out(SHELF, blobs_of(notice))
        self._voice.broadcast(self._job.name, "version", notice)
        if with_delta:
            lacking = blobs_of(structs.replace(notice, quantised=None)) if not notice.number else []
            self.offers.push([notice.delta] if notice.delta is not None else lacking)

    @property
    def _record(self) -> VersionRecord:
        if self._current is None:
            raise StoreError(f"job {self._job.name}: there is no version yet")
        return self._current

    @property
    def _parts(self) -> Architecture:
        if self._architecture is None:
            raise StoreError(f"job {self._job.name}: there is no version yet")
        return self._architecture

    def _residual(self) -> NDArray[np.float32] | None:
        """What the downlink's compression left behind so far."""
        job = self._store.job(self._job.name)
        if job is None or not job.downlink_residual:
            return None
        return np.frombuffer(self._blobs.get(job.downlink_residual, BLOB_LIMIT), "<f4")

    def _successor(self, made: NewVersion, round_: int) -> VersionRecord | None:
        """The record of ``made``; None if it is the current version again."""
        current = self._record
        if made.version == current.version:
            return None
        if self._store.version(self._job.name, made.version) is not None:
            raise ModelError(f"round {round_} leads back to version {made.version[:12]}")
        return self._version_record(
            made, number=current.number + 1, base=current.version, round_=round_
        )

    def _version_record(
        self, made: NewVersion, *, number: int, base: str | None, round_: int | None
    ) -> VersionRecord:
        return VersionRecord(
            job=self._job.name,
            number=number,
            version=made.version,
            base=base,
            weights=self._blobs.put(vector_bytes(made.vector)),
            delta=self._blobs.put(made.frame) if made.frame else None,
            canary_outputs=made.canary_outputs,
            round=round_,
            created_ns=self._clock.now_ns(),
        )

    def _prune(self) -> None:
        newest = [
            record.version for record in self._store.versions(self._job.name)[-KEPT_VERSIONS:]
        ]
        for release in reversed(self._store.releases(self._job.name)):
            newest += [each for each in (release.version, release.before) if each is not None]
            if release.opened:  # what agents were told last, and may fetch anew
                break
        self._store.forget_weights(self._job.name, newest)
        manifests = {sha256(job.manifest) for job in self._store.jobs() if job.manifest}
        needed = self._store.live_blobs() | manifests | self.offers.names
        self._blobs.prune(needed | last_frames(self._store))
