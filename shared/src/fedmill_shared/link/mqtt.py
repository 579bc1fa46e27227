# SPDX-License-Identifier: Apache-2.0
"""An MQTT 5 session that keeps trying.

Traps that this module exists for: a session opened with clean start is not persisted by Mosquitto,
so only a probe asks for it; paho resends a message that is too large for the broker for ever, so
the size is checked before; paho queues without limit by default; paho's own way back knows no
jitter, and its thread ends with the connection, so the thread is ours.
"""

import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from fedmill_shared.clock import Clock, SystemClock
from fedmill_shared.errors import BrokerError, FedmillError
from fedmill_shared.link import words
from fedmill_shared.link.acknowledgements import Acknowledgements
from fedmill_shared.link.backoff import Backoff, Jitter, full_jitter
from fedmill_shared.link.base import (
    LARGEST_PACKET,
    Connected,
    Disconnected,
    Done,
    Message,
    Sink,
    Unheard,
    check_size,
    lost_in_words,
)
from fedmill_shared.link.client import (
    MALFORMED,
    Client,
    ConnectFlags,
    DisconnectFlags,
    LinkClient,
    MQTTErrorCode,
    MQTTMessage,
    MQTTMessageInfo,
    PacketTypes,
    Properties,
    ReasonCode,
    SubscribeOptions,
)
from fedmill_shared.link.options import TlsSection
from fedmill_shared.link.words import check_host, failure, refusal, unheard
from fedmill_shared.pulse import Pulse

if TYPE_CHECKING:
    from fedmill_shared.link.tls import Tls


SESSION_EXPIRY_SECONDS = 7 * 24 * 3600
KEEPALIVE_SECONDS = 30
PATIENCE_SECONDS = 0.5
TURN_SECONDS = 1.0
HUNG_SECONDS = 120.0  # no turn takes longer, even where the resolver asks in vain
QUEUED_MESSAGES = 4096
MQTT_LARGEST_PACKET = 268_435_455
_TAKEN_OVER = 0x8E


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where the broker is, and who we are to it.

    Attributes:
        client_id: fixed, so that the broker keeps our session.
        will: what the broker publishes, retained, when we vanish.
        subscriptions: topic patterns, all with QoS 1.
        inflight: unacknowledged messages on the wire at once.
        lasting: whether the broker keeps the session while we are away; a probe leaves none.
        looks: whether what the session holds for us is left there for whoever comes next.
        tls: the files that prove who we are; None for a link in the clear.
        patient: whether to begin without these files, and connect once they are there.
    """

    host: str
    port: int
    client_id: str
    subscriptions: Sequence[str]
    will: Message | None = None
    inflight: int = 20
    lasting: bool = True
    looks: bool = False
    tls: TlsSection | None = None
    patient: bool = False


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
            IdentityError: a file of ``endpoint.tls`` is missing or no such file, and the endpoint
                is not patient.
        """
        check_host(endpoint.host)
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
        self._renewing = threading.Event()
        self._leaving = False
        self._tls = _tls(endpoint, self._clock)
        self._pulse = Pulse(self._clock, HUNG_SECONDS)
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)
        self._client = self._make_client()

    @property
    def backlog(self) -> int:
        """Messages given to ``publish`` that the broker has not answered yet."""
        return self._waiting

    @property
    def late(self) -> float:
        """Seconds for which the thread has been overdue; 0 while it works."""
        return self._pulse.late

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

    def renew(self) -> None:
        """Connect anew, with certificate and key as their files are now; the session stays."""
        self._renewing.set()

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
        client = self._endpoint.client_id
        done(refusal(client, topic, reason.value, str(reason)) if reason.is_failure else None)

    def _count(self, difference: int) -> None:
        with self._counting:
            self._waiting += difference

    def _run(self) -> None:
        """Connect, serve the connection until it is gone, wait; until ``stop``."""
        while not self._stopping.is_set():
            self._connected_at, self._taken_over, self._leaving = inf, False, False
            self._renewing.clear()  # before the files are read
            self._serve()
            lasted = max(0.0, self._clock.monotonic() - self._connected_at)
            taken = self._taken_over
            wait = 0.0 if self._leaving else self._backoff.wait(lasted, taken_over=taken)
            self._pulse.beat(rest=wait)
            self._stopping.wait(wait)
        self._pulse.end()

    def _serve(self) -> None:
        self._pulse.beat()
        try:
            self._client.reconnect()
            if self._stopping.is_set():  # it found no connection to end
                self._client.disconnect()
            while self._client.loop(TURN_SECONDS) == MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._pulse.beat()
                if self._renewing.is_set() and not self._leaving and self._client.is_connected():
                    self._leaving = True
                    self._client.disconnect()
        except FedmillError as error:
            self._sink(Disconnected(error.message, error.remedy))
        except OSError as error:
            self._sink(failure(self._endpoint.host, error))
        except MALFORMED as error:
            self._gone.set()
            self._sink(Disconnected(f"the broker sent what is not MQTT: {error}", words.FOREIGN))

    def _make_client(self) -> Client:
        client = LinkClient(self._endpoint.client_id, self._tls, looks=self._endpoint.looks)
        client.max_inflight_messages_set(self._endpoint.inflight)
        client.max_queued_messages_set(QUEUED_MESSAGES)
        will = self._endpoint.will
        if will is not None:
            client.will_set(will.topic, will.payload, qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
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
            self._sink(Disconnected(str(reason), words.REFUSED))
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
        if self._leaving and not reason.is_failure:
            return  # to come back at once
        ended = self._tls.lost() if self._tls is not None else None
        if ended is not None:
            self._sink(Disconnected(ended.message, ended.remedy))
            return
        twin = words.TWIN.format(self._endpoint.client_id) if self._taken_over else ""
        self._sink(Disconnected(lost_in_words(str(reason)), twin))

    def _on_subscribe(
        self,
        _client: Client,
        _userdata: object,
        _number: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        for topic, reason in zip(self._endpoint.subscriptions, reasons, strict=False):
            if reason.is_failure:
                self._sink(Unheard(topic, str(reason), unheard(self._endpoint.client_id, topic)))

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


def _tls(endpoint: Endpoint, clock: Clock) -> "Tls | None":
    if endpoint.tls is None:
        return None
    from fedmill_shared.link.tls import Tls  # noqa: PLC0415  takes memory

    made = Tls(endpoint.tls, endpoint.host, endpoint.port, clock)
    if not endpoint.patient:
        made.check()
    return made
