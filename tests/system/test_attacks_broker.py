# SPDX-License-Identifier: Apache-2.0
"""What somebody in the plant's network may try on the broker, and what comes of it.

The broker is that of the templates; the agents beside the attacker are real links.
"""

import gc
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from tests.pki import Authority, Credential
from tests.pki_broker import COORDINATOR, PlantBroker

from fedmill_shared import topics
from fedmill_shared.link.base import Connected, Disconnected, LinkEvent, Message, Rejection
from fedmill_shared.link.mqtt import Endpoint, MqttLink

pytestmark = [pytest.mark.system, pytest.mark.drill]
PATIENCE = 20.0
AUTHORITY = Authority()
NOT_AUTHORIZED = 0x87
REQUEST = b"please"
ROOM = 100
"""Connections that a small broker takes at once."""


class Attacker:
    """A client that minds no rules: paho itself, with whatever certificate it has."""

    def __init__(
        self,
        port: int,
        credential: Credential | None,
        folder: Path,
        *,
        client_id: str = "intruder",
        newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        user: str = "",
    ) -> None:
        self.heard: SimpleQueue[MQTTMessage] = SimpleQueue()
        self.answers: SimpleQueue[tuple[str, ReasonCode | None]] = SimpleQueue()
        context = ssl.create_default_context(cadata=AUTHORITY.pem.decode())
        context.maximum_version = newest
        if credential is not None:
            files = credential.write(folder)
            context.load_cert_chain(files / "certificate.pem", files / "key.pem")
        self.client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        self.client.tls_set_context(context)
        if user:
            self.client.username_pw_set(user, user)
        self.client.on_message = lambda _client, _data, message: self.heard.put(message)
        self.client.on_connect = self._connected
        self.client.on_disconnect = self._disconnected
        self.client.on_publish = self._published
        self.client.on_subscribe = lambda *_: self.answers.put(("subscribed", None))
        self._port = port

    def connect(self) -> str:
        """Try it: "connected", or what ended it."""
        try:
            self.client.connect("127.0.0.1", self._port)
        except OSError as error:
            gc.collect()  # paho leaves the socket of a failed handshake to it
            return f"refused: {error}"
        self.client.loop_start()
        return self.next()[0]

    def next(self) -> tuple[str, ReasonCode | None]:
        """What the broker did next."""
        return self.answers.get(timeout=PATIENCE)

    def publish(self, topic: str, payload: bytes = b"forged", *, retain: bool = False) -> int:
        """The broker's reason code for a message."""
        self.client.publish(topic, payload, qos=1, retain=retain)
        kind, reason = self.next()
        assert kind == "published", kind
        assert reason is not None
        return reason.value

    def listen(self, *patterns: str) -> None:
        """Subscribe; an ACL file grants that to everybody, and delivers nothing."""
        self.client.subscribe([(pattern, 0) for pattern in patterns])  # type: ignore[list-item]
        assert self.next()[0] == "subscribed"

    def close(self) -> None:
        """Let go."""
        self.client.disconnect()
        self.client.loop_stop()
        self.client.__del__()

    def _connected(
        self, _c: object, _d: object, _f: object, reason: ReasonCode, _p: object
    ) -> None:
        self.answers.put((f"refused: {reason}" if reason.is_failure else "connected", reason))

    def _disconnected(
        self, _c: object, _d: object, _f: object, reason: ReasonCode, _p: Properties | None
    ) -> None:
        self.answers.put((f"disconnected: {reason}", reason))

    def _published(self, _c: object, _d: object, _mid: int, reason: ReasonCode, _p: object) -> None:
        self.answers.put(("published", reason))


