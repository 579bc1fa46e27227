# SPDX-License-Identifier: Apache-2.0
"""MQTT 5 through paho. The only module that imports it.

Traps that this module exists for: a session opened with clean start is not persisted by Mosquitto,
so only a probe asks for it; paho resends a message that is too large for the broker for ever, so
the size is checked before; paho queues without limit by default; Nagle's algorithm costs 40 ms a
round.
"""

import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from fedmill_shared.errors import BrokerError
from fedmill_shared.lean import without
from fedmill_shared.link.base import (
    LARGEST_PACKET,
    Connected,
    Disconnected,
    Message,
    Sink,
    check_size,
)

# paho asks the system for a proxy through urllib, but only where PySocks is installed.
with without(empty=[] if find_spec("socks") else ["urllib.request"]):
    from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
    from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode
    from paho.mqtt.subscribeoptions import SubscribeOptions


SESSION_EXPIRY_SECONDS = 7 * 24 * 3600
KEEPALIVE_SECONDS = 30
PATIENCE_SECONDS = 0.5
QUEUED_MESSAGES = 4096
MQTT_LARGEST_PACKET = 268_435_455
_NAME = "correct host below [broker], or make it known to this machine by DNS or /etc/hosts"
_WHERE = "start the broker, or correct host and port below [broker]"
_REFUSED = "the broker's own log says why; fedmill signs in without user name and password"


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where the broker is, and who we are to it.

    Attributes:
        client_id: fixed, so that the broker keeps our session.
        will: what the broker publishes, retained, when we vanish.
        subscriptions: topic patterns, all with QoS 1.
        inflight: unacknowledged messages on the wire at once.
        lasting: whether the broker keeps the session while we are away; a probe leaves none.
    """

    host: str
    port: int
    client_id: str
    subscriptions: Sequence[str]
    will: Message | None = None
    inflight: int = 20
    lasting: bool = True


class MqttLink:
    """An MQTT 5 session; owns paho's thread."""

    def __init__(self, endpoint: Endpoint, sink: Sink) -> None:
        """Prepare the session; nothing is sent before ``start``.

        Raises:
            BrokerError: no machine can have the host's name.
        """
        _check_host(endpoint.host)
        self._endpoint = endpoint
        self._sink = sink
        self._largest_packet = LARGEST_PACKET  # until the broker has told its own
        self._gone = threading.Event()
        self._gone.set()
        self._client = self._make_client()

    def start(self) -> None:
        """Begin to connect; returns at once and keeps trying for ever."""
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        lasting = self._endpoint.lasting
        properties.SessionExpiryInterval = SESSION_EXPIRY_SECONDS if lasting else 0
        properties.MaximumPacketSize = LARGEST_PACKET  # the broker drops what is larger
        self._client.connect_async(
            self._endpoint.host,
            self._endpoint.port,
            keepalive=KEEPALIVE_SECONDS,
            clean_start=not lasting,
            properties=properties,
        )
        self._client.loop_start()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Queue a message with QoS 1; see :class:`fedmill_shared.link.base.Link`."""
        check_size(topic, payload, self._largest_packet)
        result = self._client.publish(topic, payload, qos=1, retain=retain)
        if result.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            raise BrokerError(f"{topic}: {QUEUED_MESSAGES} messages already wait for the broker")

    def stop(self, farewell: Message | None = None) -> None:
        """Send ``farewell`` if connected, then disconnect and end the thread.

        Where the farewell cannot be sent, the broker is asked to publish the will.
        """
        reason = None
        if farewell is not None and self._client.is_connected():
            info = self._client.publish(farewell.topic, farewell.payload, qos=1, retain=True)
            with suppress(RuntimeError, ValueError):  # broken meanwhile, or the queue is full
                info.wait_for_publish(timeout=PATIENCE_SECONDS)
            if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
                reason = ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message")
        self._client.disconnect(reason)
        # A stalled connection would hold the thread until its keepalive has run out.
        self._gone.wait(PATIENCE_SECONDS)
        connection = self._client.socket()
        if isinstance(connection, socket.socket):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._client.loop_stop()

    def _make_client(self) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._endpoint.client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
        )
        client.max_inflight_messages_set(self._endpoint.inflight)
        client.max_queued_messages_set(QUEUED_MESSAGES)
        client.reconnect_delay_set(min_delay=1, max_delay=15)
        will = self._endpoint.will
        if will is not None:
            client.will_set(will.topic, will.payload, qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_socket_open = _no_delay
        return client

    def _on_connect(
        self,
        client: Client,
        _userdata: object,
        flags: ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._sink(Disconnected(str(reason), _REFUSED))
            return
        self._gone.clear()
        self._largest_packet = getattr(properties, "MaximumPacketSize", MQTT_LARGEST_PACKET)
        options = SubscribeOptions(qos=1)
        if self._endpoint.subscriptions:
            client.subscribe([(pattern, options) for pattern in self._endpoint.subscriptions])
        self._sink(Connected(session_present=flags.session_present))

    def _on_connect_fail(self, _client: Client, _userdata: object) -> None:
        # paho calls while it handles the error, and does not tell it.
        self._sink(_failure(self._endpoint, sys.exception()))

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: object,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._gone.set()
        self._sink(Disconnected(str(reason)))

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        self._sink(Message(message.topic, bytes(message.payload), message.retain))


def _check_host(host: str) -> None:
    """Refuse what the resolver cannot be asked for: it would end paho's thread without a word."""
    try:
        possible = bool(host.encode("idna")) and "\0" not in host
    except UnicodeError:
        possible = False
    if not possible:
        raise BrokerError(f"broker.host is {host!r}: no machine can have this name", remedy=_NAME)


def _failure(endpoint: Endpoint, error: BaseException | None) -> Disconnected:
    """Why no connection to ``endpoint`` could be made."""
    if isinstance(error, socket.gaierror):
        return Disconnected(f"the host name {endpoint.host} is unknown: {error.strerror}", _NAME)
    said = (error.strerror or str(error)) if isinstance(error, OSError) else "no connection"
    return Disconnected(f"no broker answers: {said}", _WHERE)


def _no_delay(_client: Client, _userdata: object, sock: Any) -> None:
    if isinstance(sock, socket.socket):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
