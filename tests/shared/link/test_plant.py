# SPDX-License-Identifier: Apache-2.0
"""A listener on somebody else's broker: what it tells when that is not there, not ours or not well.

Real brokers, and sockets that pretend to be one.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from tests.agent.sources.live.stands.mosquitto import (
    Mosquitto,
    make_certificate,
    with_password,
    with_tls,
)

from fedmill_coordinator.demo.broker import free_port
from fedmill_shared.clock import SystemClock
from fedmill_shared.errors import ConfigError, SourceError
from fedmill_shared.link.base import Message
from fedmill_shared.link.plant import (
    MOST_BYTES,
    MOST_MESSAGES,
    PlantBroker,
    PlantLink,
    Version,
    tls_context,
)

pytestmark = pytest.mark.system
PATIENCE = 20.0
PASSWORD = "secret"  # noqa: S105  of a broker that lives as long as a test
VERSIONS = pytest.mark.parametrize("version", ["5", "3.1.1"])


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker, running."""
    made = Mosquitto(tmp_path / "broker")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def link() -> Iterator[Callable[..., PlantLink]]:
    """Factory of links, closed at the end; no thread is ever made."""
    before = set(threading.enumerate())
    made: list[PlantLink] = []

    def make(port: int, version: Version = "5", **options: object) -> PlantLink:
        known = PlantBroker(host="127.0.0.1", port=port, client_id="", version=version)
        made.append(PlantLink(replace(known, **options)))  # type: ignore[arg-type]
        return made[-1]

    yield make
    assert set(threading.enumerate()) == before
    for each in made:
        each.close()


def until(link: PlantLink, count: int) -> list[Message]:
    """The next ``count`` messages."""
    came: list[Message] = []
    deadline = SystemClock().monotonic() + PATIENCE
    while len(came) < count:
        assert SystemClock().monotonic() < deadline, came
        came += link.read(0.5)
    return came


def lost(link: PlantLink) -> SourceError:
    """What the link tells when it is cut off."""
    deadline = SystemClock().monotonic() + PATIENCE
    while SystemClock().monotonic() < deadline:
        try:
            link.read(0.5)
        except SourceError as error:
            return error
    raise AssertionError("nothing was told")


