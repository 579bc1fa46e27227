# SPDX-License-Identifier: Apache-2.0
"""Stolen gateways that send all the broker takes, seconds on end, beside a fleet that learns."""

import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.pki_fleet import SecureFleet, secure_federation
from tests.system.fleet import COORDINATOR, a_job, a_pair

pytestmark = [pytest.mark.system, pytest.mark.drill]
LARGEST = 299_000
"""Bytes of a message that the broker still takes: its limit is a packet of 300 000."""
TOO_LARGE = 1_000_000
SECONDS = 6.0
"""How long they send at least."""
VOLUME = 256 << 20
"""Bytes for the coordinator that the broker takes at least: far more than either may keep."""
ROOM = 96 << 20
"""Bytes by which the coordinator may grow meanwhile: 128 messages wait at most, of 300 kB each."""
BROKER_ROOM = 192 << 20
"""Bytes that the broker may have: 50 MB for each who reads, and as many on their way."""
ROUNDS = 3
PATIENCE_SECONDS = 120.0


class Flooder(threading.Thread):
    """A client with a certificate that is good and no manners; it comes back whenever it is ended.

    Attributes:
        sent: bytes of whole messages that were written to the connection.
        ended: how often the broker has ended the connection.
    """

    def __init__(self, port: int, context: ssl.SSLContext, name: str, size: int) -> None:
        super().__init__(daemon=True)
        self.sent = self.ended = 0
        self._address = ("127.0.0.1", port)
        self._context = context
        self._hello = packet(0x10, b"\x00\x04MQTT\x04\x02\x00\x3c" + text(name))
        topic = text(f"fedmill/v1/{name}/up/block")
        self._message = packet(0x32, topic + b"\x00\x01" + bytes(size))  # QoS 1
        self._over = threading.Event()

    def run(self) -> None:
        """Until ``stop``."""
        while not self._over.is_set():
            with suppress(OSError):
                self._connection()
            self.ended += 1

    def stop(self) -> None:
        """No more."""
        self._over.set()
        self.join()

    def _connection(self) -> None:
        with (
            socket.create_connection(self._address, timeout=5.0) as plain,
            self._context.wrap_socket(plain, server_hostname="127.0.0.1") as link,
        ):
            link.sendall(self._hello)
            while not self._over.is_set():
                link.sendall(self._message)
                self.sent += len(self._message)
                self._pass_over(link)

    @staticmethod
    def _pass_over(link: ssl.SSLSocket) -> None:
        """Read what the broker answers, so that it never has to wait for that."""
        link.setblocking(False)
        with suppress(ssl.SSLWantReadError):
            while link.recv(65_536):
                pass
        link.settimeout(5.0)


def text(value: str) -> bytes:
    """As MQTT writes it."""
    return struct.pack(">H", len(value)) + value.encode()


def packet(kind: int, body: bytes) -> bytes:
    """An MQTT packet with its length."""
    left, length = len(body), bytearray()
    while True:
        left, digit = divmod(left, 128)
        length.append(digit | (0x80 if left else 0))
        if not left:
            return bytes([kind]) + bytes(length) + body


@contextmanager
def flood(fleet: SecureFleet, folder: Path, *sizes: int) -> Iterator[list[Flooder]]:
    """As many thieves as there are sizes, each of whom sends messages of one."""
    flooders = []
    for number, size in enumerate(sizes):
        name = f"thief-{number}"
        files = fleet.authority.issue(name).write(folder / name)
        context = ssl.create_default_context(cadata=fleet.authority.pem.decode())
        context.load_cert_chain(files / "certificate.pem", files / "key.pem")
        flooders.append(Flooder(fleet.plant.port, context, name, size))
    try:
        for each in flooders:
            each.start()
        yield flooders
    finally:
        for each in flooders:
            each.stop()


class TestFlood:
    def test_of_messages_as_large_as_can_be_and_larger(self, tmp_path: Path) -> None:
        """Rounds close all the while, memory is bounded, and both sides say who it was."""
        job = a_job(rounds=10_000, minimum=2)
        with secure_federation(tmp_path / "fleet", job, a_pair()) as fleet:
            fleet.wait("a round", lambda: fleet.closed() >= 1)
            coordinator, broker = fleet.process(COORDINATOR), fleet.broker()
            before, most, broker_most = coordinator.memory_info().rss, 0, 0
            with flood(fleet, tmp_path, LARGEST, LARGEST, TOO_LARGE, TOO_LARGE) as flooders:
                large, too_large = flooders[:2], flooders[2:]
                closed, end = fleet.closed(), time.monotonic() + SECONDS

                def done() -> bool:
                    nonlocal most, broker_most
                    most = max(most, coordinator.memory_info().rss)
                    broker_most = max(broker_most, broker.memory_info().rss)
                    sent = sum(each.sent for each in large) >= VOLUME
                    refused = all(each.ended > 10 for each in too_large)
                    rounds = fleet.closed() >= closed + ROUNDS
                    return sent and refused and rounds and time.monotonic() > end

                fleet.wait("rounds in the flood", done, PATIENCE_SECONDS)
            assert most - before < ROOM
            assert broker_most < BROKER_ROOM
            assert all(fleet.plant.oversize(f"thief-{number}") for number in (2, 3))
            for number in (0, 1):
                topic = f"fedmill/v1/thief-{number}/up/block"
                assert fleet.heard("message.refused", topic=topic)
            last = [each for each in fleet.rounds() if each.state == "closed"][-1]
            assert sorted(last.included) == fleet.agents
