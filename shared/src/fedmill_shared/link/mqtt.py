# SPDX-License-Identifier: Apache-2.0
"""MQTT 5 through paho. Only it and ``plant.py`` import it.

Traps that this module exists for: a session opened with clean start is not persisted by Mosquitto,
so only a probe asks for it; paho resends a message that is too large for the broker for ever, so
the size is checked before; paho queues without limit by default; Nagle's algorithm costs 40 ms a
round; paho's own way back knows no jitter, and its thread ends with the connection, so the thread
is ours; without a thread of its own, paho writes from whichever thread publishes, and two of them
may mix their packets, so it is told that somebody else writes; and it drops the connection over a
character that MQTT only advises against, and the broker then sends the same message for ever.
"""

import socket
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from math import inf
from typing import Any

from fedmill_shared.clock import Clock, SystemClock
from fedmill_shared.errors import BrokerError
from fedmill_shared.lean import without
from fedmill_shared.link.acknowledgements import Acknowledgements
from fedmill_shared.link.backoff import Backoff, Jitter, full_jitter
from fedmill_shared.link.base import (
    LARGEST_PACKET,
    Connected,
    Disconnected,
    Done,
    Message,
    Rejection,
    Sink,
    check_size,
    lost_in_words,
)


class _NeverRaised(Exception):  # noqa: N818  it is no error
    """Stands for what only a connection with TLS raises, while this process has none."""


# paho asks the system for a proxy through urllib, but only where PySocks is installed, and names
# two errors of TLS whenever a socket has nothing to read. Who wants TLS imports ssl, as `plant.py`.
with without(
    empty=[] if find_spec("socks") else ["urllib.request"],
    later={"ssl": dict.fromkeys(("SSLWantReadError", "SSLWantWriteError"), _NeverRaised)},
):
    from paho.mqtt import MQTTException
    from paho.mqtt import properties as paho_properties
    from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, MQTTMessageInfo
    from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode
    from paho.mqtt.subscribeoptions import SubscribeOptions


def read_text(buffer: bytes, longest: int) -> tuple[str, int]:
    """The text at the beginning of ``buffer`` and the bytes it takes, at most ``longest``.

    In place of paho's: whatever a client of the broker wrote into a property, the message that
    carries it is delivered, and nobody is cut off. What is not UTF-8 is replaced.
    """
    length = int.from_bytes(buffer[:2], "big")
    if longest < 2 or length > longest - 2:
        raise MQTTException("text of a property is truncated")
    return bytes(buffer[2 : 2 + length]).decode("utf-8", "replace"), length + 2


paho_properties.readUTF = read_text

