# SPDX-License-Identifier: Apache-2.0
"""Which metrics the edge nodes on a plant's broker have, by their birth certificates."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from fedmill_agent.sources.broker import connect
from fedmill_agent.sources.live import Found
from fedmill_agent.sources.sparkplug.datatypes import Mistyped, name_of
from fedmill_agent.sources.sparkplug.options import SparkplugOptions
from fedmill_agent.sources.sparkplug.payload import (
    BD_SEQ,
    Metric,
    Payload,
    decode,
    rebirth_request,
)
from fedmill_agent.sources.sparkplug.properties import Property
from fedmill_agent.sources.sparkplug.topics import (
    Address,
    NodeName,
    address_of,
    command_of,
    filters_of,
    tag_of,
)
from fedmill_agent.sources.sparkplug.wire import Malformed
from fedmill_shared.clock import Clock
from fedmill_shared.link.base import Message

MOST_TAGS = 50_000
MOST_NODES = 1_000
"""That are listed, and that are asked for their births."""
MOST_ORIGINS = 20_000
"""Nodes and devices that are listed."""
READ_SECONDS = 0.25
LONGEST_VALUE = 60
_UNITS = ("engUnit", "Engineering Unit", "Engineering Units", "Unit", "unit")
_COMMANDS = ("Node Control/", "Device Control/")


@dataclass(slots=True)
class Survey:
    """Owns what was heard.

    Attributes:
        unknown: nodes that said something, and whose birth is not known.
    """

    unknown: set[NodeName] = field(default_factory=set)
    _born: set[NodeName] = field(default_factory=set)
    _tags: dict[tuple[NodeName, str], list[Found]] = field(default_factory=dict)
    _count: int = 0

    def hear(self, message: Message) -> None:
        """Take in one message."""
        address = address_of(message.topic)
        if address is None or len(self._born) >= MOST_NODES:
            return
        try:
            payload = decode(message.payload)
        except Malformed:
            return
        if address.kind in ("NBIRTH", "DBIRTH"):
            self._birth(address, payload, kept=address.kept or message.retained)
        elif address.kind == "NDEATH" or message.retained:
            self.unknown.discard(address.node)
        elif not self._knows(address) and len(self.unknown) < MOST_NODES:
            self.unknown.add(address.node)

    def found(self) -> Iterator[Found]:
        """All metrics, in order."""
        for origin in sorted(self._tags):
            yield from self._tags[origin]

    def _knows(self, address: Address) -> bool:
        return address.node in self._born and (address.node, address.device) in self._tags

    def _birth(self, address: Address, payload: Payload, *, kept: bool) -> None:
        origin = (address.node, address.device)
        if origin not in self._tags and len(self._tags) >= MOST_ORIGINS:
            return
        if not address.device:
            self._born.add(address.node)
            self.unknown.discard(address.node)
        note = "kept by the broker" if kept else ""
        self._count -= len(self._tags.get(origin, ()))
        room = max(0, MOST_TAGS - self._count)
        known = [each for each in payload.metrics if each.name and each.name != BD_SEQ]
        self._tags[origin] = [replace(found_in(address, each), note=note) for each in known[:room]]
        self._count += len(self._tags[origin])


def discover(options: SparkplugOptions, clock: Clock) -> Iterator[Found]:
    """The metrics of all nodes that are heard in ``listen_seconds``, at most 50,000.

    Raises:
        SourceError: the broker cannot be reached, does not answer or refuses.
        ConfigError: a file cannot be used.
    """
    survey = Survey()
    asked: set[NodeName] = set()
    link = connect(options, [f for g in options.groups or ["+"] for f in filters_of((g, "+"))])
    try:
        deadline = clock.monotonic() + options.listen_seconds
        while clock.monotonic() < deadline:
            for message in link.read(READ_SECONDS):
                survey.hear(message)
            fresh = survey.unknown - asked if options.rebirth else ()
            for node in list(fresh)[: MOST_NODES - len(asked)]:
                asked.add(node)
                link.publish(command_of(node), rebirth_request(clock.now_ns() // 10**6))
    finally:
        link.close()
    yield from survey.found()


def found_in(address: Address, metric: Metric) -> Found:
    """What a birth says of one metric."""
    try:
        properties = metric.properties()
    except Malformed:
        properties = {}
    writable = metric.name.startswith(_COMMANDS) or properties.get("readOnly") is False
    return Found(
        tag_of(address.node, address.device, metric.name),
        name_of(metric.datatype),
        _shown(metric),
        _unit(properties),
        writable=writable,
    )


def _unit(properties: dict[str, Property]) -> str:
    told = (properties.get(name) for name in _UNITS)
    return next((unit for unit in told if isinstance(unit, str)), "")


def _shown(metric: Metric) -> str:
    if metric.null:
        return ""
    try:
        value = metric.value()
    except Mistyped:
        return ""
    if isinstance(value, np.ndarray):
        return f"{len(value)} values"
    if isinstance(value, bool):
        return "true" if value else "false"
    return (value if isinstance(value, str) else f"{value:g}")[:LONGEST_VALUE]