class Member:
    """An agent or the coordinator, going about its work."""

    def __init__(
        self,
        broker: PlantBroker,
        name: str,
        *subscriptions: str,
        lasting: bool = False,
        waits: bool = False,
    ) -> None:
        self.name = name
        self.events: SimpleQueue[LinkEvent] = SimpleQueue()
        endpoint = Endpoint(
            host="127.0.0.1",
            port=broker.port,
            client_id=name,
            subscriptions=subscriptions,
            lasting=lasting,
            tls=broker.identity(AUTHORITY.issue(name)),
        )
        self.link = MqttLink(endpoint, self.events.put, jitter=lambda _: 0.02)
        self.link.start()
        while not isinstance(event := self.events.get(timeout=PATIENCE), Connected):
            assert waits, event

    def says(self, topic: str, payload: bytes) -> Rejection | None:
        """The broker's answer to a message."""
        answers: SimpleQueue[Rejection | None] = SimpleQueue()
        self.link.publish(topic, payload, done=answers.put)
        return answers.get(timeout=PATIENCE)

    def hears(self) -> LinkEvent:
        """What comes next."""
        return self.events.get(timeout=PATIENCE)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlantBroker]:
    """The plant's broker, which outlives every attack here."""
    made = PlantBroker(
        tmp_path_factory.mktemp("plant") / "broker", AUTHORITY, mosquitto_readers=["historian"]
    )
    made.start()
    yield made
    assert made.child.poll() is None, made.log
    made.stop()


@pytest.fixture
def members(broker: PlantBroker) -> Iterator[Callable[..., Member]]:
    """Those who do nothing wrong; gone when the test is."""
    with ExitStack() as stack:

        def join(name: str, *subscriptions: str) -> Member:
            made = Member(broker, name, *subscriptions)
            stack.callback(made.link.stop)
            return made

        yield join


@pytest.fixture
def attack(broker: PlantBroker, tmp_path: Path) -> Iterator[Callable[..., Attacker]]:
    """Those who do; gone when the test is."""
    with ExitStack() as stack:

        def begin(credential: Credential | None, port: int = 0, **options: Any) -> Attacker:
            made = Attacker(port or broker.port, credential, tmp_path / "attacker", **options)
            stack.callback(made.close)
            return made

        yield begin


Join = Callable[..., Member]
Attack = Callable[..., Attacker]


