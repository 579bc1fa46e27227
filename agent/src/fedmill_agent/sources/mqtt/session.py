# SPDX-License-Identifier: Apache-2.0
"""One connection with the plant's broker, and the readings that come over it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fedmill_agent.sources.broker import connect
from fedmill_agent.sources.live import Delivered
from fedmill_agent.sources.mqtt.messages import Messages
from fedmill_agent.sources.mqtt.options import MqttOptions
from fedmill_agent.sources.mqtt.tags import Place, place_of
from fedmill_shared.clock import Clock
from fedmill_shared.errors import ConfigError
from fedmill_shared.link.base import topic_matches

if TYPE_CHECKING:
    from fedmill_shared.link.plant import PlantLink


class MqttSession:
    """Owns the connection; used by one thread, which runs it by reading."""

    def __init__(self, link: "PlantLink", messages: Messages, clock: Clock) -> None:
        """``link`` is open."""
        self._link = link
        self._messages = messages
        self._clock = clock

    @property
    def counts(self) -> Counter[str]:
        """What was left out; see ``Messages`` and ``PlantLink``."""
        return self._messages.counts

    @property
    def problems(self) -> Mapping[str, str]:
        """Tags that do not come, and why."""
        return self._messages.problems

    def read(self, timeout: float) -> Sequence[Delivered]:
        """See ``Session``."""
        readings: list[Delivered] = []
        for message in self._link.read(timeout):
            readings += self._messages.take(message, self._clock.now_ns())
        return readings

    def close(self) -> None:
        """See ``Session``."""
        self._link.close()


def open_session(options: MqttOptions, tags: Sequence[str], clock: Clock) -> MqttSession:
    """Connect and subscribe.

    Raises:
        SourceError: the broker cannot be reached, does not answer or refuses.
        ConfigError: a tag can name nothing, or a file cannot be used.
    """
    places = [place_of(tag) for tag in tags]
    for place in places:
        _check_heard(options, place)
    filters = options.topics or sorted({place.topic for place in places})
    link = connect(options, filters, qos=options.qos)
    messages = Messages(options, places, link.counts)
    for place in places:
        if any(topic_matches(refused, place.topic) for refused in link.refused):
            refusal = {place.tag: f"the broker does not let us listen to {place.topic}"}
            messages.problems = {**messages.problems, **refusal}
    return MqttSession(link, messages, clock)


def _check_heard(options: MqttOptions, place: Place) -> None:
    if options.topics and not any(topic_matches(each, place.topic) for each in options.topics):
        raise ConfigError(
            f"source {options.name!r}: no filter in `topics` lets {place.topic!r} through",
            remedy="add one, or leave `topics` out: then the topics of the tags are listened to",
        )
