# SPDX-License-Identifier: Apache-2.0
"""An edge node that speaks Sparkplug B, on a mosquitto of its own.

Its payloads are Google's, not ours. It keeps to Sparkplug 3.0, chapter 5: the will is its death, a
birth comes first and again when a host asks for it, and each message has the next number.
"""

import threading
import time
from pathlib import Path
from typing import Any, ClassVar

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from tests.agent.sources.live.stands.mosquitto import Mosquitto
from tests.agent.sources.live.stands.sparkplug_schema import read, written

from fedmill_agent.sources.live import LiveOptions
from fedmill_agent.sources.sparkplug.options import SparkplugOptions

PATIENCE = 20.0
INT32, INT64, DOUBLE, BOOLEAN, STRING = 3, 4, 10, 11, 12
GROUP, NODE = "plant 1", "press-4"
_FIELD = {3: "int_value", 4: "long_value", 9: "float_value", 10: "double_value",
          11: "boolean_value", 12: "string_value"}  # fmt: skip


def now_ms() -> int:
    """As Sparkplug counts."""
    return time.time_ns() // 10**6


class EdgeNode:
    """One node with metrics of its own and of one device, ``drive``."""

    def __init__(self, port: int, *, bd_seq: int = 0, aliases: int = 100) -> None:
        self.metrics: dict[tuple[str, str], dict[str, Any]] = {}
        self.first_alias = aliases
        self.births = 0
        self.born = threading.Event()
        self._bd_seq = bd_seq
        self._seq = 0
        self._lock = threading.RLock()
        self._client = Client(CallbackAPIVersion.VERSION2, clean_session=True)
        self._client.will_set(self._topic("NDEATH"), self._death(), qos=1)
        self._client.on_connect = lambda client, *_: client.subscribe(self._topic("NCMD"), 1)
        self._client.on_subscribe = lambda *_: self.birth()
        self._client.on_message = self._on_message
        self._port = port

    def start(self) -> None:
        """Connect; returns when it is born."""
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        assert self.born.wait(PATIENCE)
        self.settle()

    def settle(self) -> None:
        """Return once the broker has all that was said."""
        info = self._client.publish("settled", b"", qos=1)
        info.wait_for_publish(PATIENCE)
        assert info.is_published()

    def stop(self, *, politely: bool = False) -> None:
        """Vanish, so that the will is published; or disconnect with a death of its own."""
        if politely:
            self._publish("NDEATH", "", self._death())
            self._client.disconnect()
        self._client.loop_stop()
        connection = self._client.socket()
        if connection is not None:
            connection.close()
        self._client.__del__()

    def set(self, device: str, name: str, kind: int, value: object, **more: Any) -> None:
        """Make a metric known, for the next birth."""
        with self._lock:
            known = self.metrics.get(
                (device, name), {"alias": self.first_alias + len(self.metrics)}
            )
            self.metrics[device, name] = {
                "name": name,
                "alias": known["alias"],
                "datatype": kind,
                "timestamp": now_ms(),
                _FIELD.get(kind, "bytes_value"): value,
                **more,
            }

    def say(self, device: str, name: str, kind: int, value: object, **more: Any) -> None:
        """A new value, by alias, as data."""
        with self._lock:
            self.set(device, name, kind, value, **more)
            known = dict(self.metrics[device, name])
            del known["name"], known["datatype"]
            self.send(device, [known])

    def send(self, device: str, metrics: list[dict[str, Any]], *, skip: int = 0) -> None:
        """Data as they are; ``skip`` numbers are lost before them."""
        with self._lock:
            self._seq += skip
            body = written(metrics, timestamp=now_ms(), seq=self._next())
            self._publish("DDATA" if device else "NDATA", device, body)

    def birth(self) -> None:
        """Node first, then devices."""
        with self._lock:
            self._seq = 0
            own = [
                {"name": "bdSeq", "datatype": INT64, "long_value": self._bd_seq},
                {"name": "Node Control/Rebirth", "datatype": BOOLEAN, "boolean_value": False},
            ]
            mine = [each for (device, _), each in self.metrics.items() if not device]
            body = written(own + mine, timestamp=now_ms(), seq=self._next())
            self._publish("NBIRTH", "", body)
            for device in sorted({device for device, _ in self.metrics if device}):
                self.device_birth(device)
            self.births += 1
            self.born.set()

    def device_birth(self, device: str) -> None:
        """Of one device."""
        with self._lock:
            known = [each for (of, _), each in self.metrics.items() if of == device]
            body = written(known, timestamp=now_ms(), seq=self._next())
            self._publish("DBIRTH", device, body)

    def device_death(self, device: str) -> None:
        """Of one device."""
        with self._lock:
            body = written([], timestamp=now_ms(), seq=self._next())
            self._publish("DDEATH", device, body)

    def raw(self, kind: str, device: str, body: bytes) -> None:
        """Anything."""
        self._publish(kind, device, body)

    def _next(self) -> int:
        number = self._seq % 256
        self._seq += 1
        return number

    def _death(self) -> bytes:
        return written([{"name": "bdSeq", "datatype": INT64, "long_value": self._bd_seq}])

    def _topic(self, kind: str, device: str = "") -> str:
        return f"spBv1.0/{GROUP}/{kind}/{NODE}" + (f"/{device}" if device else "")

    def _publish(self, kind: str, device: str, body: bytes) -> None:
        self._client.publish(self._topic(kind, device), body, qos=0)

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        asked = read(message.payload).metrics
        if any(each.name == "Node Control/Rebirth" and each.boolean_value for each in asked):
            self.birth()


