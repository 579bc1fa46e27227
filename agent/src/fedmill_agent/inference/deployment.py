# SPDX-License-Identifier: Apache-2.0
"""The versions of a job on one agent: the one it follows and trains from, and the one that scores.

What is followed is fetched and checked here. What scores is the installer's affair alone: it may be
what is followed, an older version, or a model of the agent's own. The one that scores scores on
whatever happens to the other.
"""

from collections.abc import Callable

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from fedmill_agent.inference.assembly import Assembly
from fedmill_agent.inference.bringing import RETRY_SECONDS, Bringing
from fedmill_agent.inference.fetch import Fetch, lacking
from fedmill_agent.inference.installing.around import Around
from fedmill_agent.inference.installing.installer import Installer
from fedmill_agent.inference.parts import check_sizes
from fedmill_agent.inference.scorer import Scorer
from fedmill_agent.inference.serving import Serving
from fedmill_agent.inference.shelf import VersionShelf, needs
from fedmill_shared.errors import FedmillError, ModelError, StoreError
from fedmill_shared.link.blocks import Block
from fedmill_shared.messages import BlobRequest, ReleaseNotice, VersionNotice
from fedmill_shared.models.manifest import Manifest, vector_bytes

__all__ = ["RETRY_SECONDS", "Deployment"]


