# SPDX-License-Identifier: Apache-2.0
"""How the parts of a coordinator speak to agents."""

from typing import Protocol

from msgspec import Struct

from fedmill_coordinator.fleet import Fleet
from fedmill_coordinator.traffic import Traffic
from fedmill_shared import topics
from fedmill_shared.clock import Clock
from fedmill_shared.errors import BrokerError
from fedmill_shared.link.base import Link, Rejection
from fedmill_shared.link.rejections import Rejections
from fedmill_shared.log import Logger
from fedmill_shared.messages import encode


class Voice(Protocol):
    """Publishes for jobs; the bytes are counted."""

    def tell(self, job: str, agent: str, kind: str, message: Struct | bytes) -> None:
        """To one agent."""
        ...

    def broadcast(self, job: str, kind: str, message: Struct | bytes) -> None:
        """To all agents; structs are retained, blocks are not."""
        ...

    def turn_away(self, agent: str, kind: str, message: Struct | bytes) -> None:
        """To one agent about a job that is not run here; nobody bears the bytes."""
        ...

    def post(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Bytes that are for no job, and that nobody's round bears."""
        ...


class LinkVoice:
    """The voice over a link."""

    def __init__(
        self, link: Link, fleet: Fleet, traffic: Traffic, clock: Clock, log: Logger
    ) -> None:
        """Speak over ``link`` to ``fleet``, and count in ``traffic``."""
        self._link = link
        self._fleet = fleet
        self._traffic = traffic
        self._log = log
        self._rejections = Rejections(self._tell_of, clock)

    def tell(self, job: str, agent: str, kind: str, message: Struct | bytes) -> None:
        """Publish to one agent."""
        topic, payload = topics.down(agent, kind), _payload(message)
        if self._publish(topic, payload, retain=False):
            away = self._fleet.away() & {agent}
            self._traffic.down(job, topic, len(payload), to={agent} - away, away=away)

    def broadcast(self, job: str, kind: str, message: Struct | bytes) -> None:
        """Publish to all agents, of whatever job: each listens to all of them."""
        topic, payload = topics.broadcast(kind, job), _payload(message)
        retain = isinstance(message, Struct)
        if self._publish(topic, payload, retain=retain):
            here, away = self._fleet.connected(), self._fleet.away()
            self._traffic.down(job, topic, len(payload), to=here, away=away, retain=retain)

    def turn_away(self, agent: str, kind: str, message: Struct | bytes) -> None:
        """Publish to one agent what concerns no job of ours."""
        self._publish(topics.down(agent, kind), _payload(message), retain=False)

    def post(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish bytes that are for no job."""
        self._publish(topic, payload, retain=retain)

    def publish_metadata(self, name: str, data: bytes) -> None:
        """Tell every agent signed metadata, retained; empty data takes it back."""
        self._publish(topics.broadcast("trust", name), data, retain=True)

    def _publish(self, topic: str, payload: bytes, *, retain: bool) -> bool:
        """What cannot be sent now is announced again, or asked for, after the next connection."""
        try:
            self._link.publish(topic, payload, retain=retain, done=self._rejections.hear)
        except BrokerError as error:
            self._log.warning("message.unsent", topic=topic, error=str(error))
            return False
        return True

    def _tell_of(self, rejection: Rejection, messages: int) -> None:
        """Log what the broker refuses, on the link's thread."""
        self._log.error(
            "broker.refused",
            topic=rejection.topic,
            reason=rejection.reason,
            messages=messages,
            remedy=rejection.remedy,
        )


def _payload(message: Struct | bytes) -> bytes:
    return message if isinstance(message, bytes) else encode(message)