class Stand:
    """Temperature of the node, speed of its drive."""

    tags: ClassVar = [f"{GROUP}/{NODE}:Oven/Temperature", f"{GROUP}/{NODE}/drive:Speed"]

    def __init__(self, folder: Path) -> None:
        self.broker = Mosquitto(folder / "broker")
        self._node: EdgeNode | None = None
        self._lives = 0

    @property
    def node(self) -> EdgeNode:
        """The edge node that lives now."""
        assert self._node is not None
        return self._node

    def options(self, **changes: Any) -> LiveOptions:
        """That read it."""
        known: dict[str, Any] = {
            "name": "line",
            "port": self.broker.port,
            "silence_seconds": 1.0,
            "connect_seconds": 2.0,
            "listen_seconds": 0.5,
            "rebirth_seconds": 1.0,
        }
        return SparkplugOptions(**known | changes)

    def start(self) -> None:
        """Broker, then node."""
        self.broker.start()
        self.power_on()

    def stop(self) -> None:
        """Node and broker at once, as in a power cut."""
        self.power_off()
        self.broker.stop()

    def power_on(self, **changes: Any) -> None:
        """The node comes to life, with no value yet."""
        node = EdgeNode(self.broker.port, bd_seq=self._lives % 256, **changes)
        self._lives += 1
        for tag in self.tags:
            device, name = _place(tag)
            node.set(device, name, DOUBLE, None, is_null=True)
        self._node = node
        node.start()

    def power_off(self, *, politely: bool = False) -> None:
        """The node dies."""
        if self._node is not None:
            self._node.stop(politely=politely)
            self._node = None

    def say(self, tag: str, value: float) -> None:
        """A new good value."""
        self.node.say(*_place(tag), DOUBLE, value)

    def say_bad(self, tag: str) -> None:
        """By the property that Sparkplug has for it."""
        self.node.say(*_place(tag), DOUBLE, 1.0, properties={"Quality": (INT32, "int_value", 0)})

    def say_stale(self, tag: str) -> None:
        """By the property that Sparkplug has for it."""
        self.node.say(*_place(tag), DOUBLE, 1.0, properties={"Quality": (INT32, "int_value", 500)})

    def say_text(self, tag: str, text: str) -> None:
        """The type changes."""
        self.node.say(*_place(tag), STRING, text)

    def garbage(self) -> None:
        """Half a payload."""
        self.node.raw("NDATA", "", b"\x12\xff\x01half")


def _place(tag: str) -> tuple[str, str]:
    origin, _, name = tag.partition(":")
    return "/".join(origin.split("/")[2:]), name
