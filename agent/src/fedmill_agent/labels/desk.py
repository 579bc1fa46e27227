# SPDX-License-Identifier: Apache-2.0
"""Where the daemon takes in labels, whichever way they come, and jobs fetch them."""

import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fedmill_agent.config import AgentConfig
from fedmill_agent.places import labels_file, labels_folder
from fedmill_shared.clock import Clock
from fedmill_shared.errors import FedmillError, StoreError
from fedmill_shared.log import Logger

if TYPE_CHECKING:
    from fedmill_agent.labels.book import LabelBook
    from fedmill_agent.labels.decode import Decoded
    from fedmill_agent.labels.feed import LabelFeed
    from fedmill_agent.labels.record import Entry

TELL_SECONDS = 60.0
"""How often it is told that labels of one origin cannot be used."""
STOP_SECONDS = 2.0
RETRY_SECONDS = 10.0
MOST_FILES, MANY = 16, 500
"""Files that are taken in at a time, and labels behind which the rest waits: the daemon has other
work."""
COMMAND = "fedmill-agent label"


class LabelDesk:
    """Owns the book of labels and the threads that bring them; ``take`` is for any thread.

    The book is opened once there is a label: most agents get theirs with recordings.
    """

    def __init__(self, config: AgentConfig, clock: Clock, log: Logger) -> None:
        """Prepare; nothing is read yet."""
        self._config = config
        self._clock = clock
        self._log = log
        self._file = labels_file(config.agent.state)
        self._folder = labels_folder(config.agent.state)
        self._opening = threading.Lock()
        self._book: LabelBook | None = None
        self._set_aside: Path | None = None
        self._feeds: list[LabelFeed] = []
        self._due = 0.0
        self._told: dict[str, float] = {}
        self._faults: Counter[str] = Counter()

    def start(self) -> None:
        """Begin to listen where the configuration says."""
        for given in self._config.labels:
            from fedmill_agent.labels.feed import LabelFeed  # noqa: PLC0415  few agents need it

            options, own = given, f"{self._config.agent.id}-labels-{given.name}"
            if getattr(given, "client_id", own) == "":
                options = msgspec.structs.replace(given, client_id=own)
            self._feeds.append(LabelFeed(options, self.take, self._clock, self._log))
        for feed in self._feeds:
            feed.start()

    @property
    def newest(self) -> int:
        """Number of the last change, 0 where there is none."""
        return 0 if self._book is None else self._book.newest

    def late(self) -> dict[str, float]:
        """Entries whose thread hangs, by name, and for how many seconds it has been overdue."""
        return {feed.name: late for feed in self._feeds if (late := feed.late)}

    def tick(self) -> None:
        """Take in what the command line has left; where that fails it is tried again."""
        if self._clock.monotonic() < self._due:
            return
        try:
            if self._book is None and self._file.exists():
                self._opened()
            if self._folder.exists():
                self._empty()
        except StoreError as error:
            self._due = self._clock.monotonic() + RETRY_SECONDS
            self._log.error("labels.failed", labels=COMMAND, error=str(error))

    def _empty(self) -> None:
        """Take in the files of the command line."""
        from fedmill_agent.labels import spool  # noqa: PLC0415  many agents get no labels

        for path in spool.waiting(self._folder)[:MOST_FILES]:
            found = spool.read(path)
            self.take(found, COMMAND)
            spool.done(path, damaged=bool(found.faults) and not found.records)
            if len(found.records) > MANY:
                break

    def take(self, found: "Decoded", origin: str) -> int:
        """Keep labels; what cannot be used is told. How many changed something.

        Raises:
            StoreError: they cannot be kept.
        """
        changed = 0
        if found.records:
            book = self._opened()
            changed = book.take(found.records)
            self._tell_set_aside(book)
        if found.faults:
            self._tell(origin, found.faults[0], found.wrong)
        return changed

    def since(self, position: int, job: str) -> tuple[list["Entry"], int]:
        """See ``LabelBook``; for a position that is not ours, from the beginning."""
        if self._book is None:
            return [], position
        return self._book.since(position if position <= self.newest else 0, job)

    def close(self) -> None:
        """Stop listening and close the book."""
        for feed in self._feeds:
            feed.stop()
        deadline = self._clock.monotonic() + STOP_SECONDS
        for feed in self._feeds:
            feed.join(max(0.0, deadline - self._clock.monotonic()))
        if self._book is not None:
            self._book.close()

    def _opened(self) -> "LabelBook":
        from fedmill_agent.labels.book import LabelBook  # noqa: PLC0415  many agents get no labels

        with self._opening:
            if self._book is None:
                self._book = LabelBook(self._file, self._clock)
                self._tell_set_aside(self._book)
            return self._book

    def _tell_set_aside(self, book: "LabelBook") -> None:
        """Say once that a damaged book was set aside, when it was opened or since."""
        if book.set_aside != self._set_aside:
            self._set_aside = book.set_aside
            self._log.error(
                "labels.set_aside",
                path=str(book.set_aside),
                remedy="jobs keep the labels that they have; check the disk",
            )

    def _tell(self, origin: str, fault: FedmillError, count: int) -> None:
        """Say what is wrong, but not a thousand times a minute."""
        self._faults[origin] += count
        now = self._clock.monotonic()
        if now >= self._told.get(origin, now):
            self._told[origin] = now + TELL_SECONDS
            count = self._faults.pop(origin)
            self._log.error("label.unreadable", origin=origin, labels=count, error=str(fault))