@contextmanager
def pretender(answer: bytes, *, more: bytes = b"") -> Iterator[int]:
    """A socket that answers a connection with ``answer``, and what comes then with ``more``."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            connection.settimeout(PATIENCE)
            with connection, suppress(OSError):
                for part in (answer, more):
                    if connection.recv(4096) and part:
                        connection.sendall(part)
                while connection.recv(4096):
                    pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(PATIENCE)
        assert not thread.is_alive()


class TestMessages:
    @VERSIONS
    def test_come_in_order_with_their_flag(
        self, broker: Mosquitto, link: Callable[..., PlantLink], version: Version
    ) -> None:
        """What the broker had kept is told from what is fresh."""
        writer = link(broker.port, version)
        writer.open(["nothing"])
        writer.publish("line/a", b"old", retain=True, qos=1)
        writer.read(0.1)
        one = link(broker.port, version)
        one.open(["line/#"])
        assert until(one, 1) == [Message("line/a", b"old", retained=True)]
        numbers = [str(i).encode() for i in range(3 * MOST_MESSAGES)]
        for number in numbers:
            writer.publish("line/b", number)
        assert [each.payload for each in until(one, len(numbers))] == numbers

    def test_one_read_is_bounded(self, broker: Mosquitto, link: Callable[..., PlantLink]) -> None:
        """However much waits in the socket."""
        one = link(broker.port)
        one.open(["a"])
        for _ in range(2 * MOST_MESSAGES):
            one.publish("a", b"x")
        sizes = []
        while sum(sizes) < 2 * MOST_MESSAGES:
            sizes.append(len(one.read(0.5)))
        assert max(sizes) <= MOST_MESSAGES

    def test_one_read_is_bounded_in_bytes(
        self, broker: Mosquitto, link: Callable[..., PlantLink]
    ) -> None:
        """However large the messages are that wait: the others wait where they are."""
        writer, one = link(broker.port), link(broker.port)
        writer.open(["nothing"])
        one.open(["a"])
        size = MOST_BYTES // 4
        for _ in range(40):
            writer.publish("a", bytes(size))
        found = []
        while sum(found) < 40:
            found.append(len(one.read(0.5)))
            writer.read(0.0)
        assert max(found) <= 4 + 4  # what paho takes in at a time comes on top

    def test_topic_that_is_no_text(self) -> None:
        """Counted, and the next message comes."""
        granted = b"\x90\x04\x00\x01\x00\x01"
        bad = b"\x30\x06\x00\x02\xff\xfe\x00x"
        good = b"\x30\x05\x00\x01a\x00x"
        with pretender(b"\x20\x03\x00\x00\x00", more=granted + bad + good) as port:
            one = PlantLink(PlantBroker(host="127.0.0.1", port=port, client_id="c"))
            one.open(["#"])
            assert until(one, 1) == [Message("a", b"x")]
            assert one.counts == {"garbage": 1}
            one.close()

    def test_session_ends_with_the_connection(
        self, broker: Mosquitto, link: Callable[..., PlantLink]
    ) -> None:
        """The broker keeps nothing for a name that went away."""
        first = link(broker.port, client_id="reader")
        first.open(["a"])
        first.close()
        writer = link(broker.port)
        writer.open(["b"])
        writer.publish("a", b"missed", qos=1)
        writer.publish("b", b"done", qos=1)
        until(writer, 1)
        again = link(broker.port, client_id="reader")
        again.open(["a"])
        writer.publish("a", b"new", qos=1)
        assert until(again, 1) == [Message("a", b"new")]


class TestLoss:
    @VERSIONS
    def test_broker_that_dies(
        self, broker: Mosquitto, link: Callable[..., PlantLink], version: Version
    ) -> None:
        """What came before is given first; then it is told, by every call."""
        one = link(broker.port, version)
        one.open(["a"])
        one.publish("a", b"last")
        until(one, 1)
        broker.stop()
        error = lost(one)
        assert f"127.0.0.1:{broker.port}" in error.message
        assert "connection lost" in error.message
        with pytest.raises(SourceError):
            one.read(0.0)
        with pytest.raises(SourceError):
            one.publish("a", b"x")

    def test_broker_that_hangs_is_left(
        self, broker: Mosquitto, link: Callable[..., PlantLink]
    ) -> None:
        """Closing needs no answer."""
        one = link(broker.port)
        one.open(["a"])
        with broker.frozen():
            assert one.read(0.05) == []
            one.close()

    def test_name_that_is_taken_over(
        self, broker: Mosquitto, link: Callable[..., PlantLink]
    ) -> None:
        """Two with one name: the first is told that it is gone."""
        first = link(broker.port, client_id="twin")
        first.open(["a"])
        second = link(broker.port, client_id="twin")
        second.open(["a"])
        assert "connection lost" in lost(first).message

    def test_will_is_published(self, broker: Mosquitto, link: Callable[..., PlantLink]) -> None:
        """By the broker, where nobody said goodbye; else the farewell stands."""
        watcher = link(broker.port)
        watcher.open(["state"])
        dying = link(broker.port, will=Message("state", b"gone"))
        dying.open(["a"])
        connection = dying._client.socket()
        assert isinstance(connection, socket.socket)
        connection.shutdown(socket.SHUT_RDWR)
        assert until(watcher, 1)[0].payload == b"gone"
        polite = link(broker.port, will=Message("state", b"gone"))
        polite.open(["a"])
        polite.close(Message("state", b"goodbye"))
        assert until(watcher, 1)[0].payload == b"goodbye"

    @VERSIONS
    def test_message_that_is_too_large(
        self, broker: Mosquitto, link: Callable[..., PlantLink], version: Version
    ) -> None:
        """MQTT 5 lets the broker leave it out; before, it is dropped, or ends the connection."""
        one = link(broker.port, version, largest_packet=5_000)
        one.open(["a"])
        writer = link(broker.port)
        writer.open(["b"])
        writer.publish("a", bytes(6_000), qos=1)
        writer.publish("a", b"small", qos=1)
        assert until(one, 1) == [Message("a", b"small")]
        assert one.counts == ({} if version == "5" else {"too large": 1})
        writer.publish("a", bytes(8_000_000))
        writer.publish("a", b"small", qos=1)
        stop = threading.Event()
        thread = threading.Thread(target=lambda: [writer.read(0.1) for _ in iter(stop.is_set, 1)])
        thread.start()
        try:
            if version == "5":
                assert until(one, 1) == [Message("a", b"small")]
            else:
                error = lost(one)
                assert "bytes comes, more than wanted" in error.message
                assert 'version = "5"' in error.remedy
        finally:
            stop.set()
            thread.join()


class TestBeginning:
    def test_nobody_at_the_port(self, link: Callable[..., PlantLink]) -> None:
        """Host and port are named."""
        port = free_port()
        with pytest.raises(SourceError, match=f"127.0.0.1:{port}: no connection: .*refused"):
            link(port).open(["a"])

    @pytest.mark.parametrize("host", ["broker.invalid", "", "a..b", "x" * 64])
    def test_no_such_host(self, link: Callable[..., PlantLink], host: str) -> None:
        """Whatever the resolver makes of it."""
        with pytest.raises(SourceError, match=r"unknown host name|no connection"):
            link(1883, host=host).open(["a"])

    def test_who_never_answers(self, link: Callable[..., PlantLink]) -> None:
        """Patience ends."""
        with pretender(b"") as port:
            one = link(port, patience=0.2)
            with pytest.raises(SourceError, match="does not answer"):
                one.open(["a"])
            one.close()

    @VERSIONS
    @pytest.mark.parametrize(
        "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x20\x01", b"\x20\x00", b"\xff" * 40]
    )
    def test_who_is_no_broker(
        self, link: Callable[..., PlantLink], version: Version, answer: bytes
    ) -> None:
        """Told, whatever it says."""
        with pretender(answer) as port:
            one = link(port, version, patience=0.5)
            with pytest.raises(SourceError):
                one.open(["a"])
            one.close()

    def test_broker_of_an_older_version(self, link: Callable[..., PlantLink]) -> None:
        """MQTT 3.1.1, 3.2.2.3: it answers in its own version that it knows no other."""
        with pretender(b"\x20\x02\x00\x01") as port:
            one = link(port, patience=1.0)
            with pytest.raises(SourceError, match="refuses us") as told:
                one.open(["a"])
            assert 'version = "3.1.1"' in told.value.remedy
            one.close()

    @VERSIONS
    def test_passwords(
        self, tmp_path: Path, link: Callable[..., PlantLink], version: Version
    ) -> None:
        """The right one opens; a wrong one is told, and never shown."""
        broker = with_password(tmp_path, "line", PASSWORD)
        broker.start()
        try:
            link(broker.port, version, username="line", password=PASSWORD).open(["a"])
            for options in ({}, {"username": "line", "password": "guessed"}):
                with pytest.raises(SourceError, match="refuses us") as told:
                    link(broker.port, version, **options).open(["a"])
                assert "password_file" in told.value.remedy
                assert "guessed" not in str(told.value)
        finally:
            broker.stop()
        known = PlantBroker(host="h", port=1, client_id="c", username="u", password=PASSWORD)
        assert PASSWORD not in repr(known)

    def test_topics_that_are_refused(
        self, broker: Mosquitto, link: Callable[..., PlantLink]
    ) -> None:
        """Some: the others come. All: there is nothing to listen to."""
        both = b"\x90\x05\x00\x01\x00\x01\x87"
        with pretender(b"\x20\x03\x00\x00\x00", more=both) as port:
            one = link(port)
            one.open(["a", "b"])
            assert one.refused == ["b"]
            one.close()
        with pretender(b"\x20\x03\x00\x00\x00", more=b"\x90\x04\x00\x01\x00\x87") as port:
            one = link(port)
            with pytest.raises(SourceError, match="does not let us listen to a"):
                one.open(["a"])
            one.close()

    @VERSIONS
    def test_filters_that_are_none(
        self, broker: Mosquitto, link: Callable[..., PlantLink], version: Version
    ) -> None:
        """Nothing to listen to is possible; what no broker can be asked for is told."""
        link(broker.port, version).open([])
        with pytest.raises(SourceError, match="cannot be asked for a#b"):
            link(broker.port, version).open(["a#b"])

    def test_a_callback_of_the_library_that_fails(
        self, broker: Mosquitto, link: Callable[..., PlantLink], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What paho raises over a packet is a lost connection, no crash."""
        one = link(broker.port)
        one.open(["a"])

        def broken(_client: Client, _timeout: float) -> None:
            raise IndexError("packet")

        monkeypatch.setattr(Client, "loop", broken)
        with pytest.raises(SourceError, match="what is not MQTT: packet"):
            one.read(0.1)
        monkeypatch.undo()


