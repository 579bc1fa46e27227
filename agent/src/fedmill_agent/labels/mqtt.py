# SPDX-License-Identifier: Apache-2.0
"""Labels from messages on the plant's own broker.

The broker keeps the session while the agent is away, so that what is published with QoS 1 comes
later, as far as the broker plays along.
"""

from typing import TYPE_CHECKING

from fedmill_agent.labels.decode import Decoded, Shape, from_json
from fedmill_agent.labels.options import LabelOptions, MqttLabels
from fedmill_agent.sources.broker import connect
from fedmill_shared.clock import Clock
from fedmill_shared.errors import ConfigError, DataError

if TYPE_CHECKING:
    from fedmill_shared.link.plant import PlantLink


class MqttInput:
    """Owns the connection."""

    def __init__(self, link: "PlantLink", shape: Shape) -> None:
        """``link`` is open."""
        self._link = link
        self._shape = shape
        self._dropped = 0

    def read(self, timeout: float) -> Decoded:
        """See ``LabelInput``.

        Raises:
            SourceError: the connection is lost.
        """
        found = Decoded()
        for message in self._link.read(timeout):
            if message.payload:  # an empty one takes back what was retained
                found.join(from_json(message.payload, f"topic {message.topic}", self._shape))
        dropped = self._link.counts.total()
        if dropped > self._dropped:
            told = f"{dropped - self._dropped} messages were too large, or no MQTT"
            found.refuse(DataError(told, remedy="send smaller ones"))
            self._dropped = dropped
        return found

    def close(self) -> None:
        """See ``LabelInput``."""
        self._link.close()


def open_labels(options: LabelOptions, shape: Shape, _clock: Clock) -> MqttInput:
    """Labels on the topics of a broker.

    Raises:
        SourceError: it cannot be reached, refuses us or does not answer.
        ConfigError: a password, certificate or key file cannot be used.
    """
    if not isinstance(options, MqttLabels):
        raise ConfigError(f"labels {options.name!r} are no topics")
    keep = options.keep_seconds
    return MqttInput(connect(options.broker(), options.topics, keep_seconds=keep), shape)
