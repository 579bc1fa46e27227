# SPDX-License-Identifier: Apache-2.0
"""The way out of all that an agent publishes: a few messages at a time, behind what rounds need."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from fedmill_agent.line import Line
from fedmill_shared.link.base import Done

if TYPE_CHECKING:
    from fedmill_agent.publishing.node import SparkplugNode

IN_FLIGHT = 8
"""Publications that the broker has not answered yet, of all jobs; one of each job at least."""
CLOSE_SECONDS = 1.0


class Teller(Protocol):
    """Something that publishes, of one job."""

    def pump(self) -> None:
        """Tell what can be told now, without waiting."""
        ...

    def tick(self) -> None:
        """Do what is due about once a second."""
        ...

    def close(self) -> None:
        """The job is gone, or taken up anew."""
        ...


class Outlet:
    """Owns the room on the line that publications may take, and who shares it.

    Attributes:
        node: shows the newest predictions; None where nobody wants that.
    """

    def __init__(
        self,
        line: Line,
        soon: Callable[[Callable[[], None]], None],
        node: "SparkplugNode | None" = None,
    ) -> None:
        """``soon`` has something called on the daemon's loop, from whatever thread it is asked."""
        self.node = node
        self._line = line
        self._soon = soon
        self._tellers: list[Teller] = []
        self._sharing: list[Teller] = []

    @property
    def open(self) -> bool:
        """Whether anything may go out now."""
        return self._line.connected and not self._line.crowded

    @property
    def share(self) -> int:
        """Messages that each of those who send may have in flight."""
        return max(1, IN_FLIGHT // max(1, len(self._sharing)))

    def join(self, teller: Teller, *, sends: bool = True) -> None:
        """Give ``teller`` its turn in each ``pump``, and a share if it ``sends``."""
        self._tellers.append(teller)
        if sends:
            self._sharing.append(teller)

    def leave(self, teller: Teller) -> None:
        """It wants none any more."""
        self._tellers.remove(teller)
        if teller in self._sharing:
            self._sharing.remove(teller)

    def start(self) -> None:
        """Begin to show."""
        if self.node is not None:
            self.node.start()

    def pump(self) -> None:
        """Let everybody tell what can be told now."""
        for teller in self._tellers:
            teller.pump()

    def send(self, kind: str, job: str, payload: bytes, done: Done) -> None:
        """Publish; ``done`` is called on the loop with the broker's answer.

        Raises:
            BrokerError: it is larger than the broker takes.
        """
        self._line.publish(kind, job, payload, lambda answer: self._soon(partial(done, answer)))

    def close(self) -> None:
        """Show nothing more."""
        if self.node is not None:
            self.node.stop()
            self.node.join(CLOSE_SECONDS)
