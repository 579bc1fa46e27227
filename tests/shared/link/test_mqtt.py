# SPDX-License-Identifier: Apache-2.0
"""What only a real connection can do: be refused, stall, and be away. Mosquitto is required."""

import itertools
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import psutil
import pytest
from paho.mqtt.client import MQTTMessageInfo
from paho.mqtt.enums import MQTTErrorCode

from fedmill_coordinator.demo import broker as brokers
from fedmill_shared.clock import Clock, ManualClock
from fedmill_shared.errors import BrokerError
from fedmill_shared.link import mqtt
from fedmill_shared.link.backoff import Jitter, full_jitter
from fedmill_shared.link.base import Connected, Disconnected, LinkEvent, Message, Rejection
from fedmill_shared.link.client import MALFORMED, read_text
from fedmill_shared.link.mqtt import Endpoint, MqttLink

pytestmark = pytest.mark.system
PATIENCE = 20.0
TOPIC = "plant/a"


class Client:
    """A link and its events."""

    def __init__(
        self,
        port: int,
        name: str,
        will: Message | None = None,
        *,
        lasting: bool = True,
        jitter: Jitter = full_jitter,
        clock: Clock | None = None,
    ) -> None:
        self.events: SimpleQueue[LinkEvent] = SimpleQueue()
        endpoint = Endpoint(
            host="127.0.0.1",
            port=port,
            client_id=name,
            subscriptions=[TOPIC],
            will=will,
            lasting=lasting,
        )
        self.link = MqttLink(endpoint, self.events.put, jitter=jitter, clock=clock)

    def hear(self) -> LinkEvent:
        """The next event."""
        return self.events.get(timeout=PATIENCE)

    def settled(self) -> None:
        """Return once the broker has acknowledged everything."""
        deadline = time.monotonic() + PATIENCE
        while self.link.backlog:
            assert time.monotonic() < deadline
            time.sleep(0.005)


class Waits(list[float]):
    """Jitter that hardly waits, and remembers how long it might have."""

    def __call__(self, longest: float) -> float:
        """A hundredth of a second."""
        self.append(longest)
        return 0.01


class Calendar:
    """A clock for which every look is a minute later."""

    def __init__(self) -> None:
        self._minutes = itertools.count()

    def now_ns(self) -> int:
        """Nobody asks."""
        raise NotImplementedError

    def monotonic(self) -> float:
        """Seconds."""
        return 60.0 * next(self._minutes)


@contextmanager
def _usurper() -> Iterator[int]:
    """A broker that lets everybody in, and out at once: taken over (Mosquitto says so from 2.0.15).

    MQTT 5.0, sections 3.2 and 3.14.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                connection, _ = server.accept()
                with connection:
                    if connection.recv(4096):
                        connection.sendall(b"\x20\x03\0\0\0" + b"\xe0\x02\x8e\0")
                        while connection.recv(4096):  # unread bytes would reset the connection
                            pass

        thread = threading.Thread(target=serve)
        thread.start()
        port: int = server.getsockname()[1]
        yield port
        ended.set()
        socket.create_connection(("127.0.0.1", port)).close()
        thread.join()


@contextmanager
def _grudging(reason: int) -> Iterator[int]:
    """A broker that lets one client in, and answers whatever it publishes with ``reason``.

    Only packets of less than 128 bytes: MQTT 5.0, sections 2.1 and 3.4.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with (
                connection,
                connection.makefile("rb") as incoming,
                suppress(ConnectionError),  # the client may leave before it has read an answer
            ):
                while len(head := incoming.read(2)) == 2:
                    body = incoming.read(head[1])
                    if head[0] == 0x10:
                        connection.sendall(_packet(0x20, b"\0\0\0"))
                    elif head[0] == 0x82:
                        connection.sendall(_packet(0x90, body[:2] + b"\0\1"))
                    elif head[0] == 0x32:
                        at = 2 + int.from_bytes(body[:2], "big")
                        connection.sendall(_packet(0x40, body[at : at + 2] + bytes([reason, 0])))

        thread = threading.Thread(target=serve)
        thread.start()
        port: int = server.getsockname()[1]
        yield port
        thread.join()


def _subscribed(client: Client) -> None:
    """Start a client and return once the broker has its subscriptions.

    What is published before the broker has greeted may overtake the subscriptions.
    """
    client.link.start()
    while not isinstance(client.hear(), Connected):
        pass
    client.link.publish(TOPIC, b"echo")
    while client.hear() != Message(TOPIC, b"echo"):
        pass