class TestDoor:
    """Who gets in on the listener for agents."""

    @pytest.mark.parametrize(
        ("credential", "logged"),
        [
            (None, "peer did not return a certificate"),
            (AUTHORITY.expired("gw-1"), "certificate verify failed"),
            (AUTHORITY.early("gw-1"), "certificate verify failed"),
            (Authority().issue("gw-1"), "certificate verify failed"),
            (AUTHORITY.server(), "certificate verify failed"),
        ],
        ids=["none", "expired", "early", "another CA", "that of a server"],
    )
    def test_without_a_certificate_that_is_good_nobody(
        self, broker: PlantBroker, attack: Attack, credential: Credential | None, logged: str
    ) -> None:
        """Refused, and in the broker's log."""
        before = broker.log.count(logged)
        assert not attack(credential).connect().startswith("connected")
        broker.wait("log", lambda: broker.log.count(logged) > before)

    def test_revoked_while_it_runs(self, broker: PlantBroker, attack: Attack) -> None:
        """From the broker's next look at its list on; logged, and others are let in as before."""
        thief, honest = AUTHORITY.issue("gw-1"), AUTHORITY.issue("gw-2")
        assert attack(thief).connect() == "connected"
        before = broker.log.count("certificate verify failed")
        broker.revoke(thief)
        broker.wait("list", lambda: not attack(thief).connect().startswith("connected"))
        broker.wait("log", lambda: broker.log.count("certificate verify failed") > before)
        assert attack(honest).connect() == "connected"

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_not_below_tls_1_3(self, broker: PlantBroker, attack: Attack) -> None:
        """Whoever speaks 1.2 gets no further than that."""
        credential = AUTHORITY.issue("gw-1")
        told = attack(credential, newest=ssl.TLSVersion.TLSv1_2).connect()
        assert told.startswith("refused")
        assert "protocol version" in told.lower()

    def test_not_in_the_clear(self, broker: PlantBroker) -> None:
        """A greeting of MQTT without TLS is answered with nothing of MQTT."""
        with socket.create_connection(("127.0.0.1", broker.port), timeout=PATIENCE) as plain:
            plain.sendall(b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03abc")
            with suppress(ConnectionResetError):
                assert not plain.recv(100).startswith(b"\x20")


class TestTopics:
    """What an agent with a certificate that is good may do to others."""

    @pytest.mark.parametrize(
        "topic",
        [
            "fedmill/v1/gw-2/up/update",
            "fedmill/v1/gw-2/up/state",
            "fedmill/v1/gw-2/down/receipt",
            "fedmill/v1/gw-2/out/alarm/rig",
            "fedmill/v1/gw-1/down/receipt",
            "fedmill/v1/all/release/rig",
            "fedmill/v1/all/trust/root.json",
            "fedmill/v1/enrol/ca",
            topics.ENROL_UP,
            topics.enrol_down(REQUEST),
            f"fedmill/v1/{topics.NOBODY}/up/echo",
            "fedmill/v1/gw-1",
            "spBv1.0/plant/DDATA/gw-1",
            "anything",
        ],
    )
    def test_it_writes_what_is_its_own_and_nothing_else(self, attack: Attack, topic: str) -> None:
        """The broker says "not authorized", and the link goes on."""
        intruder = attack(AUTHORITY.issue("gw-1"))
        assert intruder.connect() == "connected"
        assert intruder.publish(topic) == NOT_AUTHORIZED
        assert intruder.publish("fedmill/v1/gw-1/up/state") != NOT_AUTHORIZED

    def test_who_tried_is_in_the_log_where_it_is_asked_for(
        self, tmp_path: Path, attack: Attack
    ) -> None:
        """Mosquitto says it at its level "debug" only, among every other message."""
        broker = PlantBroker(tmp_path / "talkative", AUTHORITY, mosquitto_log_refusals=True)
        broker.start()
        intruder = attack(AUTHORITY.issue("gw-1"), broker.port)
        assert intruder.connect() == "connected"
        assert intruder.publish("fedmill/v1/gw-2/up/update") == NOT_AUTHORIZED
        told = "Denied PUBLISH from gw-1 (d0, q1, r0, m1, 'fedmill/v1/gw-2/up/update'"
        broker.wait("log", lambda: told in broker.log)
        broker.stop()

    def test_it_reads_what_is_its_own_and_nothing_else(self, members: Join, attack: Attack) -> None:
        """Subscriptions are granted to everything; what others say is not delivered."""
        coordinator, other = members(COORDINATOR, "fedmill/v1/+/up/#"), members("gw-2")
        intruder = attack(AUTHORITY.issue("gw-1"))
        assert intruder.connect() == "connected"
        intruder.listen("#", "fedmill/v1/+/down/#", "fedmill/v1/+/up/#", "$SYS/#")
        assert other.says("fedmill/v1/gw-2/up/update", b"secret") is None
        assert other.says("fedmill/v1/gw-2/out/alarm/rig", b"secret") is None
        assert coordinator.says("fedmill/v1/gw-2/down/block", b"secret") is None
        assert coordinator.says("fedmill/v1/gw-1/down/receipt", b"for you") is None
        assert intruder.heard.get(timeout=PATIENCE).payload == b"for you"
        with suppress(Empty):  # once for each subscription that it is within
            while True:
                assert intruder.heard.get_nowait().payload == b"for you"

    def test_a_reader_reads_predictions_and_writes_nothing(
        self, members: Join, attack: Attack
    ) -> None:
        """A historian of the plant, say."""
        agent = members("gw-2")
        reader = attack(AUTHORITY.issue("historian"))
        assert reader.connect() == "connected"
        reader.listen("fedmill/v1/#")
        assert agent.says("fedmill/v1/gw-2/up/update", b"secret") is None
        assert agent.says("fedmill/v1/gw-2/out/prediction/rig", b"7") is None
        assert reader.heard.get(timeout=PATIENCE).payload == b"7"
        assert reader.publish("fedmill/v1/gw-2/out/prediction/rig") == NOT_AUTHORIZED

    def test_a_will_says_nothing_for_others(
        self, broker: PlantBroker, members: Join, attack: Attack
    ) -> None:
        """The broker would publish it, and may not."""
        coordinator = members(COORDINATOR, "fedmill/v1/+/up/#")
        intruder = attack(AUTHORITY.issue("gw-1"))
        intruder.client.will_set("fedmill/v1/gw-2/up/state", b"offline", qos=1, retain=True)
        if intruder.connect() == "connected":
            connection = intruder.client.socket()
            assert isinstance(connection, socket.socket)
            connection.shutdown(socket.SHUT_RDWR)
            intruder.next()
        witness = members("gw-3")
        assert witness.says("fedmill/v1/gw-3/up/state", b"online") is None
        assert coordinator.hears() == Message("fedmill/v1/gw-3/up/state", b"online")


class TestIdentity:
    def test_no_takeover_with_another_client_id(
        self, broker: PlantBroker, members: Join, attack: Attack
    ) -> None:
        """Whatever id it asks for, it is whom its certificate names; the other stays connected."""
        victim = members("gw-2", "fedmill/v1/gw-2/down/#")
        intruder = attack(AUTHORITY.issue("gw-1"), client_id="gw-2")
        assert intruder.connect() == "connected"
        assert "as gw-1 (p5" in broker.log
        coordinator = members(COORDINATOR)
        assert coordinator.says("fedmill/v1/gw-2/down/receipt", b"still here") is None
        assert victim.hears() == Message("fedmill/v1/gw-2/down/receipt", b"still here")


class TestLoad:
    """What one of them can do to the service of the others."""

    def test_messages_that_are_too_large(
        self, broker: PlantBroker, members: Join, attack: Attack
    ) -> None:
        """The sender is thrown out and named each time; the others notice nothing."""
        before = broker.oversize("gw-1")
        coordinator, agent = members(COORDINATOR, "fedmill/v1/+/up/#"), members("gw-2")
        for number in range(20):
            intruder = attack(AUTHORITY.issue("gw-1"))
            assert intruder.connect() == "connected"
            intruder.client.publish("fedmill/v1/gw-1/up/block", bytes(1_000_000), qos=1)
            assert intruder.next()[0].startswith("disconnected")
            word = struct.pack(">I", number)
            assert agent.says("fedmill/v1/gw-2/up/block", word) is None
            assert coordinator.hears() == Message("fedmill/v1/gw-2/up/block", word)
        broker.wait("log", lambda: broker.oversize("gw-1") == before + 20)

    def test_a_thousand_connections_that_say_nothing(self, tmp_path: Path) -> None:
        """All held open: no more than fit get in, each other one is logged, and who is there stays.

        Whoever comes meanwhile finds no room, and gets in once those are gone.
        """
        broker = PlantBroker(tmp_path / "small", AUTHORITY, mosquitto_connections=ROOM)
        broker.start()
        coordinator = Member(broker, COORDINATOR, "fedmill/v1/+/up/#")
        agent = Member(broker, "gw-2")
        with ExitStack() as stack:
            for _ in range(1000):
                with suppress(OSError):
                    made = socket.create_connection(("127.0.0.1", broker.port), timeout=PATIENCE)
                    stack.callback(made.close)
            full = "max_connections exceeded"
            broker.wait("log", lambda: broker.log.count(full) >= 1000 - ROOM)
            assert agent.says("fedmill/v1/gw-2/up/state", b"here") is None
            assert coordinator.hears() == Message("fedmill/v1/gw-2/up/state", b"here")
        newcomer = Member(broker, "gw-3", waits=True)
        assert newcomer.says("fedmill/v1/gw-3/up/state", b"new") is None
        for member in (coordinator, agent, newcomer):
            member.link.stop()
        assert broker.child.poll() is None
        broker.stop()


class TestEnrolment:
    """The listener where nobody is known."""

    def test_it_may_ask_and_hear_the_answer(
        self, broker: PlantBroker, members: Join, attack: Attack
    ) -> None:
        """Of the coordinator, on the other listener."""
        coordinator = members(COORDINATOR, "fedmill/v1/+/up/#")
        box = attack(None, broker.enrol_port, user="enrol")
        assert box.connect() == "connected"
        box.listen(topics.enrol_down(REQUEST))
        assert box.publish(topics.ENROL_UP, REQUEST) != NOT_AUTHORIZED
        assert coordinator.hears() == Message(topics.ENROL_UP, REQUEST)
        assert coordinator.says(topics.enrol_down(REQUEST), b"welcome") is None
        assert box.heard.get(timeout=PATIENCE).payload == b"welcome"

    @pytest.mark.parametrize(
        "topic",
        [
            "fedmill/v1/gw-2/up/state",
            "fedmill/v1/gw-2/down/receipt",
            "fedmill/v1/all/release/rig",
            "fedmill/v1/enrol/ca",
            topics.enrol_down(REQUEST),
            f"{topics.ENROL_UP}/more",
            "fedmill/v1/enrol-box/up/state",
            "anything",
        ],
    )
    def test_it_may_write_nothing_else(
        self, broker: PlantBroker, attack: Attack, topic: str
    ) -> None:
        """Not even what the broker would keep for others."""
        box = attack(None, broker.enrol_port, user="enrol")
        assert box.connect() == "connected"
        assert box.publish(topic, retain=True) == NOT_AUTHORIZED

    def test_it_has_one_message_kept_at_most(
        self, broker: PlantBroker, members: Join, attack: Attack
    ) -> None:
        """Each takes the place of the one before, so that no memory is filled."""
        box = attack(None, broker.enrol_port, user="enrol")
        assert box.connect() == "connected"
        for number in range(20):
            assert box.publish(topics.ENROL_UP, str(number).encode(), retain=True) != (
                NOT_AUTHORIZED
            )
            assert box.publish(f"{topics.ENROL_UP}/{number}", retain=True) == NOT_AUTHORIZED
        coordinator = members(COORDINATOR, "fedmill/v1/+/up/#")
        assert coordinator.hears() == Message(topics.ENROL_UP, b"19", retained=True)
        assert members("gw-2").says("fedmill/v1/gw-2/up/state", b"next") is None
        assert coordinator.hears() == Message("fedmill/v1/gw-2/up/state", b"next")
        assert box.publish(topics.ENROL_UP, b"", retain=True) != NOT_AUTHORIZED

    def test_it_may_read_nothing_else(
        self, broker: PlantBroker, members: Join, attack: Attack
    ) -> None:
        """Neither what agents say, nor what they are told, nor what other boxes ask."""
        coordinator, agent = members(COORDINATOR), members("gw-2")
        box = attack(None, broker.enrol_port, user="enrol")
        assert box.connect() == "connected"
        box.listen("#", "fedmill/v1/all/#", "fedmill/v1/enrol/up/#")
        for topic in ("all/job/rig", "gw-2/down/receipt"):
            assert coordinator.says(f"fedmill/v1/{topic}", b"secret") is None
        assert agent.says("fedmill/v1/gw-2/up/update", b"secret") is None
        assert coordinator.says(topics.ENROL_CA, b"public") is None
        assert box.heard.get(timeout=PATIENCE).payload == b"public"
        with pytest.raises(Empty):
            box.heard.get_nowait()

    def test_who_enrols_throws_nobody_out(
        self, broker: PlantBroker, members: Join, attack: Attack
    ) -> None:
        """It may not take the id of an agent, which would end the agent's connection."""
        coordinator, victim = members(COORDINATOR), members("gw-2", "fedmill/v1/gw-2/down/#")
        assert attack(None, broker.enrol_port, client_id="gw-2", user="enrol").connect() == (
            "connected"
        )
        for user in ("gw-2", COORDINATOR, ""):
            box = attack(None, broker.enrol_port, client_id="gw-2", user=user)
            assert not box.connect().startswith("connected")
        assert coordinator.says("fedmill/v1/gw-2/down/receipt", b"still here") is None
        assert victim.hears() == Message("fedmill/v1/gw-2/down/receipt", b"still here")


class TestRestart:
    def test_what_waits_for_who_is_away_is_kept(self, tmp_path: Path) -> None:
        """Across a restart of the broker, with an ACL for each listener."""
        broker = PlantBroker(tmp_path / "broker", AUTHORITY)
        broker.start()
        coordinator = Member(broker, COORDINATOR, lasting=True)
        agent = Member(broker, "gw-1", "fedmill/v1/gw-1/down/#", lasting=True)
        agent.link.stop()
        assert coordinator.says("fedmill/v1/gw-1/down/receipt", b"before") is None
        broker.stop()
        broker.start()
        while not isinstance(event := coordinator.hears(), Connected):
            assert isinstance(event, Disconnected)
        assert event.session_present
        assert coordinator.says("fedmill/v1/gw-1/down/receipt", b"after") is None
        events: SimpleQueue[LinkEvent] = SimpleQueue()
        back = MqttLink(agent.link._endpoint, events.put)
        back.start()
        assert events.get(timeout=PATIENCE) == Connected(session_present=True)
        assert [events.get(timeout=PATIENCE) for _ in range(2)] == [
            Message("fedmill/v1/gw-1/down/receipt", b"before"),
            Message("fedmill/v1/gw-1/down/receipt", b"after"),
        ]
        back.stop()
        coordinator.link.stop()
        broker.stop()
