# SPDX-License-Identifier: Apache-2.0
"""A broker inside one process, for tests: same contract as the real one, no sockets, no threads."""

from collections.abc import Sequence

from fedmill_shared.errors import BrokerError
from fedmill_shared.link.base import Connected, Disconnected, Message, Sink, topic_matches


class MemoryBroker:
    """Routes messages between :class:`MemoryLink` objects and keeps retained ones."""

    def __init__(self, *, largest_packet: int = 300_000) -> None:
        """A broker that refuses payloads above ``largest_packet`` bytes."""
        self.largest_packet = largest_packet
        self.retained: dict[str, bytes] = {}
        self.links: list[MemoryLink] = []

    def route(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Deliver to every connected subscriber."""
        if retain:
            self.retained[topic] = payload
        for link in list(self.links):
            link.deliver(Message(topic, payload))


class MemoryLink:
    """The in-process twin of :class:`fedmill_shared.link.mqtt.MqttLink`."""

    def __init__(
        self,
        broker: MemoryBroker,
        subscriptions: Sequence[str],
        sink: Sink,
        will: Message | None = None,
    ) -> None:
        """A link that is not connected before ``start``."""
        self._broker = broker
        self._subscriptions = subscriptions
        self._sink = sink
        self._will = will

    def start(self) -> None:
        """Connect; retained messages arrive before this returns."""
        self._broker.links.append(self)
        self._sink(Connected(session_present=False))
        for topic, payload in list(self._broker.retained.items()):
            if self._wants(topic):
                self._sink(Message(topic, payload, retained=True))

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Deliver at once to every subscriber."""
        if len(payload) > self._broker.largest_packet:
            raise BrokerError(f"{topic}: {len(payload)} bytes exceed {self._broker.largest_packet}")
        self._broker.route(topic, payload, retain=retain)

    def stop(self, farewell: Message | None = None) -> None:
        """Say farewell and leave."""
        if self not in self._broker.links:
            return
        if farewell is not None:
            self._broker.route(farewell.topic, farewell.payload, retain=True)
        self._broker.links.remove(self)

    def vanish(self) -> None:
        """Lose the connection without a word: the broker publishes the will."""
        if self in self._broker.links:
            self._broker.links.remove(self)
        self._sink(Disconnected("connection lost"))
        if self._will is not None:
            self._broker.route(self._will.topic, self._will.payload, retain=True)

    def deliver(self, message: Message) -> None:
        """Hand a message to the sink if it is subscribed to."""
        if self._wants(message.topic):
            self._sink(message)

    def _wants(self, topic: str) -> bool:
        return any(topic_matches(pattern, topic) for pattern in self._subscriptions)
