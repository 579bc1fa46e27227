# SPDX-License-Identifier: Apache-2.0
"""A listener on the plant's own MQTT broker, which is not ours and owes us nothing.

It has no thread: whoever reads runs the client, so a reader that is slow slows the broker down and
not our memory. It connects once. What was lost is told, and a new one is made by others.

Traps: MQTT 3.1.1 has no way to refuse large messages, and paho gathers up to 256 MB of one, so
the announced length is watched; paho leaves the socket of a failed TLS handshake open, so the
socket is made here.
"""

import socket
import ssl
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, error_string
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from fedmill_shared.clock import Clock, SystemClock
from fedmill_shared.errors import ConfigError, SourceError
from fedmill_shared.link.base import Message, lost_in_words
from fedmill_shared.link.client import MALFORMED

Version = Literal["5", "3.1.1"]
KEEPALIVE_SECONDS = 15
MOST_MESSAGES = 256
"""Messages that one ``read`` gives at most."""
MOST_BYTES = 1 << 20
"""Of messages behind which one ``read`` lets the others wait."""
TOLERATED = 4
FAREWELL_SECONDS = 0.5
TURN_SECONDS = 0.5
_REMEDIES = {
    0x84: 'set `version = "3.1.1"` for an older broker',
    0x85: "choose another `client_id`",
    0x86: "correct `user` and the file in `password_file`",
    0x87: "ask the broker's keeper for the right to connect, or give `user` and `password_file`",
    0x8E: "another client signs in with the same `client_id`: give each its own",
}


@dataclass(frozen=True, kw_only=True)
class PlantBroker:
    """Where a plant's broker is, and who we are to it.

    Attributes:
        version: of MQTT.
        password: only sent with a ``username``.
        tls: None for a connection that anybody on the way can read.
        largest_packet: bytes; what is larger is left out. Of MQTT 3.1.1 it must be taken in for
            that, up to four times as much; a message that is larger still ends the connection.
        patience: seconds in which it must have answered.
        will: what the broker publishes, with QoS 1, when we vanish; retained if it says so.
        keep_seconds: for how long the broker keeps the session, with what comes for it, after the
            connection has ended; of MQTT 3.1.1 as long as the broker likes, unless it is 0.
    """

    host: str
    port: int
    client_id: str
    version: Version = "5"
    username: str = ""
    password: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None
    largest_packet: int = 1 << 20
    patience: float = 5.0
    will: Message | None = None
    keep_seconds: int = 0


