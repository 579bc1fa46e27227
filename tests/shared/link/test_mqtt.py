# SPDX-License-Identifier: Apache-2.0
"""What only a real connection can do: be refused, stall, and be away. Mosquitto is required."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue

import psutil
import pytest
from paho.mqtt.client import MQTTMessageInfo
from paho.mqtt.enums import MQTTErrorCode

from fedmill_coordinator.demo import broker as brokers
from fedmill_shared.errors import BrokerError
from fedmill_shared.link import mqtt
from fedmill_shared.link.base import Connected, Disconnected, LinkEvent, Message
from fedmill_shared.link.mqtt import Endpoint, MqttLink

pytestmark = pytest.mark.system
PATIENCE = 20.0
TOPIC = "plant/a"


class Client:
    """A link and its events."""

    def __init__(
        self, port: int, name: str, will: Message | None = None, *, lasting: bool = True
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
        self.link = MqttLink(endpoint, self.events.put)

    def hear(self) -> LinkEvent:
        """The next event."""
        return self.events.get(timeout=PATIENCE)


@pytest.fixture
def client() -> Iterator[Callable[..., Client]]:
    """Factory of clients, which are stopped at the end; no thread is left."""
    before = set(threading.enumerate())
    with ExitStack() as stack:

        def make(
            port: int, name: str = "client", will: Message | None = None, *, lasting: bool = True
        ) -> Client:
            made = Client(port, name, will, lasting=lasting)
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
        watcher.link.start()
        one.link.start()
        assert isinstance(watcher.hear(), Connected)
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
        one.link.start()
        watcher.link.start()
        assert isinstance(one.hear(), Connected)
        assert isinstance(watcher.hear(), Connected)
        with _frozen(process):
            for _ in range(40):
                one.link.publish("plant/b", bytes(298_000))
            with pytest.raises(BrokerError, match="40 messages already wait"):
                one.link.publish("plant/b", b"1")
            one.link.stop(Message(TOPIC, b"goodbye"))
            assert isinstance(one.hear(), Disconnected)
        assert watcher.hear() == Message(TOPIC, b"offline")