def _told(client: Client, enough: int) -> list[Disconnected]:
    """The next ``enough`` times that a client was disconnected."""
    told: list[Disconnected] = []
    while len(told) < enough:
        event = client.hear()
        if isinstance(event, Disconnected):
            told.append(event)
    return told


@pytest.fixture
def client() -> Iterator[Callable[..., Client]]:
    """Factory of clients, which are stopped at the end; no thread is left."""
    before = set(threading.enumerate())
    with ExitStack() as stack:

        def make(
            port: int, name: str = "client", will: Message | None = None, **options: Any
        ) -> Client:
            made = Client(port, name, will, **options)
            stack.callback(made.link.stop)
            return made

        yield make
    assert set(threading.enumerate()) == before


@pytest.fixture
def own_broker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[int, psutil.Process]]]:
    """Factory of a broker for one test, with lines of its configuration replaced."""
    with ExitStack() as stack:

        def start(port: int | None = None, **replaced: str) -> tuple[int, psutil.Process]:
            config = brokers.CONFIG
            for key, line in replaced.items():
                old = next(each for each in config.splitlines() if each.startswith(f"{key} "))
                config = config.replace(old, line)
            monkeypatch.setattr(brokers, "CONFIG", config)
            before = set(psutil.Process().children())
            port = stack.enter_context(brokers.broker(tmp_path / "broker", port))
            (child,) = set(psutil.Process().children()) - before
            return port, child

        yield start


@contextmanager
def _frozen(process: psutil.Process) -> Iterator[None]:
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


