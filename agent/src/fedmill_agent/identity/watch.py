# SPDX-License-Identifier: Apache-2.0
"""Knows which certificate the agent signs in with, notices another, and tells what is wrong.

What is in the identity folder is read as it is; files elsewhere, and those that somebody put there
by hand, are looked at by a child, since that takes cryptography.
"""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from fedmill_agent.background import Background
from fedmill_agent.identity.children import Outcome
from fedmill_agent.identity.facts import Facts
from fedmill_agent.identity.folder import IdentityFolder
from fedmill_agent.identity.place import Place
from fedmill_agent.identity.term import IdentityTold, standing
from fedmill_shared.clock import Clock
from fedmill_shared.errors import FedmillError
from fedmill_shared.log import Logger

AGAIN_SECONDS = 60.0
"""How long after files were of no use they are looked at again, changed or not."""
TOLD_SECONDS = 24 * 3600.0
"""How often a problem that stays is told again."""


class Worker(Protocol):
    """Does what takes cryptography; see :class:`fedmill_agent.identity.children.Children`."""

    def ask(self) -> bytes:
        """A message that asks for a new certificate."""
        ...

    def take(self, certificate: bytes) -> Outcome:
        """Have a certificate checked and used."""
        ...

    def look(self) -> Facts | None:
        """What is in the folder of the identity."""
        ...

    def look_at(self, certificate: Path, key: Path, ca: Path) -> Facts | None:
        """What is in files elsewhere."""
        ...


class Watch:
    """Owns what is known of the certificate in use.

    Attributes:
        facts: of it; None where there is none, or none that can be used.
    """

    def __init__(
        self,
        place: Place,
        folder: IdentityFolder,
        worker: Worker,
        background: Background,
        changed: Callable[[Facts | None, Facts], None],
        *,
        clock: Clock,
        log: Logger,
    ) -> None:
        """Nothing is read before the first ``tick``; ``changed`` is told of before and after."""
        self._place = place
        self._folder = folder
        self._worker = worker
        self._background = background
        self._changed = changed
        self._clock = clock
        self._log = log
        self.facts: Facts | None = None
        self._fault: FedmillError | None = None
        self._known = False
        self._busy = False
        self._seen: object = None
        self._again = -math.inf
        self._told = ""
        self._told_at = -math.inf

    def tick(self) -> None:
        """Look whether the files are others, and tell what is wrong with them."""
        seen = self._mark()
        again = self._fault is not None and self._clock.monotonic() >= self._again
        if not self._busy and (again or seen != self._seen):
            self._seen = seen
            self._look()
        if self._known:
            self._tell()

    def standing(self) -> IdentityTold:
        """Where the agent stands with its certificate."""
        if self._fault is not None:
            return IdentityTold(
                state="unknown", problem=self._fault.message, remedy=self._fault.remedy
            )
        if not self._known:
            return IdentityTold(state="unknown", problem="its files are being looked at")
        return standing(self.facts, self._clock.now_ns(), ours=self._place.ours)

    def _mark(self) -> object:
        """What differs once the files do."""
        if self._place.ours and (self._folder.number or not self._folder.by_hand):
            return self._folder.number
        place = self._place
        return [_stamp(path) for path in (place.certificate, place.key, place.ca)]

    def _look(self) -> None:
        place = self._place
        if not place.ours:
            self._submit(lambda: self._worker.look_at(place.certificate, place.key, place.ca))
        elif self._folder.by_hand:
            self._submit(self._worker.look)
        else:
            try:
                self._found(self._folder.facts())
            except FedmillError as error:
                self._failed(error)

    def _submit(self, work: Callable[[], Facts | None]) -> None:
        self._busy = True
        self._background.submit(work, self._found, self._failed)

    def _found(self, facts: Facts | None) -> None:
        before, first = self.facts, not self._known
        self._busy, self._known, self._fault, self.facts = False, True, None, facts
        if facts is None or facts == before:
            return
        self._log.info("certificate.loaded", agent=facts.agent, serial=facts.serial)
        if not first:
            self._changed(before, facts)

    def _failed(self, error: FedmillError) -> None:
        self._busy, self._known, self._fault = False, True, error
        self._again = self._clock.monotonic() + AGAIN_SECONDS

    def _tell(self) -> None:
        """Say what is wrong when that begins, and once a day."""
        told, now = self.standing(), self._clock.monotonic()
        if told.state == self._told and now < self._told_at + TOLD_SECONDS:
            return
        self._told, self._told_at = told.state, now
        words = {"problem": told.problem, "remedy": told.remedy}
        match told.state:
            case "none":
                self._log.error("certificate.missing", **words)
            case "unknown":
                self._log.error("certificate.unusable", **words)
            case "early":
                self._log.error("certificate.not_yet_valid", **words)
            case "ending":
                self._log.warning("certificate.expires_soon", **words)
            case "expired":
                self._log.error("certificate.expired", **words)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116  on every tick
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
