# SPDX-License-Identifier: Apache-2.0
"""Two worlds in which the same things must happen: in memory, and over a real broker."""

import itertools
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

import pytest
from tests.agent.sources.live.stands.mosquitto import Mosquitto

from fedmill_shared.link.base import Connected, Link, LinkEvent, Message
from fedmill_shared.link.memory import MemoryBroker, MemoryLink
from fedmill_shared.link.mqtt import Endpoint, MqttLink

PATIENCE = 20.0
FORBIDDEN = "+/forbidden/#"
E = TypeVar("E", Connected, Message)
_numbers = itertools.count()


class Peer:
    """A client of the broker, and what it has heard."""

    def __init__(self, name: str, subscriptions: Sequence[str], will: Message | None) -> None:
        self.name = name
        self.echo = f"{name}/echo"
        self.subscriptions = [*subscriptions, self.echo]
        self.will = will
        self.events: SimpleQueue[LinkEvent] = SimpleQueue()
        self.link: Link

    def wait_for(self, kind: type[E]) -> E:
        """The next event of ``kind``; others are dropped."""
        while True:
            event = self.events.get(timeout=PATIENCE)
            if isinstance(event, kind):
                return event

    def settle(self) -> list[Message]:
        """Messages up to an echo of our own: all that the broker had for us by now."""
        echo = Message(self.echo, str(next(_numbers)).encode())
        self.link.publish(echo.topic, echo.payload)
        messages: list[Message] = []
        while (message := self.wait_for(Message)) != echo:
            if message.topic != self.echo:  # an earlier echo whose ack was cut off comes twice
                messages.append(message)
        return messages


class World(ABC):
    """A broker and its clients."""

    def __init__(self) -> None:
        self.root = f"test{next(_numbers)}"
        self._peers: list[Peer] = []

    def topic(self, name: str) -> str:
        """A topic that no other test uses."""
        return f"{self.root}/{name}"

    def connect(self, name: str, subscriptions: Sequence[str], will: Message | None = None) -> Peer:
        """A connected client."""
        peer = Peer(self.topic(name), subscriptions, will)
        self._peers.append(peer)
        self.open(peer)
        return peer

    def close(self) -> None:
        """Disconnect everybody."""
        for peer in self._peers:
            peer.link.stop()

    def come_back(self, peer: Peer) -> Connected:
        """Connect a client that was stopped, with the same identity."""
        self.reopen(peer)
        return peer.wait_for(Connected)

    def open(self, peer: Peer) -> None:
        """Connect for the first time."""
        self.reopen(peer)
        peer.wait_for(Connected)

    @abstractmethod
    def reopen(self, peer: Peer) -> None:
        """Start the link, a new one where it must be new."""

    @abstractmethod
    def vanish(self, peer: Peer) -> None:
        """Cut the connection without a word."""

    @abstractmethod
    def recover(self, peer: Peer) -> Connected:
        """Connect after a cut."""


class MemoryWorld(World):
    """No sockets."""

    def __init__(self) -> None:
        super().__init__()
        self._broker = MemoryBroker()
        self._broker.forbidden = [FORBIDDEN]

    def reopen(self, peer: Peer) -> None:
        """The same object again."""
        if not hasattr(peer, "link"):
            peer.link = MemoryLink(self._broker, peer.subscriptions, peer.events.put, peer.will)
        peer.link.start()

    def vanish(self, peer: Peer) -> None:
        """Told to the link itself."""
        assert isinstance(peer.link, MemoryLink)
        peer.link.vanish()

    def recover(self, peer: Peer) -> Connected:
        """Nothing connects by itself here."""
        return self.come_back(peer)


class MqttWorld(World):
    """A real broker."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port

    def reopen(self, peer: Peer) -> None:
        """A new link with the same client id."""
        peer.link = MqttLink(endpoint(self._port, peer), peer.events.put)
        peer.link.start()

    def vanish(self, peer: Peer) -> None:
        """Cut the socket, as a torn cable does."""
        assert isinstance(peer.link, MqttLink)
        connection = peer.link._client.socket()
        assert isinstance(connection, socket.socket)
        connection.shutdown(socket.SHUT_RDWR)

    def recover(self, peer: Peer) -> Connected:
        """The link does it by itself."""
        return peer.wait_for(Connected)


def endpoint(port: int, peer: Peer) -> Endpoint:
    """Where ``peer`` connects to, and as whom."""
    return Endpoint(
        host="127.0.0.1",
        port=port,
        client_id=peer.name.replace("/", "-"),
        subscriptions=peer.subscriptions,
        will=peer.will,
    )


@pytest.fixture(params=["memory", pytest.param("mqtt", marks=pytest.mark.system)])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Each world in turn; nobody is left connected."""
    if request.param == "memory":
        made: World = MemoryWorld()
    else:
        made = MqttWorld(request.getfixturevalue("mosquitto"))
    yield made
    made.close()


@pytest.fixture(params=["memory", pytest.param("mqtt", marks=pytest.mark.system)])
def strict_world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Each world in turn, where nobody may publish below ``forbidden``."""
    if request.param == "memory":
        made: World = MemoryWorld()
        yield made
        made.close()
        return
    rules = tmp_path / "acl"
    rules.write_text(f"topic readwrite #\ntopic deny {FORBIDDEN}\n")
    broker = Mosquitto(tmp_path / "broker", "allow_anonymous true", f"acl_file {rules}")
    broker.start()
    made = MqttWorld(broker.port)
    yield made
    made.close()
    broker.stop()
