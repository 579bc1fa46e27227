# SPDX-License-Identifier: Apache-2.0
"""Brings one job's newest version from the wire into the scorer.

A version needs its manifest, template and canary inputs, and its weights: as a delta on a version
that is on the shelf, or as a whole snapshot. Deltas are broadcast; everything else is pulled.
"""

from collections.abc import Callable

import numpy as np
from msgspec import json, structs
from numpy.typing import NDArray

from fedmill_agent.inference.scorer import Scorer
from fedmill_agent.inference.shelf import VersionShelf
from fedmill_shared.clock import Clock
from fedmill_shared.codec.frame import decode_frame
from fedmill_shared.errors import FedmillError, FrameError, ModelError, StoreError
from fedmill_shared.link.blocks import TRANSFER_WINDOW, Assembler, Block
from fedmill_shared.log import Logger
from fedmill_shared.messages import UNREADABLE, BlobRequest, VersionNotice
from fedmill_shared.models.manifest import LEARNED, Manifest, vector_bytes, version_of
from fedmill_shared.onnx_session import OnnxSession, check_canary
from fedmill_shared.tensors import unpack_tensor

PATIENCE_SECONDS = 1.0
CANARY_TOLERANCE = 1e-3
"""Allowed error as a share of the spread of the expected outputs."""