class Deployment:
    """Owns the shelf of one job, and the way of its versions from the wire onto it.

    Attributes:
        serving: what decides which model stands for the version that serves.
        installer: what decides which version serves.
        followed: the version that is trained from and reported on, None before the first.
    """

    def __init__(
        self,
        shelf: VersionShelf,
        scorer: Scorer,
        serving: Serving,
        around: Around,
        *,
        request: Callable[[BlobRequest], None],
    ) -> None:
        """``request`` asks for blocks."""
        self._shelf = shelf
        self._clock = around.clock
        # Elsewhere only releases say what serves, whatever somebody says of a version.
        self._as_they_come = around.job.rollout.release == "each"
        self._log = around.log
        self.serving = serving
        self._assembly = Assembly(shelf, around.job)
        self.installer = Installer(shelf, self._assembly, scorer, serving, around, request=request)
        self._fetch = Fetch(shelf, request, around.clock, around.log)
        self._bringing = Bringing(
            shelf,
            self._fetch,
            around.clock,
            around.log,
            use=self._follow,
            refuse=self._refuse,
        )
        self.followed: VersionNotice | None = None

    @property
    def served(self) -> VersionNotice | None:
        """The version that scores; parts of the agent's own may be in it."""
        return self.installer.served

    def resume(self) -> None:
        """Take up what was followed and what served before a restart, as far as it is whole."""
        notice, fault = self._shelf.active(), None
        if notice is not None and not lacking(self._shelf, notice):
            try:
                self._assembly.sound(notice, self._assembly.weights(notice))
                self.followed, self.serving.newest = notice, notice.number
            except FedmillError as error:
                fault = error
        self.installer.resume(self.followed)
        if notice is not None and fault is not None:
            self._bringing.failed(notice, fault)

    def announce(self, notice: VersionNotice, *, retained: bool) -> bool:
        """Go for ``notice``; True if it is followed now.

        What is broadcast behind a fresh notice is waited for; a ``retained`` one is too late.

        A disk that fails delays it; one that was refused is not fetched again.

        Raises:
            FrameError: a blob is impossibly large; nothing is fetched.
        """
        check_sizes(notice)
        if not self._as_they_come:
            notice = structs.replace(notice, serve=False)
        target = self._bringing.target
        if target is not None and target.version == notice.version:
            self._bringing.target = structs.replace(
                target, evaluate=notice.evaluate, serve=notice.serve
            )
            return False  # what has arrived of it is kept
        self._bringing.withdraw(needs(notice) | {notice.base, notice.snapshot.sha256})
        if self._follows(notice):
            self.followed = notice
            self._fetch.forget()
            return True
        if self.installer.is_unusable(notice):
            return False
        return self._bringing.begin(notice, retained=retained)

    def release(self, release: ReleaseNotice, *, retained: bool) -> None:
        """A release is open to this agent.

        What is on its way to be followed is broadcast, and so is the same version of a release.
        """
        target = self._bringing.target
        coming = target is not None and target.version == release.notice.version
        self.installer.release(release, retained=retained or not coming)

    def receive(self, block: Block) -> bool:
        """Take one block; True if it completed the version, and that is followed now.

        Raises:
            FrameError: the blob is damaged; it is asked for again.
            StoreError: the disk fails; the block is asked for again.
        """
        try:
            return self._bringing.receive(block)
        finally:
            self.installer.receive(block)

    def tick(self) -> bool:
        """Ask (again) for what has not come; True if what was delayed is followed now."""
        self.installer.tick()
        return self._bringing.tick()

    def refresh(self) -> None:
        """Score with what the trainer has left since the version was installed, if it is sound."""
        self.installer.refresh()

    def model(self) -> tuple[Manifest, NDArray[np.float32]] | None:
        """Layout and weights (size,) of the version that scores, without the agent's own parts.

        Raises:
            StoreError: the disk fails.
            ModelError: the layout cannot be decoded.
        """
        served = self.served
        if served is None:
            return None
        return self._assembly.layout(served), self._shelf.vector(served.version)

    def read(self, notice: VersionNotice) -> tuple[Manifest, bytes, NDArray[np.float32]]:
        """Layout, graph and weights (size,) of a version that is here; for any thread.

        Raises:
            StoreError: something of it is missing or damaged.
            FrameError: it is here as a delta that cannot be decoded.
            ModelError: the layout cannot be decoded.
        """
        graph = self._shelf.get(notice.template.sha256)
        return self._assembly.layout(notice), graph, self._assembly.weights(notice)

    def weights_path(self) -> str:
        """File of the followed version's weights."""
        return str(self._shelf.path(self.followed.version)) if self.followed is not None else ""

    def canary_path(self) -> str:
        """File of the followed version's canary inputs."""
        if self.followed is None:
            return ""
        return str(self._shelf.path(self.followed.canary_inputs.sha256))

    def manifest(self) -> Manifest:
        """Layout of the followed version.

        Raises:
            ModelError: no version is followed.
        """
        if self.followed is None:
            raise ModelError("no model version is installed yet")
        return self._assembly.layout(self.followed)

    def regimes(self) -> int:
        """Operating conditions of the followed version's normaliser."""
        tables = [t for t in self.manifest().tensors if t.name == "standardise.mean"]
        return tables[0].shape[0] if tables and len(tables[0].shape) == 2 else 1

    def close(self) -> None:
        """What is measured does not matter any more."""
        self.installer.close()

    def _follow(self, notice: VersionNotice) -> None:
        """All of ``notice`` is here: check it, and follow it; serve it if it says so."""
        started = self._clock.monotonic()
        vector = self._assembly.weights(notice)
        checked = self._assembly.checked(notice, vector) if notice.serve else None
        if checked is None:
            self._assembly.sound(notice, vector)
        if not self._shelf.has(notice.version):  # a snapshot is there already
            self._shelf.put(vector_bytes(vector))
        newest, self.serving.newest = self.serving.newest, notice.number
        at_once = False
        try:
            if checked is None:
                self.installer.part()
                self._shelf.activate(notice)
            else:
                at_once = self.installer.follow(
                    notice, checked, lambda: self._shelf.activate(notice)
                )
        except StoreError:
            self.serving.newest = newest
            raise
        self.followed = notice
        self._log.info(
            "version.installed" if at_once else "version.followed",
            version=notice.version[:12],
            number=notice.number,
            seconds=round(self._clock.monotonic() - started, 4),
        )

    def _follows(self, notice: VersionNotice) -> bool:
        """Whether ``notice`` is followed, and nothing more is wanted of it than before."""
        before = self.followed
        if before is None or before.version != notice.version:
            return False
        return before.serve or not notice.serve

    def _refuse(self, notice: VersionNotice, error: FedmillError) -> None:
        self._log.error("version.refused", version=notice.version[:12], error=str(error))
        self.installer.refuse(notice, error)
        self._shelf.drop(notice)
