# SPDX-License-Identifier: Apache-2.0
"""One connection with the plant's broker, as a Sparkplug host application."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from fedmill_agent.sources.broker import connect
from fedmill_agent.sources.live import Delivered
from fedmill_agent.sources.sparkplug.mirror import Mirror
from fedmill_agent.sources.sparkplug.options import SparkplugOptions
from fedmill_agent.sources.sparkplug.payload import rebirth_request
from fedmill_agent.sources.sparkplug.topics import (
    NodeName,
    command_of,
    filters_of,
    place_of,
    state_of,
)
from fedmill_shared.clock import Clock
from fedmill_shared.link.base import Message

if TYPE_CHECKING:
    from fedmill_shared.link.plant import PlantLink

LONGEST_REBIRTH_SECONDS = 600.0


@dataclass(slots=True)
class Asked:
    """When a node was last asked for its births, and how long it then is left alone."""

    at: float
    wait: float


class SparkplugSession:
    """Owns the connection; used by one thread, which runs it by reading.

    Attributes:
        requests: births that were asked for.
    """

    def __init__(
        self, link: "PlantLink", mirror: Mirror, options: SparkplugOptions, clock: Clock
    ) -> None:
        """``link`` is open."""
        self._link = link
        self._mirror = mirror
        self._options = options
        self._clock = clock
        self.requests = 0
        self._asked: dict[NodeName, Asked] = {}
        self._state: Message | None = None

    @property
    def counts(self) -> Counter[str]:
        """What was left out; see ``Mirror`` and ``PlantLink``."""
        return self._mirror.counts

    @property
    def problems(self) -> Mapping[str, str]:
        """Tags that do not come, and why."""
        return self._mirror.problems

    def read(self, timeout: float) -> Sequence[Delivered]:
        """See ``Session``."""
        self._ask()
        readings: list[Delivered] = []
        for message in self._link.read(timeout):
            if self._state is not None and message.topic == self._state.topic:
                self._insist(message)
            else:
                readings += self._mirror.take(message, self._clock.now_ns())
        return readings

    def close(self) -> None:
        """See ``Session``."""
        farewell = None if self._state is None else state(self._options, self._clock, online=False)
        self._link.close(farewell)

    def appear(self, message: Message) -> None:
        """Tell that the primary host is there (Sparkplug 3.0, 6.4.29)."""
        self._state = message
        self._link.publish(message.topic, message.payload, qos=1, retain=True)

    def _insist(self, message: Message) -> None:
        """Somebody says that we are not there: an earlier connection's will."""
        if self._state is not None and b"false" in message.payload:
            self._link.publish(self._state.topic, self._state.payload, qos=1, retain=True)

    def _ask(self) -> None:
        """Ask nodes for their births, where that is allowed and due."""
        if not self._options.rebirth or not self._mirror.wishes:
            return
        now, usual = self._clock.monotonic(), self._options.rebirth_seconds
        for node in self._mirror.wishes:
            asked = self._asked.setdefault(node, Asked(float("-inf"), usual))
            quiet = now - asked.at
            if quiet >= asked.wait:
                longer = min(2 * asked.wait, LONGEST_REBIRTH_SECONDS)
                asked.at, asked.wait = now, usual if quiet >= 4 * asked.wait else longer
                self.requests += 1
                wish = rebirth_request(self._clock.now_ns() // 10**6)
                self._link.publish(command_of(node), wish)


def open_session(options: SparkplugOptions, tags: Sequence[str], clock: Clock) -> SparkplugSession:
    """Connect, and listen to the nodes that ``tags`` are of.

    Raises:
        SourceError: the broker cannot be reached, does not answer or refuses.
        ConfigError: a tag can name nothing, or a file cannot be used.
    """
    places = [place_of(tag) for tag in tags]
    nodes = sorted({place.node for place in places})
    filters = [each for node in nodes for each in filters_of(node)]
    will = None
    if options.host_id:
        will = state(options, clock, online=False)
        filters.append(state_of(options.host_id))
    link = connect(options, filters, will=will)
    mirror = Mirror(options, places, link.counts)
    for place in places:
        heard = filters_of(place.node)[:6]
        if set(heard) & set(link.refused):
            told = f"the broker does not let us listen to {'/'.join(place.node)}"
            mirror.problems = {**mirror.problems, place.tag: told}
    session = SparkplugSession(link, mirror, options, clock)
    if will is not None:
        # the same time as in the will, by which others know that the two belong together
        online = will.payload.replace(b"false", b"true")
        try:
            session.appear(Message(will.topic, online, retained=True))
        except BaseException:
            session.close()
            raise
    return session


def state(options: SparkplugOptions, clock: Clock, *, online: bool) -> Message:
    """What a primary host says of itself."""
    told = {"online": online, "timestamp": clock.now_ns() // 10**6}
    return Message(state_of(options.host_id), msgspec.json.encode(told), retained=True)
