# SPDX-License-Identifier: Apache-2.0
"""The versions of a job on one agent: the one it follows and trains from, and the one that scores.

What is followed is fetched and checked here. What scores is the installer's affair alone: it may be
what is followed, an older version, or a model of the agent's own. The one that scores scores on
whatever happens to the other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from fedmill_agent.flows import Flow, Flows, beside
from fedmill_agent.inference.assembly import Assembly, Checked
from fedmill_agent.inference.bringing import RETRY_SECONDS, Bringing
from fedmill_agent.inference.fetch import lacking
from fedmill_agent.inference.installing.around import Around, nothing
from fedmill_agent.inference.installing.installer import Installer
from fedmill_agent.inference.parts import check_sizes
from fedmill_agent.inference.scorer import Scorer
from fedmill_agent.inference.serving import Serving
from fedmill_agent.inference.shelf import VersionShelf, needs
from fedmill_shared.errors import FedmillError, ModelError
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
        arrived: Callable[[], None] = nothing,
    ) -> None:
        """``request`` asks for blocks; ``arrived`` is called when another version is followed."""
        self._shelf = shelf
        self._background = around.background
        self._arrived = arrived
        self._clock = around.clock
        # Elsewhere only releases say what serves, whatever somebody says of a version.
        each = around.job.rollout.release == "each"
        self._as_they_come = each and not around.verifier.signed
        self._log = around.log
        self.serving = serving
        self._assembly = Assembly(shelf, around.job)
        self._flows = Flows(around.disk)
        self.installer = Installer(
            shelf, self._assembly, scorer, serving, around, flows=self._flows, request=request
        )
        self._bringing = Bringing(
            shelf,
            request,
            around.clock,
            around.log,
            disk=around.disk,
            use=self._use,
            refuse=self._refuse,
        )
        self._coming: _Coming | None = None
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
        self._flows.at_once(self.installer.resume(self.followed))
        if notice is not None and fault is not None:
            self._bringing.failed(notice, fault)

    def announce(self, notice: VersionNotice, *, retained: bool) -> None:
        """Go for ``notice``.

        What is broadcast behind a fresh notice is waited for; a ``retained`` one is too late.

        A disk that fails delays it; one that was refused is not fetched again.

        Raises:
            FrameError: a blob is impossibly large; nothing is fetched.
        """
        check_sizes(notice)
        if not self._as_they_come:
            notice = structs.replace(notice, serve=False)
        target, coming = self._bringing.target, self._coming
        if target is not None and target.version == notice.version:
            self._bringing.target = structs.replace(
                target, evaluate=notice.evaluate, serve=notice.serve
            )
            return  # what has arrived of it is kept
        if coming is not None and coming.is_this(notice):
            coming.notice = structs.replace(coming.notice, evaluate=notice.evaluate)
            return
        self._coming = None
        self._bringing.withdraw(needs(notice) | {notice.base, notice.snapshot.sha256})
        if self._follows(notice):
            self.followed = notice
            self._bringing.forget()
            self._arrived()
        elif not self.installer.is_unusable(notice):
            self._bringing.begin(notice, retained=retained)

    def release(self, release: ReleaseNotice, *, retained: bool) -> None:
        """A release is open to this agent.

        What is on its way to be followed is broadcast, and so is the same version of a release.
        """
        target = self._bringing.target
        coming = target is not None and target.version == release.notice.version
        self.installer.release(release, retained=retained or not coming)

    def receive(self, block: Block) -> None:
        """Take one block; it may complete what is to be followed, or to be served.

        Raises:
            StoreError: the disk fails; the block is asked for again.
        """
        try:
            self._bringing.receive(block)
        finally:
            self.installer.receive(block)

    def tick(self) -> None:
        """Ask (again) for what has not come; go on with what was delayed."""
        self.installer.tick()
        self._bringing.tick()

    def refresh(self, then: Callable[[], None] = nothing) -> None:
        """Score with what the trainer has left since the version was installed, if it is sound.

        ``then`` is called on the loop once that is so, or turned out not to be.
        """
        self.installer.refresh(then)

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
        self._coming = None
        self.installer.close()
        self._flows.close()

    def _use(self, notice: VersionNotice) -> None:
        """All of ``notice`` is here: check it beside the loop, and then follow it."""
        coming = self._coming = _Coming(notice, self._clock.monotonic())

        def done(checked: Checked | None) -> None:
            self._flows.start(self._follow(coming, checked))

        self._background.submit(
            partial(self._assembled, notice), done, partial(self._failed, coming)
        )

    def _failed(self, coming: "_Coming", error: FedmillError) -> None:
        if coming is self._coming:
            self._coming = None
            self._bringing.failed(coming.notice, error)

    def _assembled(self, notice: VersionNotice) -> Checked | None:
        """A session of what is on the shelf, if it is to serve; its weights are written whole."""
        vector = self._assembly.weights(notice)
        checked = self._assembly.checked(notice, vector) if notice.serve else None
        if checked is None:
            self._assembly.sound(notice, vector)
        if not self._shelf.has(notice.version):  # a snapshot is there already
            self._shelf.put(vector_bytes(vector))
        return checked

    def _follow(self, coming: "_Coming", checked: Checked | None) -> Flow[None]:
        """Follow a version that is sound; serve it if it says so."""
        if coming is not self._coming:
            return
        notice, newest = coming.notice, self.serving.newest
        self.serving.newest = notice.number
        keep = partial(self._shelf.activate, notice, self._shelf.kept(notice))
        at_once = False
        try:
            if checked is None:
                yield from self.installer.part()
                yield from beside(keep)
            else:
                at_once = yield from self.installer.follow(notice, checked, keep)
        except FedmillError as error:
            self.serving.newest = newest
            self._failed(coming, error)
            return
        self.followed = coming.notice
        if coming is self._coming:
            self._coming = None
        self._log.info(
            "version.installed" if at_once else "version.followed",
            version=notice.version[:12],
            number=notice.number,
            seconds=round(self._clock.monotonic() - coming.since, 4),
        )
        self._arrived()

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


@dataclass(slots=True)
class _Coming:
    """A version that is whole and not followed yet, since when by the clock."""

    notice: VersionNotice
    since: float

    def is_this(self, notice: VersionNotice) -> bool:
        """Whether no more is wanted of ``notice``."""
        same = self.notice.version == notice.version
        return same and (self.notice.serve or not notice.serve)
