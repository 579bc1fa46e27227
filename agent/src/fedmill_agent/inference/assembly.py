# SPDX-License-Identifier: Apache-2.0
"""Puts a version together from what is on the shelf, and checks that it computes what it should."""

from dataclasses import dataclass

import numpy as np
from msgspec import json
from numpy.typing import NDArray

from fedmill_agent.inference.installing import gates
from fedmill_agent.inference.installing.gates import Gate, Refused, Verdict, at, demand
from fedmill_agent.inference.parts import apply_delta
from fedmill_agent.inference.shelf import VersionShelf
from fedmill_shared.errors import ModelError, StoreError
from fedmill_shared.job import Job
from fedmill_shared.messages import UNREADABLE, VersionNotice
from fedmill_shared.models.manifest import Manifest, version_of
from fedmill_shared.models.sharing import shared_roles
from fedmill_shared.onnx_session import OnnxSession, check_canary
from fedmill_shared.tensors import unpack_tensor

CANARY_TOLERANCE = 1e-3
"""Allowed error as a share of the spread of the expected outputs."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A version that computes here what it computed where it was made.

    Attributes:
        version: digest of ``vector``.
        number: how many versions came before it.
        manifest: layout of ``vector``.
        template: the graph without weights; control variates are no part of it.
        vector: float32 (size,).
        inputs: float32 (windows, signals, samples), the canary.
        session: ``vector`` in ``template``.
    """

    version: str
    number: int
    manifest: Manifest
    template: bytes
    vector: NDArray[np.float32]
    inputs: NDArray[np.float32]
    session: OnnxSession


class Assembly:
    """Knows what versions of one job consist of."""

    def __init__(self, shelf: VersionShelf, job: Job) -> None:
        """The blobs lie on ``shelf``."""
        self._shelf = shelf
        self._job = job
        self._window = len(job.channels), job.input_length
        self._roles = shared_roles(job)

    def layout(self, notice: VersionNotice) -> Manifest:
        """The manifest of a version.

        Raises:
            StoreError: it is not there, or damaged.
            ModelError: it cannot be decoded.
        """
        try:
            return json.decode(self._shelf.get(notice.manifest.sha256), type=Manifest)
        except UNREADABLE as error:
            raise ModelError(
                f"version {notice.version[:12]}: its manifest cannot be decoded: {error}",
                remedy="install the same version of fedmill on agents and coordinator",
            ) from error

    def weights(self, notice: VersionNotice) -> NDArray[np.float32]:
        """The weights of a version, float32 (size,): as they are, from a delta, or a snapshot.

        Raises:
            StoreError: something is missing or damaged; a snapshot depends on nothing else.
            FrameError: the delta is damaged, or made for another base or layout.
            ModelError: as ``layout``.
        """
        if self._shelf.has(notice.version):
            return self._shelf.vector(notice.version)
        if notice.delta is not None and self._shelf.has(notice.delta.sha256):
            base = self._shelf.vector(notice.base)
            frame = self._shelf.get(notice.delta.sha256)
            vector = apply_delta(self.layout(notice), base, frame, self._roles)
        else:
            vector = self._shelf.vector(notice.snapshot.sha256)
        if version_of(vector) != notice.version:
            raise StoreError(
                f"version {notice.version[:12]}: weights do not have the announced SHA-256",
                remedy="the snapshot is fetched instead",
            )
        return vector

    def sound(self, notice: VersionNotice, vector: NDArray[np.float32]) -> Manifest:
        """The layout of ``vector`` (size,), which can be trained from; no session is made.

        Raises:
            StoreError: a part is missing or damaged.
            ModelError: the vector does not fit, or is made for other windows.
        """
        return self._fitting(notice, vector)[0]

    def checked(
        self, notice: VersionNotice, vector: NDArray[np.float32], *, made_here: bool = False
    ) -> Checked:
        """``vector`` (size,), in a session that gives what ``notice`` says for its canary.

        What was ``made_here`` need not: nobody else has computed it yet.

        Raises:
            StoreError: a part is missing or damaged.
            FrameError: a tensor of it cannot be decoded.
            Refused: it is made for other windows, or computes something else here; at which gate.
        """
        manifest, inputs, template = self._fitting(notice, vector)
        with at(Gate.GRAPH):
            session = OnnxSession.from_template(template, vector)
        demand(gates.schema(self._job, manifest, session.metadata))
        demand(gates.width(self._job, session.outputs, session.features))
        with at(Gate.GRAPH):
            outputs = session.run(inputs)
        demand(gates.finite("outputs for the canary windows", outputs))
        if not made_here:
            expected = unpack_tensor(notice.canary_outputs)
            with at(Gate.CANARY):
                check_canary(session, inputs, expected, CANARY_TOLERANCE)
        return Checked(notice.version, notice.number, manifest, template, vector, inputs, session)

    def _fitting(
        self, notice: VersionNotice, vector: NDArray[np.float32]
    ) -> tuple[Manifest, NDArray[np.float32], bytes]:
        """Layout, canary inputs and graph of a version that has numbers and is for this job."""
        with at(Gate.SCHEMA):
            manifest = self.layout(notice)
            manifest.check(vector)
        inputs = unpack_tensor(self._shelf.get(notice.canary_inputs.sha256))
        if inputs.shape[1:] != self._window:
            reason = (
                f"version {notice.version[:12]} takes windows of {inputs.shape[1:]} signals and "
                f"samples, the job has {self._window}"
            )
            raise Refused(Verdict(Gate.SCHEMA, ok=False, reason=reason))
        demand(gates.finite("weights", vector))
        return manifest, inputs, self._shelf.get(notice.template.sha256)
