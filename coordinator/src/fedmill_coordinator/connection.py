# SPDX-License-Identifier: Apache-2.0
"""Whether the broker is there, and how long it is waited for at the start."""

from fedmill_coordinator.config import BrokerSection
from fedmill_shared import topics
from fedmill_shared.clock import Clock
from fedmill_shared.errors import BrokerError
from fedmill_shared.link.base import Connected, Disconnected, Link, Unheard
from fedmill_shared.link.rights import Rights, RightsTold, fresh_nonce
from fedmill_shared.log import Logger
from fedmill_shared.messages import Echo, encode


class Connection:
    """Owns what the link last said of the broker.

    Attributes:
        up: whether there is a connection.
    """

    def __init__(
        self, settings: BrokerSection, clock: Clock, log: Logger, link: Link | None = None
    ) -> None:
        """No broker has answered; over ``link`` is tried what it lets us do, where there is TLS."""
        self._link = link
        self._rights: Rights | None = None
        if settings.tls is not None:
            own, foreign = (say(topics.NOBODY, "echo") for say in (topics.down, topics.up))
            self._rights = Rights(own, foreign, log, fresh_nonce)
        self._address = f"{settings.host}:{settings.port}"
        self._patience = settings.connect_seconds
        self._clock = clock
        self._log = log
        self._began = clock.monotonic()
        self._ever = False
        self._failure = Disconnected("no broker has answered", "start the broker")
        self.up = False

    def begin(self) -> None:
        """The link starts: from now on the broker is waited for."""
        self._began = self._clock.monotonic()

    def made(self, event: Connected) -> None:
        """The broker has answered."""
        self.up = self._ever = True
        self._log.info("broker.connected", session_present=event.session_present)

        if self._rights is not None and self._link is not None:
            self._rights.test(self._link, lambda nonce: encode(Echo(nonce=nonce)))

    @property
    def rights(self) -> RightsTold | None:
        """What the broker lets us do; None for a link in the clear, where everybody may all."""
        return self._rights.told if self._rights is not None else None

    def unheard(self, event: Unheard) -> None:
        """The broker does not let us listen to agents."""
        self._log.error(
            "broker.unheard", topic=event.topic, reason=event.reason, remedy=event.remedy
        )

    def lost(self, event: Disconnected) -> None:
        """The broker is not there, or no longer."""
        self.up = False
        self._failure = event
        outlook = "the coordinator keeps trying"
        if self._patience and not self._ever:
            outlook = f"the coordinator gives up {self._patience:g} s after its start"
        self._log.error(
            "broker.unreachable",
            reason=event.reason,
            broker=self._address,
            remedy="; ".join(filter(None, [event.remedy, outlook])),
        )

    def check(self) -> None:
        """Give up a broker that has never been there.

        Raises:
            BrokerError: it has not answered within ``broker.connect_seconds`` of the start.
        """
        if self._ever or not self._patience:
            return
        if self._clock.monotonic() - self._began > self._patience:
            raise BrokerError(
                f"{self._address}: {self._failure.reason}", remedy=self._failure.remedy
            )
