# SPDX-License-Identifier: Apache-2.0
"""One version at a time on its way from the wire to where it is used.

A version that a disk fails is tried again; one that is damaged is fetched anew, as a snapshot; one
that is wrong is refused, and not fetched again.
"""

from collections.abc import Callable, Collection

from msgspec import structs

from fedmill_agent.inference.fetch import Fetch, lacking
from fedmill_agent.inference.shelf import VersionShelf
from fedmill_shared.clock import Clock
from fedmill_shared.errors import FedmillError, ModelError, StoreError
from fedmill_shared.link.blocks import Block
from fedmill_shared.log import Logger
from fedmill_shared.messages import VersionNotice

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
        fetch: Fetch,
        clock: Clock,
        log: Logger,
        *,
        use: Callable[[VersionNotice], None],
        refuse: Callable[[VersionNotice, FedmillError], None],
    ) -> None:
        """``use`` gets a version that is whole; ``refuse`` hears what it raised for good."""
        self._shelf = shelf
        self._fetch = fetch
        self._clock = clock
        self._log = log
        self._use = use
        self._refuse = refuse
        self._retry_due = 0.0
        self.target: VersionNotice | None = None

    def begin(self, notice: VersionNotice, *, retained: bool) -> bool:
        """Fetch what ``notice`` lacks; True if it is in use now."""
        self.target = notice
        self._retry_due = self._clock.monotonic() + RETRY_SECONDS
        try:
            self._fetch.begin(notice, retained=retained)
        except StoreError as error:
            self._log.error("version.delayed", version=notice.version[:12], error=str(error))
            return False
        self._retry_due = 0.0
        self._fetch.tick()
        return self._fetch.done and self._finish()

    def receive(self, block: Block) -> bool:
        """Take one block; True if it completed the version, and that is in use.

        Raises:
            FrameError: the blob is damaged; it is asked for again.
            StoreError: the disk fails; the block is asked for again.
        """
        return self._fetch.receive(block) and self._finish()

    def tick(self) -> bool:
        """Ask (again) for what has not come; True if what was delayed is in use now."""
        self._fetch.tick()
        if self.target is None or not self._retry_due:
            return False
        if self._clock.monotonic() < self._retry_due:
            return False
        return self.begin(self.target, retained=True)

    def withdraw(self, wanted: Collection[str] = ()) -> None:
        """Give up what is on its way: what has come of it goes, but for what is ``wanted``."""
        old, self.target, self._retry_due = self.target, None, 0.0
        self._fetch.stop()
        if old is not None:
            self._shelf.drop(old, wanted=wanted)

    def forget(self) -> None:
        """Remove what has come in part, if the disk lets us."""
        self._fetch.forget()

    def _finish(self) -> bool:
        """Everything has come."""
        if self.target is None:
            return False
        notice, self.target, self._retry_due = self.target, None, 0.0
        return self.attempt(notice)

    def attempt(self, notice: VersionNotice) -> bool:
        """Use ``notice``, which is whole as far as that is known; True if that went well."""
        try:
            self._use(notice)
        except FedmillError as error:
            return self.failed(notice, error)
        return True

    def failed(self, notice: VersionNotice, error: FedmillError) -> bool:
        """``notice`` could not be used: fetch it anew, try it later, or refuse it.

        True if it is in use after all.
        """
        # Something was damaged, on disk or on the wire: the snapshot depends on nothing else.
        whole = structs.replace(notice, delta=None, base="")
        if not isinstance(error, ModelError) and lacking(self._shelf, whole):
            self._log.warning("version.damaged", version=notice.version[:12], error=str(error))
            return self.begin(whole, retained=True)
        if isinstance(error.__cause__, OSError):  # a full disk has room again some day
            self._log.error("version.delayed", version=notice.version[:12], error=str(error))
            self.target, self._retry_due = notice, self._clock.monotonic() + RETRY_SECONDS
            return False
        self._refuse(notice, error)
        return False