class TestNoBroker:
    def test_is_told_and_retried(
        self, client: Callable[..., Client], own_broker: Callable[..., tuple[int, psutil.Process]]
    ) -> None:
        """Nobody at the port is an event, no exception; what was published waits for the broker."""
        port = brokers.free_port()
        one = client(port)
        one.link.start()
        one.link.publish(TOPIC, b"early")
        told = one.hear()
        assert isinstance(told, Disconnected)
        assert told.reason == "no broker answers: Connection refused"
        assert "start the broker" in told.remedy
        own_broker(port)
        while not isinstance(event := one.hear(), Connected):
            assert isinstance(event, Disconnected)
        assert one.hear() == Message(TOPIC, b"early")

    def test_a_thread_that_hangs_is_overdue(self) -> None:
        """One that waits for its next attempt is not, nor one that has ended."""
        inside, go_on = threading.Event(), threading.Event()

        def hang(_: LinkEvent) -> None:
            inside.set()
            assert go_on.wait(PATIENCE)

        clock, waits = ManualClock(), threading.Event()

        def wait(_: float) -> float:
            waits.set()
            return 30.0

        endpoint = Endpoint(
            host="127.0.0.1", port=brokers.free_port(), client_id="a", subscriptions=[]
        )
        link = MqttLink(endpoint, hang, jitter=wait, clock=clock)
        clock.advance(10 * mqtt.HUNG_SECONDS)
        assert link.late == 0.0  # not begun
        link.start()
        assert inside.wait(PATIENCE)
        clock.advance(mqtt.HUNG_SECONDS + 5)
        assert link.late > 0.0
        go_on.set()
        assert waits.wait(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while link.late:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        clock.advance(mqtt.HUNG_SECONDS + 29)
        assert link.late == 0.0
        link.stop()
        clock.advance(10 * mqtt.HUNG_SECONDS)
        assert link.late == 0.0

    def test_a_name_that_resolves_to_nothing(self) -> None:
        """A mistyped host is told apart from a broker that is down, on every attempt."""
        events: SimpleQueue[LinkEvent] = SimpleQueue()
        link = MqttLink(
            Endpoint(host="broker.invalid", port=1883, client_id="a", subscriptions=[]), events.put
        )
        link.start()
        told = [events.get(timeout=PATIENCE) for _ in range(2)]
        link.stop()
        assert told[0] == told[1]
        assert told[0].reason.startswith("the host name broker.invalid is unknown: ")
        assert "correct host below [broker]" in told[0].remedy

    @pytest.mark.parametrize("host", ["", "a..b", "x" * 64, "a\0b"])
    def test_a_name_that_no_machine_can_have(self, host: str) -> None:
        """Refused at once: the resolver could not even be asked."""
        endpoint = Endpoint(host=host, port=1883, client_id="a", subscriptions=[])
        with pytest.raises(BrokerError, match=r"broker\.host is .*: no machine can have this name"):
            MqttLink(endpoint, lambda _: None)

    def test_a_broker_that_goes_and_comes(
        self, client: Callable[..., Client], own_broker: Callable[..., tuple[int, psutil.Process]]
    ) -> None:
        """Killed and started again: the link is back, and so is what it published meanwhile."""
        port, process = own_broker()
        one = client(port)
        one.link.start()
        assert one.hear() == Connected(session_present=False)
        process.kill()
        assert isinstance(one.hear(), Disconnected)
        process.wait(PATIENCE)
        one.link.publish(TOPIC, b"meanwhile")
        own_broker(port)
        while not isinstance(one.hear(), Connected):
            pass
        assert one.hear() == Message(TOPIC, b"meanwhile")

    def test_stop_before_start(self, client: Callable[..., Client], mosquitto: int) -> None:
        """A daemon that fails early still closes its link."""
        client(mosquitto).link.stop(Message(TOPIC, b"goodbye"))


class TestBackoff:
    def test_attempts_come_slower_and_slower(self, client: Callable[..., Client]) -> None:
        """Each failed attempt doubles the longest wait, up to half a minute."""
        waits = Waits()
        one = client(brokers.free_port(), jitter=waits)
        one.link.start()
        _told(one, 9)
        one.link.stop()
        assert waits[:8] == [1, 2, 4, 8, 16, 30, 30, 30]

    def test_a_good_connection_starts_afresh(
        self, client: Callable[..., Client], mosquitto: int
    ) -> None:
        """After a minute of work the first attempt to come back is made within a second."""
        waits = Waits()
        one = client(mosquitto, "steady", jitter=waits, clock=Calendar())
        one.link.start()
        for _ in range(4):
            while not isinstance(one.hear(), Connected):
                pass
            one.link._client.socket().shutdown(socket.SHUT_RDWR)
            assert _told(one, 1)[0].remedy == ""
        one.link.stop()
        assert waits[:4] == [1, 1, 1, 1]

    def test_thrown_out_by_another_of_the_same_name(self, client: Callable[..., Client]) -> None:
        """What to do is told; however long the peace lasted, each way back is slower."""
        waits = Waits()
        with _usurper() as port:
            one = client(port, "twin", jitter=waits, clock=Calendar())
            one.link.start()
            for told in _told(one, 5):
                assert told.reason == "Session taken over"
                assert "another process signs in as twin: stop it" in told.remedy
            one.link.stop()
        assert waits[:4] == [1, 2, 4, 8]

    def test_two_under_one_name_give_way(
        self, client: Callable[..., Client], mosquitto: int
    ) -> None:
        """Each comes back more slowly whenever it was thrown out."""
        waits = [Waits(), Waits()]
        twins = [client(mosquitto, "pair", jitter=each) for each in waits]
        for twin in twins:
            twin.link.start()
        for twin in twins:
            _told(twin, 8)
        for twin in twins:
            twin.link.stop()
        for each in waits:
            assert each[:7] == [1, 2, 4, 8, 16, 30, 30]

    def test_stop_does_not_wait_for_the_next_attempt(self, client: Callable[..., Client]) -> None:
        """Even if it is to be made in an hour."""
        one = client(brokers.free_port(), jitter=lambda _longest: 3600.0)
        one.link.start()
        assert isinstance(one.hear(), Disconnected)
        one.link.stop()
        assert not one.link._thread.is_alive()


class TestBacklog:
    def test_counts_what_the_broker_owes(
        self, client: Callable[..., Client], own_broker: Callable[..., tuple[int, psutil.Process]]
    ) -> None:
        """Before the first connection, beside a stalled broker, over its death: then 0 again."""
        port = brokers.free_port()
        one = client(port, jitter=Waits())
        one.link.start()
        for number in range(1, 4):
            one.link.publish(TOPIC, b"early")
            assert one.link.backlog == number
        _, process = own_broker(port)
        one.settled()
        with _frozen(process):
            for _ in range(50):  # more than are in flight at once
                one.link.publish(TOPIC, b"stalled")
            assert one.link.backlog == 50
            process.kill()
        process.wait(PATIENCE)
        one.link.publish(TOPIC, b"away")
        assert one.link.backlog == 51
        own_broker(port)
        one.settled()

    def test_what_is_not_taken_does_not_count(
        self, client: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A full queue, a topic that nobody can publish to, a message that is too large."""
        monkeypatch.setattr(mqtt, "QUEUED_MESSAGES", 2)
        one = client(brokers.free_port())
        one.link.publish(TOPIC, b"1")
        one.link.publish(TOPIC, b"2")
        for topic, payload, error in (
            (TOPIC, b"3", BrokerError),
            ("plant/#", b"", ValueError),
            (TOPIC, bytes(300_000), BrokerError),
        ):
            with pytest.raises(error):
                one.link.publish(topic, payload)
            assert one.link.backlog == 2

    def test_several_threads_publish(self, client: Callable[..., Client], mosquitto: int) -> None:
        """Whole packets of several senders arrive once each, and the count comes out even."""
        one = client(mosquitto, "several")
        one.link.start()
        assert isinstance(one.hear(), Connected)

        def publish(who: int) -> None:
            for number in range(50):
                one.link.publish(TOPIC, b"%d %d " % (who, number) + bytes(20_000))

        threads = [threading.Thread(target=publish, args=(who,)) for who in range(4)]
        for thread in threads:
            thread.start()
        heard: list[Message] = []
        while len(heard) < 200:
            event = one.hear()
            assert isinstance(event, Message)
            if not event.retained:  # another test's
                heard.append(event)
        for thread in threads:
            thread.join(PATIENCE)
        one.settled()
        found = {tuple(message.payload.split()[:2]) for message in heard}
        assert found == {(b"%d" % who, b"%d" % number) for who in range(4) for number in range(50)}
        assert {len(message.payload) for message in heard} <= {20_004, 20_005}


class TestRefusal:
    def test_broker_wants_another_user(
        self, client: Callable[..., Client], own_broker: Callable[..., tuple[int, psutil.Process]]
    ) -> None:
        """The broker's own words; the link never counts as connected."""
        port, _ = own_broker(allow_anonymous="allow_anonymous false")
        one = client(port)
        one.link.start()
        told = one.hear()
        assert isinstance(told, Disconnected)
        assert told.reason == "Not authorized"
        assert "without user name and password" in told.remedy
        assert isinstance(one.hear(), Disconnected)


class TestAnswer:
    @pytest.mark.parametrize(
        ("code", "reason", "remedy"),
        [
            (0x87, "Not authorized", "check the broker's ACL: one must be allowed to publish to"),
            (0x97, "Quota exceeded", "raise what the broker lets one publish"),
            (0x99, "Payload format invalid", "look into the broker's own log"),
            (0x80, "Unspecified error", "look into the broker's own log"),
        ],
    )
    def test_every_failure_is_a_refusal(
        self, client: Callable[..., Client], code: int, reason: str, remedy: str
    ) -> None:
        """With the broker's reason and what to do; what was refused waits for nothing more."""
        answers: SimpleQueue[Rejection | None] = SimpleQueue()
        with _grudging(code) as port:
            one = client(port, "one")
            one.link.start()
            one.link.publish(TOPIC, b"1", done=answers.put)
            told = answers.get(timeout=PATIENCE)
            assert told is not None
            assert (told.topic, told.reason) == (TOPIC, reason)
            assert told.remedy.startswith(remedy)
            one.settled()
            one.link.stop()

    @pytest.mark.parametrize("code", [0x00, 0x10])
    def test_nobody_who_listens_is_no_failure(
        self, client: Callable[..., Client], code: int
    ) -> None:
        """MQTT 5.0, section 3.4.2.1: 0x10 says that there is no subscriber."""
        answers: SimpleQueue[Rejection | None] = SimpleQueue()
        with _grudging(code) as port:
            one = client(port, "one")
            one.link.start()
            one.link.publish(TOPIC, b"1", done=answers.put)
            assert answers.get(timeout=PATIENCE) is None
            one.link.stop()


class TestProbe:
    def test_leaves_no_session(self, client: Callable[..., Client], mosquitto: int) -> None:
        """What asks only whether the broker is there finds nothing, and leaves nothing behind."""
        for lasting, held in ((True, False), (True, True), (False, False), (True, False)):
            one = client(mosquitto, "probe", lasting=lasting)
            one.link.start()
            assert one.hear() == Connected(session_present=held)
            one.link.stop()


class TestLargestPacket:
    def test_smaller_than_ours(
        self, client: Callable[..., Client], own_broker: Callable[..., tuple[int, psutil.Process]]
    ) -> None:
        """What the broker announced counts."""
        port, _ = own_broker(max_packet_size="max_packet_size 200000")
        one = client(port)
        one.link.start()
        assert isinstance(one.hear(), Connected)
        with pytest.raises(BrokerError, match="packets of at most 200000 bytes"):
            one.link.publish(TOPIC, bytes(200_000))
        one.link.publish(TOPIC, bytes(199_000))
        assert one.hear() == Message(TOPIC, bytes(199_000))

    def test_no_limit(
        self, client: Callable[..., Client], own_broker: Callable[..., tuple[int, psutil.Process]]
    ) -> None:
        """A broker that announces none takes what MQTT allows, and gives us only what we take."""
        port, _ = own_broker(max_packet_size="")
        one = client(port)
        one.link.start()
        assert isinstance(one.hear(), Connected)
        one.link.publish(TOPIC, bytes(400_000))
        one.link.publish(TOPIC, b"small")
        assert one.hear() == Message(TOPIC, b"small")

    def test_before_the_broker_has_spoken(self, client: Callable[..., Client]) -> None:
        """Paho would send it again and again to a broker that drops the connection for it."""
        one = client(brokers.free_port())
        with pytest.raises(BrokerError, match="packets of at most 300000 bytes"):
            one.link.publish(TOPIC, bytes(300_000))


class TestStop:
    def test_leaves_no_thread(self, client: Callable[..., Client], mosquitto: int) -> None:
        """Connected, or still trying to."""
        before = set(threading.enumerate())
        for port in (mosquitto, brokers.free_port()):
            one = client(port, "stopper")
            one.link.start()
            one.hear()
            assert set(threading.enumerate()) > before
            one.link.stop()
            assert set(threading.enumerate()) == before

    def test_full_queue(
        self, client: Callable[..., Client], mosquitto: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A farewell that finds no room becomes a request for the will."""
        one = client(mosquitto, "one", Message(TOPIC, b"offline"))
        watcher = client(mosquitto, "watcher")
        _subscribed(watcher)
        one.link.start()
        assert isinstance(one.hear(), Connected)
        full = MQTTMessageInfo(1)
        full.rc = MQTTErrorCode.MQTT_ERR_QUEUE_SIZE
        monkeypatch.setattr(one.link._client, "publish", lambda *_args, **_options: full)
        one.link.stop(Message(TOPIC, b"goodbye"))
        assert watcher.hear() == Message(TOPIC, b"offline")

    def test_stalled_broker(
        self,
        client: Callable[..., Client],
        own_broker: Callable[..., tuple[int, psutil.Process]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The queue is bounded; the end does not wait for what fills the socket."""
        monkeypatch.setattr(mqtt, "QUEUED_MESSAGES", 40)
        port, process = own_broker()
        one, watcher = client(port, "one", Message(TOPIC, b"offline")), client(port, "watcher")
        _subscribed(watcher)
        one.link.start()
        assert isinstance(one.hear(), Connected)
        with _frozen(process):
            for _ in range(40):
                one.link.publish("plant/b", bytes(298_000))
            with pytest.raises(BrokerError, match="40 messages already wait"):
                one.link.publish("plant/b", b"1")
            one.link.stop(Message(TOPIC, b"goodbye"))
            assert isinstance(one.hear(), Disconnected)
        assert watcher.hear() == Message(TOPIC, b"offline")


class TestHostileText:
    """Another client of the broker writes what it likes into a property."""

    @pytest.mark.parametrize("text", ["\ufeffx", "x\ufeff", "\ue000"])
    def test_nobody_is_cut_off(
        self, client: Callable[..., Client], mosquitto: int, text: str
    ) -> None:
        """The message is delivered, and so is what comes after it."""
        name = f"reader-{uuid.uuid4().hex[:8]}"
        reader = client(mosquitto, name)
        _subscribed(reader)
        with socket.create_connection(("127.0.0.1", mosquitto)) as stranger:
            stranger.sendall(_packet(0x10, b"\x00\x04MQTT\x05\x02\x00\x3c\x00" + _text("stranger")))
            stranger.recv(64)
            pair = b"\x26" + _text("key") + _text(text)
            body = _text(TOPIC) + b"\x00\x07" + bytes([len(pair)]) + pair + b"hostile"
            stranger.sendall(_packet(0x32, body))
            stranger.recv(64)
        writer = client(mosquitto, f"writer-{uuid.uuid4().hex[:8]}")
        writer.link.start()
        writer.link.publish(TOPIC, b"honest")
        said = [reader.hear() for _ in range(2)]
        assert [each.payload for each in said if isinstance(each, Message)] == [
            b"hostile",
            b"honest",
        ]

    def test_a_property_that_lies_about_its_length(self) -> None:
        """What is behind the packet is never read."""
        assert read_text(b"\x00\x03abcdef", 8) == ("abc", 5)
        assert read_text(b"\x00\x02\xff\xfe", 4) == ("\ufffd\ufffd", 4)
        for data, longest in ((b"\x00\x03ab", 4), (b"\x00", 1), (b"\xff\xffab", 4)):
            with pytest.raises(MALFORMED):
                read_text(data, longest)


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2, "big") + data


def _packet(head: int, body: bytes) -> bytes:
    return bytes([head, len(body)]) + body