class TestTls:
    @VERSIONS
    def test_trusts_its_authority(
        self, tmp_path: Path, link: Callable[..., PlantLink], version: Version
    ) -> None:
        """Messages come; many of them, in records that hold several."""
        broker, authority = with_tls(tmp_path)
        broker.start()
        try:
            one = link(broker.port, version, tls=tls_context(str(authority)))
            one.open(["a"])
            for _ in range(600):
                one.publish("a", bytes(100))
            assert len(until(one, 600)) == 600
        finally:
            broker.stop()

    def test_wrong_authority_name_and_port(
        self, tmp_path: Path, link: Callable[..., PlantLink]
    ) -> None:
        """Told apart, with what to correct; no socket is left open."""
        broker, authority = with_tls(tmp_path / "a")
        stranger, _ = make_certificate(tmp_path, "stranger")
        plain = Mosquitto(tmp_path / "b")
        broker.start()
        plain.start()
        try:
            with pytest.raises(SourceError, match="not trusted") as told:
                link(broker.port, tls=tls_context(str(stranger))).open(["a"])
            assert "ca_file" in told.value.remedy
            with pytest.raises(SourceError, match="not trusted"):
                link(broker.port, host="localhost", tls=tls_context(str(authority))).open(["a"])
            with pytest.raises(SourceError, match=r"no TLS|no connection"):
                link(plain.port, tls=tls_context(str(authority))).open(["a"])
            with pytest.raises(SourceError):
                link(broker.port, patience=1.0).open(["a"])
        finally:
            broker.stop()
            plain.stop()

    def test_broker_that_wants_to_know_us(
        self, tmp_path: Path, link: Callable[..., PlantLink]
    ) -> None:
        """A certificate of our own opens; none does not."""
        ours, key = make_certificate(tmp_path, "ours")
        broker, authority = with_tls(
            tmp_path / "broker", f"cafile {ours}", "require_certificate true"
        )
        broker.start()
        try:
            known = tls_context(str(authority), str(ours), str(key))
            link(broker.port, tls=known).open(["a"])
            with pytest.raises(SourceError):
                link(broker.port, tls=tls_context(str(authority)), patience=1.0).open(["a"])
        finally:
            broker.stop()

    def test_files_that_are_none(self, tmp_path: Path) -> None:
        """The file is named."""
        wrong = tmp_path / "wrong.pem"
        wrong.write_text("no certificate")
        for files in ((str(wrong),), (str(tmp_path / "none"),), ("", str(wrong))):
            with pytest.raises(ConfigError, match=r"wrong\.pem|none"):
                tls_context(*files)
