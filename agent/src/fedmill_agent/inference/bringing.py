# SPDX-License-Identifier: Apache-2.0
"""One version at a time on its way from the wire to where it is used.

A version that a disk fails is tried again; one that is damaged is fetched anew, as a snapshot; one
that is wrong is refused, and not fetched again.
"""

from collections.abc import Callable, Collection

from msgspec import structs

from fedmill_agent.background import Background
from fedmill_agent.inference.fetch import Fetch, lacking
from fedmill_agent.inference.shelf import VersionShelf
from fedmill_shared.clock import Clock
from fedmill_shared.errors import FedmillError, ModelError, StoreError
from fedmill_shared.link.blocks import Block
from fedmill_shared.log import Logger
from fedmill_shared.messages import BlobRequest, VersionNotice

RETRY_SECONDS = 5.0
"""How long a version waits that could not be fetched or used because the disk failed."""


class Bringing:
    """Owns the downloads of one version, and says when it is whole.

    Attributes:
        target: the version that is on its way.
    """

    def __init__(
        self,
        shelf: VersionShelf,
        request: Callable[[BlobRequest], None],
        clock: Clock,
        log: Logger,
        *,
        disk: Background,
        use: Callable[[VersionNotice], None],
        refuse: Callable[[VersionNotice, FedmillError], None],
    ) -> None:
        """``request`` asks for blocks, which are kept beside the loop, on ``disk``.

        ``use`` gets a version that is whole, and says ``failed`` where it cannot be used;
        ``refuse`` hears of one that never can be.
        """
        self._shelf = shelf
        self._fetch = Fetch(shelf, request, clock, log, disk=disk, whole=self._finish)
        self._clock = clock
        self._log = log
        self._use = use
        self._refuse = refuse
        self._retry_due = 0.0
        self.target: VersionNotice | None = None

    def begin(self, notice: VersionNotice, *, retained: bool) -> None:
        """Fetch what ``notice`` lacks, and have it used."""
        self.target = notice
        self._retry_due = self._clock.monotonic() + RETRY_SECONDS
        try:
            self._fetch.begin(notice, retained=retained)
        except StoreError as error:
            self._log.error("version.delayed", version=notice.version[:12], error=str(error))
            return
        self._retry_due = 0.0
        self._fetch.tick()
        if self._fetch.done:
            self._finish()

    def receive(self, block: Block) -> None:
        """Take one block; it may complete the version.

        Raises:
            StoreError: the disk fails; the block is asked for again.
        """
        self._fetch.receive(block)

    def tick(self) -> None:
        """Ask (again) for what has not come; go on with what was delayed."""
        self._fetch.tick()
        if self.target is None or not self._retry_due:
            return
        if self._clock.monotonic() >= self._retry_due:
            self.begin(self.target, retained=True)

    def withdraw(self, wanted: Collection[str] = ()) -> None:
        """Give up what is on its way: what has come of it goes, but for what is ``wanted``."""
        old, self.target, self._retry_due = self.target, None, 0.0
        self._fetch.stop()
        if old is not None:
            self._shelf.drop(old, wanted=wanted)

    def forget(self) -> None:
        """Remove what has come in part, if the disk lets us."""
        self._fetch.forget()

    def failed(self, notice: VersionNotice, error: FedmillError) -> None:
        """``notice`` could not be used: fetch it anew, try it later, or refuse it."""
        # Something was damaged, on disk or on the wire: the snapshot depends on nothing else.
        whole = structs.replace(notice, delta=None, base="")
        if not isinstance(error, ModelError) and lacking(self._shelf, whole):
            self._log.warning("version.damaged", version=notice.version[:12], error=str(error))
            self.begin(whole, retained=True)
        elif isinstance(error.__cause__, OSError):  # a full disk has room again some day
            self._log.error("version.delayed", version=notice.version[:12], error=str(error))
            self.target, self._retry_due = notice, self._clock.monotonic() + RETRY_SECONDS
        else:
            self._refuse(notice, error)

    def _finish(self) -> None:
        """Everything has come."""
        if self.target is not None:
            notice, self.target, self._retry_due = self.target, None, 0.0
            self._use(notice)