SESSION_EXPIRY_SECONDS = 7 * 24 * 3600
KEEPALIVE_SECONDS = 30
PATIENCE_SECONDS = 0.5
TURN_SECONDS = 1.0
QUEUED_MESSAGES = 4096
MQTT_LARGEST_PACKET = 268_435_455
_NAME = "correct host below [broker], or make it known to this machine by DNS or /etc/hosts"
_WHERE = "start the broker, or correct host and port below [broker]"
_TAKEN_OVER = 0x8E
_TWIN = "another process signs in as {}: stop it, or give each an identity of its own"
_FOREIGN = "look whether host and port below [broker] are those of an MQTT 5 broker"
MALFORMED = (MQTTException, ValueError, LookupError, struct.error)
"""All that paho raises over the bytes of a broker gone mad."""
_REFUSED = "the broker's own log says why; fedmill signs in without user name and password"
_UNWELCOME = {
    0x87: "check the broker's ACL: {client} must be allowed to publish to {topic}",
    0x97: "raise what the broker lets {client} publish",
}
_UNEXPLAINED = "look into the broker's own log why {client} may not publish this to {topic}"


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
    """An MQTT 5 session; owns the thread that connects, reads and writes."""

    def __init__(
        self,
        endpoint: Endpoint,
        sink: Sink,
        *,
        jitter: Jitter = full_jitter,
        clock: Clock | None = None,
    ) -> None:
        """Prepare the session; nothing is sent before ``start``.

        ``jitter`` draws the seconds until the next attempt to connect, given the longest wait.

        Raises:
            BrokerError: no machine can have the host's name.
        """
        _check_host(endpoint.host)
        self._endpoint = endpoint
        self._sink = sink
        self._largest_packet = LARGEST_PACKET  # until the broker has told its own
        self._gone = threading.Event()
        self._gone.set()
        self._backoff = Backoff(jitter)
        self._clock = clock or SystemClock()
        self._connected_at = inf
        self._taken_over = False
        self._waiting = 0
        self._counting = threading.Lock()
        self._acknowledgements: Acknowledgements[ReasonCode] = Acknowledgements()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)
        self._client = self._make_client()

    @property
    def backlog(self) -> int:
        """Messages given to ``publish`` that the broker has not answered yet."""
        return self._waiting

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
        self._thread.start()

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        done: Done | None = None,
    ) -> None:
        """Queue a message with QoS 1; see :class:`fedmill_shared.link.base.Link`."""
        check_size(topic, payload, self._largest_packet)
        info = self._hand_over(topic, payload, retain=retain, done=done)
        if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            raise BrokerError(f"{topic}: {QUEUED_MESSAGES} messages already wait for the broker")

    def stop(self, farewell: Message | None = None) -> None:
        """Send ``farewell`` if connected, then disconnect and end the thread.

        Where the farewell cannot be sent, the broker is asked to publish the will.
        """
        self._stopping.set()
        reason = None
        if farewell is not None and self._client.is_connected():
            info = self._hand_over(farewell.topic, farewell.payload, retain=True)
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
        if self._thread.is_alive():
            self._thread.join()
        self._client.__del__()  # paho's only way to close the sockets that wake its loop

    def _hand_over(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool,
        done: Done | None = None,
    ) -> MQTTMessageInfo:
        self._count(1)  # before paho has it: the acknowledgement may come at once
        try:
            info = self._client.publish(topic, payload, qos=1, retain=retain)
        except ValueError:
            self._count(-1)
            raise
        if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            self._count(-1)
        else:
            answered = None if done is None else partial(self._answer, topic, done)
            self._acknowledgements.enter(info.mid, answered)
        return info

    def _answer(self, topic: str, done: Done, reason: ReasonCode) -> None:
        """Tell ``done`` what the broker said of its message; no subscriber is no failure."""
        if not reason.is_failure:
            done(None)
            return
        remedy = _UNWELCOME.get(reason.value, _UNEXPLAINED)
        told = remedy.format(client=self._endpoint.client_id, topic=topic)
        done(Rejection(topic, str(reason), told))

    def _count(self, difference: int) -> None:
        with self._counting:
            self._waiting += difference

    def _run(self) -> None:
        """Connect, serve the connection until it is gone, wait; until ``stop``."""
        while not self._stopping.is_set():
            self._connected_at, self._taken_over = inf, False
            self._serve()
            lasted = max(0.0, self._clock.monotonic() - self._connected_at)
            self._stopping.wait(self._backoff.wait(lasted, taken_over=self._taken_over))

    def _serve(self) -> None:
        try:
            self._client.reconnect()
            if self._stopping.is_set():  # it found no connection to end
                self._client.disconnect()
            while self._client.loop(TURN_SECONDS) == MQTTErrorCode.MQTT_ERR_SUCCESS:
                pass
        except OSError as error:
            self._sink(_failure(self._endpoint, error))
        except MALFORMED as error:
            self._gone.set()
            self._sink(Disconnected(f"the broker sent what is not MQTT: {error}", _FOREIGN))

    def _make_client(self) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._endpoint.client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        client.max_inflight_messages_set(self._endpoint.inflight)
        client.max_queued_messages_set(QUEUED_MESSAGES)
        will = self._endpoint.will
        if will is not None:
            client.will_set(will.topic, will.payload, qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_socket_open = _no_delay
        client.on_socket_register_write = _left_to_the_loop
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
        self._connected_at = self._clock.monotonic()
        self._largest_packet = getattr(properties, "MaximumPacketSize", MQTT_LARGEST_PACKET)
        options = SubscribeOptions(qos=1)
        if self._endpoint.subscriptions:
            client.subscribe([(pattern, options) for pattern in self._endpoint.subscriptions])
        self._sink(Connected(session_present=flags.session_present))

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: object,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._gone.set()
        self._taken_over = reason.value == _TAKEN_OVER
        twin = _TWIN.format(self._endpoint.client_id) if self._taken_over else ""
        self._sink(Disconnected(lost_in_words(str(reason)), twin))

    def _on_publish(
        self,
        _client: Client,
        _userdata: object,
        number: int,
        reason: ReasonCode,
        _properties: Properties,
    ) -> None:
        self._count(-1)
        self._acknowledgements.take(number, reason)

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        with suppress(UnicodeDecodeError):  # no topic of ours
            self._sink(Message(message.topic, bytes(message.payload), message.retain))


def _check_host(host: str) -> None:
    """Refuse what the resolver cannot be asked for: it would end paho's thread without a word."""
    try:
        possible = bool(host.encode("idna")) and "\0" not in host
    except UnicodeError:
        possible = False
    if not possible:
        raise BrokerError(f"broker.host is {host!r}: no machine can have this name", remedy=_NAME)


def _failure(endpoint: Endpoint, error: OSError) -> Disconnected:
    """Why no connection to ``endpoint`` could be made."""
    if isinstance(error, socket.gaierror):
        return Disconnected(f"the host name {endpoint.host} is unknown: {error.strerror}", _NAME)
    return Disconnected(f"no broker answers: {error.strerror or error}", _WHERE)


def _left_to_the_loop(_client: Client, _userdata: object, _sock: Any) -> None:
    """Nothing to do: the loop looks by itself whether something is to be written."""


def _no_delay(_client: Client, _userdata: object, sock: Any) -> None:
    if isinstance(sock, socket.socket):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
