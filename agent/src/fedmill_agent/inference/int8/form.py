# SPDX-License-Identifier: Apache-2.0
"""The int8 form of a job's template, from the wire to the disk; versions do not wait for it."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fedmill_agent.inference.parts import TEMPLATE_LIMIT
from fedmill_agent.inference.shelf import VersionShelf
from fedmill_shared.clock import Clock
from fedmill_shared.errors import FedmillError, FrameError, StoreError
from fedmill_shared.files import write_atomic
from fedmill_shared.link.blocks import TRANSFER_WINDOW, Block, block_count
from fedmill_shared.link.pull import SILENCE_SECONDS, Pull
from fedmill_shared.log import Logger
from fedmill_shared.messages import BlobName, BlobRequest
from fedmill_shared.models.quantised import Quantised, unpack_quantised

RETRY_SECONDS = 60.0
"""How long it waits where the disk fails or nobody answers."""
MOST_UNANSWERED = 5
TRYING = "trying"
"""File that is there while a form is tried."""


class Form:
    """Owns the file of one job's int8 form, and its way there."""

    def __init__(
        self,
        folder: Path,
        job: str,
        request: Callable[[BlobRequest], None],
        *,
        clock: Clock,
        log: Logger,
    ) -> None:
        """Keep it in ``folder``; ``request`` asks for blocks.

        Raises:
            StoreError: the folder cannot be created or written.
        """
        self._shelf = VersionShelf(folder)
        self._folder = folder
        self._job = job
        self._request = request
        self._clock = clock
        self._log = log
        self._name: BlobName | None = None
        self._pull: Pull | None = None
        self._due = 0.0

    @property
    def name(self) -> str:
        """SHA-256 of the form that is wanted; empty where there is none."""
        return self._name.sha256 if self._name is not None else ""

    @property
    def here(self) -> bool:
        """Whether it has come."""
        return self._name is not None and self._shelf.has(self._name.sha256)

    def read(self) -> Quantised:
        """The form.

        Raises:
            StoreError: it is not there, or damaged and fetched again.
            FrameError: it cannot be decoded.
        """
        return unpack_quantised(self._shelf.get(self.name))

    def begin_trial(self) -> None:
        """Put down that the form is tried, for the case that the agent is killed by that.

        Raises:
            StoreError: the disk fails.
        """
        write_atomic(self._folder / TRYING, self.name.encode())

    def end_trial(self) -> None:
        """It was tried, whatever came of it."""
        with suppress(OSError):
            (self._folder / TRYING).unlink(missing_ok=True)

    def was_deadly(self) -> bool:
        """Whether the agent ended while this form was tried; that is told once."""
        try:
            tried = (self._folder / TRYING).read_bytes()
        except OSError:
            return False
        self.end_trial()
        return tried == self.name.encode()

    def want(self, name: BlobName | None) -> None:
        """Fetch the form called ``name``, unless it is here; None: there is none.

        Raises:
            FrameError: it is larger than any is.
        """
        if name == self._name:
            return
        if name is not None and name.size > 2 * TEMPLATE_LIMIT:
            raise FrameError(f"job {self._job}: int8 form of {name.size} bytes is too large")
        self._name, self._pull, self._due = name, None, 0.0
        self._tidy()

    def receive(self, block: Block) -> None:
        """Take one block.

        Raises:
            FrameError: the form is damaged; it is asked for again.
            StoreError: the disk fails; the block is asked for again.
        """
        if self._pull is None or block.blob != self.name:
            return
        try:
            self._shelf.spool.add(block)
            whole = not self._shelf.spool.missing(block.blob, 1)
            if whole:
                self._shelf.adopt(block.blob)
        except FedmillError:
            self._pull, self._due = None, self._clock.monotonic() + RETRY_SECONDS
            raise
        if whole:
            self._pull = None
            self._log.info("int8.received", form=block.blob[:12], bytes=block.size)
        elif self._pull.arrived(block.index, self._clock.monotonic()):
            self._ask(self._pull)

    def tick(self) -> None:
        """Ask (again) for what has not come."""
        now = self._clock.monotonic()
        if self._name is None or now < self._due or self.here:
            return
        self._due = now + SILENCE_SECONDS
        try:
            self._shelf.spool.expect(self._name.sha256, self._name.size)
        except StoreError as error:
            self._due = now + RETRY_SECONDS
            self._log.error("int8.delayed", error=str(error))
            return
        self._pull = self._pull or Pull(now)
        if self._pull.unanswered >= MOST_UNANSWERED:  # nobody has it now
            self._pull, self._due = Pull(now), now + RETRY_SECONDS
        self._ask(self._pull)

    def _ask(self, pull: Pull) -> None:
        now = self._clock.monotonic()
        if self._name is None:
            return
        self._due = max(self._due, now + SILENCE_SECONDS)
        missing = self._shelf.spool.missing(self._name.sha256, TRANSFER_WINDOW)
        indices = pull.ask(missing or [block_count(self._name.size) - 1], now)
        self._request(BlobRequest(job=self._job, blob=self._name.sha256, missing=indices))

    def _tidy(self) -> None:
        """Remove other forms, if the disk lets us: they take room until then."""
        with suppress(OSError, StoreError):
            for path in self._folder.glob("*.blob"):
                if path.stem != self.name:
                    path.unlink(missing_ok=True)
            self._shelf.spool.keep([self.name] if self._name is not None else [])