class PlantLink:
    """One connection. Its session ends with it (Clean Start, no expiry) unless it is to be kept.

    Attributes:
        counts: ``garbage``: messages whose topic is no UTF-8; ``too large``: longer than wanted.
        refused: topic filters that the broker does not let us have.
    """

    def __init__(self, broker: PlantBroker, clock: Clock | None = None) -> None:
        """Prepare the connection; nothing is sent before ``open``."""
        self.counts: Counter[str] = Counter()
        self.refused: list[str] = []
        self._broker = broker
        self._clock = clock or SystemClock()
        self._came: list[Message] = []
        self._greeting: ReasonCode | None = None
        self._granted: list[ReasonCode] | None = None
        self._lost: SourceError | None = None
        self._client = self._make_client()

    def open(self, filters: Sequence[str], *, qos: int = 1) -> None:
        """Connect and subscribe; returns when the broker has agreed to one filter at least.

        Raises:
            SourceError: it cannot be reached, refuses us or does not answer in time.
        """
        deadline = self._clock.monotonic() + self._broker.patience
        self._connect()
        while self._greeting is None:
            self._await(deadline)
        if not filters:
            return
        try:
            self._subscribe(filters, qos)
        except (OSError, *MALFORMED) as error:
            raise self._error(f"cannot be asked for {', '.join(filters)}: {error}") from error
        while self._granted is None:
            self._await(deadline)
        answers = zip(filters, self._granted, strict=False)
        self.refused = [each for each, answer in answers if answer.is_failure]
        if len(self.refused) == len(filters):
            raise self._error(
                f"does not let us listen to {', '.join(self.refused)}",
                "ask the broker's keeper for the right to subscribe",
            )

    def _subscribe(self, filters: Sequence[str], qos: int) -> None:
        if self._broker.version == "5":
            self._client.subscribe([(each, SubscribeOptions(qos=qos)) for each in filters])
        else:
            self._client.subscribe([(each, qos) for each in filters])

    def read(self, timeout: float) -> list[Message]:
        """Messages that came, in their order; waits at most ``timeout`` seconds for the first.

        Raises:
            SourceError: the connection is lost, and all that came before was given.
        """
        if not self._came:
            self._turn(timeout)
        before, size = 0, 0
        while before < len(self._came) < MOST_MESSAGES and self._lost is None:
            size += sum(len(each.payload) for each in self._came[before:])
            if size >= MOST_BYTES:
                break
            before = len(self._came)
            self._turn(0.0)
        if not self._came and self._lost is not None:
            raise self._lost
        came, self._came = self._came, []
        return came

    def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        """Send a message; nobody says whether it arrived.

        Raises:
            SourceError: the connection is lost.
        """
        try:
            self._client.publish(topic, payload, qos=qos, retain=retain)
        except (OSError, *MALFORMED) as error:
            self._lose(f"connection lost: {error}")
        if self._lost is not None:
            raise self._lost

    def close(self, farewell: Message | None = None) -> None:
        """Send ``farewell``, retained if it says so, and disconnect, in half a second at most."""
        deadline = self._clock.monotonic() + FAREWELL_SECONDS
        with suppress(OSError, RuntimeError, *MALFORMED):  # broken meanwhile
            if farewell is not None and self._client.is_connected():
                info = self._client.publish(
                    farewell.topic, farewell.payload, qos=1, retain=farewell.retained
                )
                # a socket that is closed before the answer is read may take the farewell with it
                while not info.is_published() and self._goes_on(deadline):
                    self._client.loop(FAREWELL_SECONDS / 10)
            self._client.disconnect()
            while self._client.want_write() and self._goes_on(deadline):
                self._client.loop(FAREWELL_SECONDS / 10)
        self._client.__del__()  # paho's only way to close the sockets that wake its loop

    def _goes_on(self, deadline: float) -> bool:
        return self._lost is None and self._clock.monotonic() < deadline

    def _make_client(self) -> "_Client":
        client = _Client(self._broker)
        will = self._broker.will
        if will is not None:
            client.will_set(will.topic, will.payload, qos=1, retain=will.retained)
        if self._broker.username:
            client.username_pw_set(self._broker.username, self._broker.password or None)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        return client

    def _connect(self) -> None:
        host, port = self._broker.host, self._broker.port
        try:
            if self._broker.version == "5":
                properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
                properties.SessionExpiryInterval = self._broker.keep_seconds
                properties.MaximumPacketSize = self._broker.largest_packet
                self._client.connect(
                    host,
                    port,
                    KEEPALIVE_SECONDS,
                    clean_start=not self._broker.keep_seconds,
                    properties=properties,
                )
            else:
                self._client.connect(host, port, KEEPALIVE_SECONDS)
        except ssl.SSLCertVerificationError as error:
            told = f"its certificate is not trusted: {error.verify_message}"
            remedy = "`ca_file` must hold the authority's certificate, and `host` a name in the "
            raise self._error(told, remedy + "broker's own") from error
        except ssl.SSLError as error:
            raise self._error(
                f"no TLS: {error.reason or error}", "look whether this port speaks TLS"
            ) from error
        except socket.gaierror as error:
            raise self._error(f"unknown host name: {error.strerror}", "correct `host`") from error
        except (OSError, UnicodeError, *MALFORMED) as error:
            told = (error.strerror if isinstance(error, OSError) else "") or str(error)
            raise self._error(
                f"no connection: {told}", "start the broker, or correct `host` and `port`"
            ) from error

    def _await(self, deadline: float) -> None:
        """Go on with the beginning of a connection.

        Raises:
            SourceError: there is none any more, or it takes too long.
        """
        left = deadline - self._clock.monotonic()
        if left <= 0:
            remedy = "look whether `host` and `port` are those of an MQTT broker"
            raise self._error("takes connections and does not answer", remedy)
        self._turn(min(left, TURN_SECONDS))
        if self._lost is not None:
            raise self._lost

    def _turn(self, timeout: float) -> None:
        try:
            code = self._client.loop(timeout)
        except OSError as error:
            self._lose(f"connection lost: {error.strerror or error}")
        except MALFORMED as error:
            remedy = "look whether `host` and `port` are those of an MQTT broker"
            self._lose(f"sends what is not MQTT: {error}", remedy)
        else:
            if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._lose(f"connection lost: {error_string(code)}")
            self._check_size(self._client.announced())

    def _check_size(self, length: int) -> None:
        if length > TOLERATED * self._broker.largest_packet:
            remedy = 'raise `max_message_bytes`, narrow the topics, or use `version = "5"`'
            self._lose(f"a message of {length} bytes comes, more than wanted", remedy)

    def _lose(self, told: str, remedy: str = "") -> None:
        self._lost = self._lost or self._error(told, remedy)

    def _error(self, told: str, remedy: str = "") -> SourceError:
        return SourceError(f"broker {self._broker.host}:{self._broker.port}: {told}", remedy=remedy)

    def _on_connect(
        self,
        _client: Client,
        _userdata: object,
        _flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._lose(f"refuses us: {reason}", _REMEDIES.get(reason.value, ""))
        else:
            self._greeting = reason

    def _on_subscribe(
        self,
        _client: Client,
        _userdata: object,
        _number: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        self._granted = reasons

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: object,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        remedy = _REMEDIES.get(reason.value, "look whether the broker still runs")
        self._lose(f"connection lost: {lost_in_words(str(reason))}", remedy)

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        if len(message.payload) > self._broker.largest_packet:
            self.counts["too large"] += 1
            self._check_size(len(message.payload))
            return
        try:
            self._came.append(Message(message.topic, bytes(message.payload), message.retain))
        except UnicodeDecodeError:
            self.counts["garbage"] += 1


class _Client(Client):
    """One of paho's, whose sockets are made here."""

    def __init__(self, broker: PlantBroker) -> None:
        modern = broker.version == "5"
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=broker.client_id,
            clean_session=None if modern else not broker.keep_seconds,
            protocol=MQTTProtocolVersion.MQTTv5 if modern else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        self._of = broker

    def announced(self) -> int:
        """Length of the packet that is on its way, as the broker has announced it."""
        return int(self._in_packet["remaining_length"])

    def _create_socket(self) -> socket.socket:
        address = (self._of.host, self._of.port)
        made = socket.create_connection(address, timeout=self._of.patience)
        try:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tls = self._of.tls
            return made if tls is None else tls.wrap_socket(made, server_hostname=self._of.host)
        except BaseException:
            made.close()
            raise


def tls_context(ca_file: str = "", cert_file: str = "", key_file: str = "") -> ssl.SSLContext:
    """TLS 1.2 or newer that trusts ``ca_file``, or the system's authorities if it is empty.

    ``cert_file`` and ``key_file`` are our own, in PEM, where the broker wants to know us by them.

    Raises:
        ConfigError: a file is missing or is no such thing.
    """
    at = ca_file
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
        at = f"{cert_file} and {key_file}" if key_file else cert_file
        if cert_file:
            # asking for the password of a key would stop a daemon for ever
            context.load_cert_chain(cert_file, key_file or None, password=_no_password)
    except (OSError, ValueError) as error:
        told = (error.strerror if isinstance(error, OSError) else "") or str(error)
        raise ConfigError(
            f"{at}: {told}", remedy="give PEM files that the agent may read, the key unencrypted"
        ) from error
    return context


def _no_password() -> str:
    return ""
