# SPDX-License-Identifier: Apache-2.0
"""A broker inside one process, for tests: same contract as the real one, no sockets, no threads."""

import threading
from collections import deque
from collections.abc import Sequence

from fedmill_shared.link.base import (
    LARGEST_PACKET,
    Connected,
    Disconnected,
    Done,
    Message,
    Rejection,
    Sink,
    check_size,
    topic_matches,
)


class MemoryBroker:
    """Routes messages between :class:`MemoryLink` objects; keeps retained ones and sessions.

    Attributes:
        forbidden: topic patterns on which nobody may publish, as an ACL has it.
    """

    def __init__(self, *, largest_packet: int = LARGEST_PACKET) -> None:
        """A broker that refuses packets above ``largest_packet`` bytes."""
        self.largest_packet = largest_packet
        self.forbidden: list[str] = []
        self.retained: dict[str, bytes] = {}
        self.links: list[MemoryLink] = []
        self.lock = threading.RLock()
        self._queue: deque[Message] = deque()

    def route(self, topic: str, payload: bytes, *, retain: bool) -> Rejection | None:
        """Deliver to every subscriber, or keep for those who are away; refuse what is forbidden.

        What a sink publishes in answer follows behind what it answers, for every subscriber.
        """
        if any(topic_matches(pattern, topic) for pattern in self.forbidden):
            return Rejection(topic, "Not authorized", "let this topic be published")
        self._pass_on(topic, payload, retain=retain)
        return None

    def _pass_on(self, topic: str, payload: bytes, *, retain: bool) -> None:
        with self.lock:
            if retain and payload:
                self.retained[topic] = payload
            elif retain:
                self.retained.pop(topic, None)
            self._queue.append(Message(topic, payload))
            if len(self._queue) > 1:
                return
            try:
                while self._queue:
                    for link in list(self.links):
                        link.deliver(self._queue[0])
                    self._queue.popleft()
            finally:
                self._queue.clear()


class MemoryLink:
    """The in-process twin of :class:`fedmill_shared.link.mqtt.MqttLink`; may be started again."""

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
        self._connected = False
        self._missed: list[Message] = []
        self.backlog = 0
        """Nothing ever waits here; a test may say that something does."""
        self.late = 0.0
        """There is no thread; a test may say that there is one, and that it hangs."""

    def start(self) -> None:
        """Connect; what was missed and what is retained arrives before this returns."""
        with self._broker.lock:
            self._connected = True
            known = self in self._broker.links
            if not known:
                self._broker.links.append(self)
            self._sink(Connected(session_present=known))
            missed, self._missed = self._missed, []
            for message in missed:
                self._sink(message)
            for topic, payload in list(self._broker.retained.items()):
                if self._wants(topic):
                    self._sink(Message(topic, payload, retained=True))

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        done: Done | None = None,
    ) -> None:
        """Deliver at once to every subscriber; see :class:`fedmill_shared.link.base.Link`."""
        check_size(topic, payload, self._broker.largest_packet)
        rejection = self._broker.route(topic, payload, retain=retain)
        if done is not None:
            done(rejection)

    def stop(self, farewell: Message | None = None) -> None:
        """Say farewell and leave; the broker keeps the session."""
        if self._connected and farewell is not None:
            self._broker.route(farewell.topic, farewell.payload, retain=True)
        self._connected = False

    def renew(self) -> None:
        """Leave and come back; nothing is missed in between."""
        if self._connected:
            self.stop()
            self.start()

    def vanish(self) -> None:
        """Lose the connection without a word: the broker publishes the will."""
        self._connected = False
        self._sink(Disconnected("connection lost"))
        if self._will is not None:
            self._broker.route(self._will.topic, self._will.payload, retain=True)

    def deliver(self, message: Message) -> None:
        """Hand a message to the sink if it is subscribed to, later if the link is away."""
        if not self._wants(message.topic):
            return
        if self._connected:
            self._sink(message)
        else:
            self._missed.append(message)

    def _wants(self, topic: str) -> bool:
        return any(topic_matches(pattern, topic) for pattern in self._subscriptions)
