# SPDX-License-Identifier: Apache-2.0
"""An agent's identity without processes: work is done when the test says so."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedmill_agent.identity.children import Outcome
from fedmill_agent.identity.facts import Facts
from fedmill_shared.errors import FedmillError

DAY = 24 * 3600.0


class Later:
    """Stands in for the background thread: holds what was handed in until ``work``."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], Any], Callable[..., Any], Callable[..., Any]]] = []

    def submit(
        self, work: Callable[[], Any], done: Callable[..., Any], failed: Callable[..., Any]
    ) -> None:
        """Take work."""
        self.waiting.append((work, done, failed))

    def work(self) -> int:
        """Do all of it, and count."""
        taken, self.waiting = self.waiting, []
        for work, done, failed in taken:
            try:
                given = work()
            except FedmillError as error:
                failed(error)
            else:
                done(given)
        return len(taken)


@dataclass
class Hands:
    """Stands in for the children; ``error`` is raised by whatever is asked of them."""

    facts: Facts | None = None
    error: FedmillError | None = None
    certificates: list[bytes] = field(default_factory=list)
    asked: int = 0

    def ask(self) -> bytes:
        """A request, numbered."""
        self.asked += 1
        self._fail()
        return b"request %d" % self.asked

    def take(self, certificate: bytes) -> Outcome:
        """Take a certificate."""
        self.certificates.append(certificate)
        self._fail()
        return Outcome(facts=self.facts, changed=True)

    def look(self) -> Facts | None:
        """What was set."""
        self._fail()
        return self.facts

    def look_at(self, certificate: Path, key: Path, ca: Path) -> Facts | None:
        """What was set."""
        return self.look()

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error
