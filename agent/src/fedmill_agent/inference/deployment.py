# SPDX-License-Identifier: Apache-2.0
"""Decides which version of a job is installed: fetched, checked, and then what scores.

A version that a disk fails is tried again; one that is damaged is fetched anew, as a snapshot; one
that is wrong is refused, and not fetched again. The one that is active scores on meanwhile.
"""

from collections.abc import Callable

from msgspec import structs

from fedmill_agent.inference.assembly import Assembly, Checked
from fedmill_agent.inference.fetch import Fetch, lacking
from fedmill_agent.inference.parts import check_sizes
from fedmill_agent.inference.scorer import Scorer
from fedmill_agent.inference.serving import Serving
from fedmill_agent.inference.shelf import VersionShelf
from fedmill_shared.clock import Clock
from fedmill_shared.errors import FedmillError, ModelError, StoreError
from fedmill_shared.link.blocks import Block
from fedmill_shared.log import Logger
from fedmill_shared.messages import BlobRequest, VersionNotice
from fedmill_shared.models.manifest import Manifest, Role, vector_bytes

RETRY_SECONDS = 5.0
"""How long a version waits that could not be fetched or installed because the disk failed."""


class Deployment:
    """Owns the shelf of one job, and the way of its versions from there into the scorer.

    Attributes:
        serving: what decides which model scores.
        active: the version that is installed, None before the first.
    """

    def __init__(
        self,
        shelf: VersionShelf,
        scorer: Scorer,
        serving: Serving,
        *,
        window: tuple[int, int],
        roles: tuple[Role, ...],
        request: Callable[[BlobRequest], None],
        clock: Clock,
        log: Logger,
    ) -> None:
        """``window`` is signals and samples of the job, ``roles`` what its deltas consist of.

        ``request`` asks for blocks.
        """
        self._shelf = shelf
        self._scorer = scorer
        self.serving = serving
        self._assembly = Assembly(shelf, window=window, roles=roles)
        self._fetch = Fetch(shelf, request, clock, log)
        self._clock = clock
        self._log = log
        self._target: VersionNotice | None = None
        self._retry_due = 0.0
        self._refused: VersionNotice | None = None
        self.active: VersionNotice | None = None

    def resume(self) -> None:
        """Install what was active before a restart, if it is whole."""
        notice = self._shelf.active()
        if notice is not None and not lacking(self._shelf, notice):
            self._try_install(notice)

    def announce(self, notice: VersionNotice, *, retained: bool) -> bool:
        """Go for ``notice``; True if it is installed now.

        What is broadcast behind a fresh notice is waited for; a ``retained`` one is too late.

        A disk that fails delays it; one that was refused is not fetched again.

        Raises:
            FrameError: a blob is impossibly large; nothing is fetched.
        """
        check_sizes(notice)
        if self._target is not None and self._target.version == notice.version:
            self._target = structs.replace(self._target, evaluate=notice.evaluate)
            return False  # what has arrived of it is kept
        self._withdraw(notice)
        if self.active is not None and self.active.version == notice.version:
            self.active = notice
            self._fetch.forget()
            return True
        if _whole(notice) == self._refused:
            return False
        self._target = notice
        return self._begin(notice, retained=retained)

    def receive(self, block: Block) -> bool:
        """Take one block; True if it completed and installed the version.

        Raises:
            FrameError: the blob is damaged; it is asked for again.
            StoreError: the disk fails; the block is asked for again.
        """
        return self._fetch.receive(block) and self._finish()

    def tick(self) -> bool:
        """Ask (again) for what has not come; True if what was delayed is installed now."""
        self._fetch.tick()
        if self._target is None or not self._retry_due:
            return False
        if self._clock.monotonic() < self._retry_due:
            return False
        return self._begin(self._target, retained=True)

    def refresh(self) -> None:
        """Score with what the trainer has left since the version was installed, if it is sound."""
        if self.active is None:
            return
        try:
            vector = self._shelf.vector(self.active.version)
            checked = self._assembly.checked(self.active, vector)
        except FedmillError as error:
            self._log.error("served.refused", error=str(error))
            return
        self._score_with(checked)

    def weights_path(self) -> str:
        """File of the active version's weights."""
        return str(self._shelf.path(self.active.version)) if self.active is not None else ""

    def canary_path(self) -> str:
        """File of the active version's canary inputs."""
        if self.active is None:
            return ""
        return str(self._shelf.path(self.active.canary_inputs.sha256))

    def manifest(self) -> Manifest:
        """Layout of the active version.

        Raises:
            ModelError: no version is active.
        """
        if self.active is None:
            raise ModelError("no model version is installed yet")
        return self._assembly.layout(self.active)

    def regimes(self) -> int:
        """Operating conditions of the active version's normaliser."""
        tables = [t for t in self.manifest().tensors if t.name == "standardise.mean"]
        return tables[0].shape[0] if tables and len(tables[0].shape) == 2 else 1

    def _withdraw(self, newer: VersionNotice) -> None:
        """Give up the version on its way: what has come of it goes, but for what ``newer`` uses."""
        old, self._target, self._retry_due = self._target, None, 0.0
        self._fetch.stop()
        if old is not None:
            names = [newer.manifest, newer.template, newer.canary_inputs, newer.snapshot]
            wanted = {newer.version, newer.base, *(name.sha256 for name in names)}
            self._shelf.drop(old, wanted=wanted)

    def _begin(self, notice: VersionNotice, *, retained: bool) -> bool:
        """Fetch what the target ``notice`` lacks; True if it is installed now."""
        self._retry_due = self._clock.monotonic() + RETRY_SECONDS
        try:
            self._fetch.begin(notice, retained=retained)
        except StoreError as error:
            self._log.error("version.delayed", version=notice.version[:12], error=str(error))
            return False
        self._retry_due = 0.0
        self._fetch.tick()
        return self._fetch.done and self._finish()

    def _finish(self) -> bool:
        """Everything has come: install the target."""
        if self._target is None:
            return False
        notice, self._target = self._target, None
        self._retry_due = 0.0
        return self._try_install(notice)

    def _try_install(self, notice: VersionNotice) -> bool:
        try:
            self._install(notice)
        except FedmillError as error:
            # Something was damaged, on disk or on the wire: the snapshot depends on nothing else.
            whole = structs.replace(notice, delta=None, base="")
            if not isinstance(error, ModelError) and lacking(self._shelf, whole):
                self._log.warning("version.damaged", version=notice.version[:12], error=str(error))
                return self.announce(whole, retained=True)
            if isinstance(error.__cause__, OSError):  # a full disk has room again some day
                self._log.error("version.delayed", version=notice.version[:12], error=str(error))
                self._target, self._retry_due = notice, self._clock.monotonic() + RETRY_SECONDS
                return False
            self._log.error("version.refused", version=notice.version[:12], error=str(error))
            self._refused = _whole(notice)
            self._shelf.drop(notice)
            return False
        return True

    def _install(self, notice: VersionNotice) -> None:
        started = self._clock.monotonic()
        vector = self._assembly.weights(notice)
        checked = self._assembly.checked(notice, vector)
        if not self._shelf.has(notice.version):  # a snapshot is there already
            self._shelf.put(vector_bytes(vector))
        self._shelf.activate(notice)
        self._score_with(checked)
        self.active = notice
        self._log.info(
            "version.installed",
            version=notice.version[:12],
            number=notice.number,
            seconds=round(self._clock.monotonic() - started, 4),
        )

    def _score_with(self, checked: Checked) -> None:
        scoring = self.serving.scoring(checked)
        self._scorer.swap(scoring.version, scoring.session)


def _whole(notice: VersionNotice) -> VersionNotice:
    """The version as it depends on nothing else; the same for every way that leads to it."""
    return structs.replace(notice, delta=None, base="", evaluate=False)
