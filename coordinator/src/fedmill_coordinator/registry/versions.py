# SPDX-License-Identifier: Apache-2.0
"""Makes model versions: the first from the agreed statistics, each next from an aggregated delta.

Nothing leaves here that ONNX Runtime and torch disagree on, and the coordinator itself goes on
from what the agents will decode, so both sides hold the same bits.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from msgspec import json
from numpy.typing import NDArray

from fedmill_coordinator.registry.downlink import compress_delta
from fedmill_coordinator.registry.parity import canary_inputs, check_parity
from fedmill_shared.codec.frame import prefix
from fedmill_shared.errors import ModelError
from fedmill_shared.job import Job, Pca
from fedmill_shared.models import build, initial_vector
from fedmill_shared.models.flat import FlatModel
from fedmill_shared.models.manifest import Manifest, Role, version_of
from fedmill_shared.models.normaliser import Normaliser
from fedmill_shared.models.sharing import shared_roles
from fedmill_shared.seeds import seed_for
from fedmill_shared.tensors import pack_tensor, unpack_tensor

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A version that passed parity.

    Attributes:
        version: SHA-256 of ``vector``.
        vector: float32 (elements,), the whole model.
        frame: the compressed delta on its base; empty for the first version.
        residual: float32 (learned,), what the downlink codec dropped.
        canary_outputs: packed tensor, what ``canary_inputs`` must give.
    """

    version: str
    vector: Vector
    frame: bytes
    residual: Vector
    canary_outputs: bytes


@dataclass(frozen=True, slots=True)
class Architecture:
    """What all versions of a job have in common, with the torch model to check parity by."""

    job: Job
    template: bytes
    manifest: Manifest
    canary: bytes
    model: FlatModel

    @classmethod
    def create(cls, job: Job, normaliser: Normaliser) -> Self:
        """Export the template; takes seconds.

        Raises:
            ModelError: the model cannot be built or exported.
        """
        # Imports the exporter: a coordinator that only goes on with its jobs starts without it.
        from fedmill_coordinator.registry.template import export_template  # noqa: PLC0415

        module = build(job, seed_for(job.name, "model"), regimes=normaliser.regimes)
        template = export_template(job, module)
        inputs = canary_inputs(job, normaliser, seed_for(job.name, "canary"))
        model = FlatModel(module)
        return cls(job, template, model.manifest, pack_tensor(inputs), model)

    @classmethod
    def restore(cls, job: Job, normaliser: Normaliser, template: bytes, canary: bytes) -> Self:
        """The architecture of a job that was created before."""
        model = FlatModel(build(job, 0, regimes=normaliser.regimes))
        return cls(job, template, model.manifest, canary, model)

    @property
    def manifest_blob(self) -> bytes:
        """The manifest as it travels."""
        return json.encode(self.manifest)

    @property
    def learned(self) -> int:
        """Elements that travel in a delta."""
        return self.manifest.count(self.roles)

    @property
    def roles(self) -> tuple[Role, ...]:
        """Roles of the elements that travel in a delta."""
        return shared_roles(self.job)

    def first(self, normaliser: Normaliser, start: Vector | None = None) -> NewVersion:
        """Version 0: ``start`` (elements,), or seeded weights and the agreed standardisation.

        Raises:
            ModelError: torch and ONNX Runtime disagree.
        """
        vector = start
        if vector is None:
            vector = initial_vector(self.job, normaliser, seed_for(self.job.name, "model"))
        return self._checked(vector, b"", np.zeros(self.learned, np.float32))

    def next(
        self,
        base: Vector,
        delta: Vector,
        residual: Vector | None,
        round_: int,
        codec: str = "",
        *,
        examples: int = 0,
    ) -> NewVersion:
        """The version that ``delta`` (learned,) makes of ``base`` (elements,).

        ``codec`` is another one than the job's, by its schedule; ``examples`` are the windows
        behind the delta, which limits of principal components follow from.

        Raises:
            ModelError: the result is not finite, or torch and ONNX Runtime disagree.
        """
        if isinstance(self.job.model, Pca):
            from fedmill_shared.monitoring.version import completed  # noqa: PLC0415  few jobs

            delta = completed(self.job, self.manifest, base, delta, examples)
        sent = compress_delta(
            self.job,
            delta,
            residual,
            round_=round_,
            base=prefix(version_of(base)),
            schema=prefix(self.manifest.digest),
            codec=codec,
        )
        with np.errstate(over="ignore"):
            learned = self.manifest.gather(base, self.roles) + sent.decoded
        if not np.isfinite(learned).all():
            raise ModelError(
                f"version of round {round_}: a weight is NaN or infinity",
                remedy="training diverged; lower the learning rate or look at the input data",
            )
        vector = self.manifest.scatter(base, learned, self.roles)
        return self._checked(vector, sent.frame, sent.residual)

    def _checked(self, vector: Vector, frame: bytes, residual: Vector) -> NewVersion:
        outputs = check_parity(self.template, vector, self.model, unpack_tensor(self.canary))
        digest = version_of(vector)
        return NewVersion(digest, vector, frame, residual, pack_tensor(outputs))
