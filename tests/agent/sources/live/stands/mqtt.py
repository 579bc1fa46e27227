# SPDX-License-Identifier: Apache-2.0
"""A machine that publishes its values in JSON, on a mosquitto of its own."""

import json
import time
from pathlib import Path
from typing import Any, ClassVar

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from tests.agent.sources.live.stands.mosquitto import Mosquitto

from fedmill_agent.sources.live import LiveOptions
from fedmill_agent.sources.mqtt.options import MqttOptions

PATIENCE = 20.0


class Publisher:
    """A client that says things; its thread ends with ``stop``."""

    def __init__(self, port: int) -> None:
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def publish(self, topic: str, payload: bytes | str, *, retain: bool = False) -> None:
        """Returns when the broker has it."""
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        info.wait_for_publish(PATIENCE)
        assert info.is_published()

    def stop(self) -> None:
        """Sign out."""
        self._client.disconnect()
        self._client.loop_stop()


class Stand:
    """Two signals of a line; each message has a value, a time and a quality."""

    tags: ClassVar = ["line3/temperature:value", "line3/speed:motor.speed"]

    def __init__(self, folder: Path) -> None:
        self.broker = Mosquitto(folder / "broker")
        self._publisher: Publisher | None = None

    @property
    def publisher(self) -> Publisher:
        """The machine's connection."""
        assert self._publisher is not None
        return self._publisher

    def options(self, **changes: Any) -> LiveOptions:
        """That read it."""
        known: dict[str, Any] = {
            "name": "line",
            "port": self.broker.port,
            "time_path": "time",
            "quality_path": "quality",
            "silence_seconds": 1.0,
            "connect_seconds": 2.0,
            "listen_seconds": 0.5,
        }
        return MqttOptions(**known | changes)

    def start(self) -> None:
        """The broker, and then the machine."""
        self.broker.start()
        self._publisher = Publisher(self.broker.port)

    def stop(self) -> None:
        """Power off."""
        if self._publisher is not None:
            self._publisher.stop()
            self._publisher = None
        self.broker.stop()

    def say(self, tag: str, value: float) -> None:
        """A new good value; the broker keeps it for who comes later."""
        self._say(tag, value)

    def say_bad(self, tag: str) -> None:
        """A value that the machine itself calls bad."""
        self._say(tag, 1.0, quality="Bad, sensor failure")

    def say_stale(self, tag: str) -> None:
        """A value that the machine itself calls uncertain."""
        self._say(tag, 1.0, quality="Uncertain")

    def say_text(self, tag: str, text: str) -> None:
        """The type changes."""
        self._say(tag, text)

    def garbage(self) -> None:
        """Half a message."""
        for tag in self.tags:
            self.publisher.publish(tag.partition(":")[0], b'{"value": 1')

    def _say(self, tag: str, value: object, **more: object) -> None:
        topic, _, path = tag.partition(":")
        for name in reversed(path.split(".")):
            value = {name: value}
        assert isinstance(value, dict)
        message = {**value, "time": time.time_ns(), **more}
        self.publisher.publish(topic, json.dumps(message), retain=True)