class Deployment:
    """Owns the shelf and the downloads of one job."""

    def __init__(
        self,
        shelf: VersionShelf,
        scorer: Scorer,
        *,
        window: tuple[int, int],
        request: Callable[[BlobRequest], None],
        clock: Clock,
        log: Logger,
    ) -> None:
        """``window`` is signals and samples of the job; ``request`` asks for blocks."""
        self._shelf = shelf
        self._scorer = scorer
        self._window = window
        self._request = request
        self._clock = clock
        self._log = log
        self._assembler = Assembler()
        self._wanted: dict[str, float] = {}
        self._outstanding: dict[str, set[int]] = {}
        self._target: VersionNotice | None = None
        self.active: VersionNotice | None = None

    def resume(self) -> None:
        """Install what was active before a restart, if it is whole."""
        notice = self._shelf.active()
        if notice is not None and not self._missing(notice):
            self._try_install(notice)

    def announce(self, notice: VersionNotice, *, retained: bool) -> bool:
        """Go for ``notice``; True if it is installed now. A delta is waited for unless retained.

        Raises:
            FrameError: a blob is impossibly large; nothing is fetched.
        """
        if self._target is not None and self._target.version == notice.version:
            self._target = structs.replace(self._target, evaluate=notice.evaluate)
            return False  # what has arrived of it is kept
        self._drop_downloads()
        if self.active is not None and self.active.version == notice.version:
            self.active = notice
            return True
        now = self._clock.monotonic()
        missing = self._missing(notice)
        for blob, size in missing.items():
            self._assembler.expect(blob, size)
        for blob in missing:
            broadcast = notice.delta is not None and blob == notice.delta.sha256 and not retained
            self._wanted[blob] = now + PATIENCE_SECONDS if broadcast else now
        self._target = notice
        self.tick()
        return self._finish()

    def receive(self, block: Block) -> bool:
        """Take one block; True if it completed and installed the version.

        Raises:
            FrameError: the blob is damaged; it is asked for again.
        """
        if block.blob not in self._wanted:
            return False
        try:
            blob = self._assembler.add(block)
        except FrameError:
            self._assembler.expect(block.blob, block.size)
            self._outstanding.pop(block.blob, None)
            raise
        if blob is None:
            self._pull_on(block)
            return False
        self._wanted.pop(block.blob)
        self._outstanding.pop(block.blob, None)
        self._shelf.put(blob)
        return self._finish()

    def tick(self) -> None:
        """Ask (again) for what has not come."""
        now = self._clock.monotonic()
        for blob, due in list(self._wanted.items()):
            if now >= due:
                self._wanted[blob] = now + 2 * PATIENCE_SECONDS
                self._pull(blob)

    def weights_path(self) -> str:
        """File of the active version's weights."""
        return str(self._shelf.path(self.active.version)) if self.active is not None else ""

    def manifest(self) -> Manifest:
        """Layout of the active version.

        Raises:
            ModelError: no version is active.
        """
        if self.active is None:
            raise ModelError("no model version is installed yet")
        return self._layout(self.active)

    def regimes(self) -> int:
        """Operating conditions of the active version's normaliser."""
        tables = [t for t in self.manifest().tensors if t.name == "standardise.mean"]
        return tables[0].shape[0] if tables and len(tables[0].shape) == 2 else 1

    def _layout(self, notice: VersionNotice) -> Manifest:
        try:
            return json.decode(self._shelf.get(notice.manifest.sha256), type=Manifest)
        except UNREADABLE as error:
            raise ModelError(
                f"version {notice.version[:12]}: its manifest cannot be decoded: {error}",
                remedy="install the same version of fedmill on agents and coordinator",
            ) from error

    def _missing(self, notice: VersionNotice) -> dict[str, int]:
        blobs = [notice.manifest, notice.template, notice.canary_inputs]
        if not self._shelf.has(notice.version):
            on_base = notice.delta is not None and self._shelf.has(notice.base)
            blobs.append(notice.delta if on_base and notice.delta else notice.snapshot)
        return {blob.sha256: blob.size for blob in blobs if not self._shelf.has(blob.sha256)}

    def _finish(self) -> bool:
        if self._target is None or self._wanted:
            return False
        notice, self._target = self._target, None
        return self._try_install(notice)

    def _try_install(self, notice: VersionNotice) -> bool:
        try:
            self._install(notice)
        except FedmillError as error:
            # Something was damaged, on disk or on the wire: the snapshot depends on nothing else.
            whole = structs.replace(notice, delta=None, base="")
            if not isinstance(error, ModelError) and self._missing(whole):
                self._log.warning("version.damaged", version=notice.version[:12], error=str(error))
                return self.announce(whole, retained=True)
            self._log.error("version.refused", version=notice.version[:12], error=str(error))
            return False
        return True

    def _install(self, notice: VersionNotice) -> None:
        started = self._clock.monotonic()
        vector = self._weights(notice)
        self._layout(notice).check(vector)
        session = OnnxSession.from_template(self._shelf.get(notice.template.sha256), vector)
        inputs = unpack_tensor(self._shelf.get(notice.canary_inputs.sha256))
        if inputs.shape[1:] != self._window:
            raise ModelError(
                f"version {notice.version[:12]} takes windows of {inputs.shape[1:]} signals and "
                f"samples, the job has {self._window}"
            )
        check_canary(session, inputs, unpack_tensor(notice.canary_outputs), CANARY_TOLERANCE)
        self._shelf.put(vector_bytes(vector))
        self._shelf.activate(notice)
        self._scorer.swap(notice.version, session)
        self.active = notice
        self._log.info(
            "version.installed",
            version=notice.version[:12],
            number=notice.number,
            seconds=round(self._clock.monotonic() - started, 4),
        )

    def _weights(self, notice: VersionNotice) -> NDArray[np.float32]:
        if self._shelf.has(notice.version):
            return self._shelf.vector(notice.version)
        if notice.delta is not None and self._shelf.has(notice.delta.sha256):
            base = self._shelf.vector(notice.base)
            frame = self._shelf.get(notice.delta.sha256)
            vector = apply_delta(self._layout(notice), base, frame)
        else:
            vector = self._shelf.vector(notice.snapshot.sha256)
        if version_of(vector) != notice.version:
            raise StoreError(
                f"version {notice.version[:12]}: weights do not have the announced SHA-256",
                remedy="the snapshot is fetched instead",
            )
        return vector

    def _pull(self, blob: str) -> None:
        indices = self._assembler.missing(blob)[:TRANSFER_WINDOW]
        self._outstanding[blob] = set(indices)
        job = self._target.job if self._target is not None else ""
        self._request(BlobRequest(job=job, blob=blob, missing=indices))

    def _pull_on(self, block: Block) -> None:
        # Patience is with silence: a slow line that delivers is not asked twice.
        self._wanted[block.blob] = self._clock.monotonic() + 2 * PATIENCE_SECONDS
        outstanding = self._outstanding.get(block.blob)
        if outstanding is None:
            return
        outstanding.discard(block.index)
        if not outstanding:
            self._pull(block.blob)

    def _drop_downloads(self) -> None:
        self._target = None
        for blob in self._wanted:
            self._assembler.forget(blob)
        self._wanted.clear()
        self._outstanding.clear()


def apply_delta(manifest: Manifest, base: NDArray[np.float32], frame: bytes) -> NDArray[np.float32]:
    """The version that ``frame`` makes of ``base``: the coordinator does the very same sum.

    Raises:
        FrameError: the frame is damaged or made for another base or layout.
    """
    learned = manifest.gather(base, LEARNED)
    header, delta = decode_frame(frame, elements=len(learned))
    found, wanted = (header.base, header.schema), (version_of(base)[:16], manifest.digest[:16])
    if header.content != "delta" or found != wanted:
        raise FrameError(f"delta is made for {found[0]}, not for the version {wanted[0]} held here")
    return manifest.scatter(base, learned + delta, LEARNED)
