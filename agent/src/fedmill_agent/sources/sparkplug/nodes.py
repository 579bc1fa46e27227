# SPDX-License-Identifier: Apache-2.0
"""What is known of one edge node: whether it lives, and which metric an alias means."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from fedmill_agent.sources.sparkplug.datatypes import Mistyped
from fedmill_agent.sources.sparkplug.payload import BD_SEQ, Metric, Payload
from fedmill_agent.sources.sparkplug.topics import Place

MOST_ALIASES = 50_000
"""Of metrics that are not wanted; of a node with more, what no birth has named is one of them."""
_NUMBERS = 256


@dataclass(frozen=True, slots=True)
class Born:
    """A wanted metric, as its birth certificate describes it.

    Attributes:
        rate_hz: of an array, where a property says it; else 0.
    """

    place: Place
    datatype: int
    rate_hz: float = 0.0


@dataclass(slots=True)
class Node:
    """Owns the state of one edge node, as far as its messages tell.

    Attributes:
        places: its wanted metrics.
        alive: whether it was born and has not died.
        devices: those that were born, of the ones that have a wanted metric.
    """

    places: Sequence[Place]
    alive: bool = False
    devices: set[str] = field(default_factory=set)
    _bd_seq: int | None = None
    _next: int | None = None
    _kept: bool = False
    _aliases: dict[int, Born] = field(default_factory=dict)
    _others: set[int] = field(default_factory=set)
    _names: dict[tuple[str, str], Born] = field(default_factory=dict)
    _wanted: dict[tuple[str, str], Place] = field(default_factory=dict)
    _concerned: frozenset[str] = frozenset()

    def concerns(self, device: str) -> bool:
        """Whether a wanted metric is one of ``device``; of the node itself (empty) always."""
        return not device or device in self._concerned

    def admit(self, device: str) -> None:
        """It was born; one that does not matter is forgotten at once, however many there are."""
        if device in self._concerned:
            self.devices.add(device)

    def __post_init__(self) -> None:
        self._wanted = {(place.device, place.metric): place for place in self.places}
        self._concerned = frozenset(place.device for place in self.places)

    def begin(self, payload: Payload, *, kept: bool) -> bool:
        """It is born; False where that was known better already."""
        if kept and self.alive and not self._kept:
            return False
        if not kept:
            self._forget()
        self.alive, self._kept = True, kept
        self._bd_seq = None if kept else bd_seq_of(payload)
        self._next = None if kept or payload.seq is None else (payload.seq + 1) % _NUMBERS
        return True

    def define(self, device: str, metric: Metric, rate_hz: float) -> Born | None:
        """Remember what a birth says of a metric; what is not wanted only by its alias."""
        place = self._wanted.get((device, metric.name))
        born = None if place is None else Born(place, metric.datatype, rate_hz)
        if born is not None:
            self._names[device, metric.name] = born
        if metric.alias is not None:
            if born is not None:
                self._aliases[metric.alias] = born
                self._others.discard(metric.alias)
            else:
                self._aliases.pop(metric.alias, None)
                if len(self._others) < MOST_ALIASES:
                    self._others.add(metric.alias)
        return born

    def find(self, device: str, metric: Metric) -> tuple[bool, Born | None]:
        """Whether a metric in data is known, and what it is if it is wanted."""
        if metric.alias is not None:
            if metric.alias in self._aliases:
                return True, self._aliases[metric.alias]
            if metric.alias in self._others or len(self._others) >= MOST_ALIASES:
                return True, None
        born = self._names.get((device, metric.name))
        unborn = born is None and (device, metric.name) in self._wanted
        return bool(metric.name) and not unborn, born

    def follows(self, payload: Payload) -> bool:
        """Whether the message is the one after the last; it is the last from now on."""
        if payload.seq is None:
            return True
        expected, self._next = self._next, (payload.seq + 1) % _NUMBERS
        return expected is None or payload.seq == expected

    def ends(self, payload: Payload) -> bool:
        """Whether a death means this life, and not one before; if so, it is dead."""
        number = bd_seq_of(payload)
        if None not in (number, self._bd_seq) and number != self._bd_seq:
            return False
        self._forget()
        self.alive, self._kept, self._bd_seq, self._next = False, False, None, None
        return True

    def wanted(self, device: str | None = None) -> Iterator[Place]:
        """Its wanted metrics, or those of one device (empty: of the node itself)."""
        return (place for place in self.places if device is None or place.device == device)

    def missing(self, device: str) -> Iterator[Place]:
        """Wanted metrics that a device was born without."""
        return (p for p in self.wanted(device) if (device, p.metric) not in self._names)

    def _forget(self) -> None:
        self.devices.clear()
        self._aliases.clear()
        self._others.clear()
        self._names.clear()


def bd_seq_of(payload: Payload) -> int | None:
    """The number that a birth and its death have in common; None where there is none."""
    for metric in payload.metrics:
        if metric.name == BD_SEQ:
            try:
                value = metric.value()
            except Mistyped:
                return None
            return value if isinstance(value, int) else None
    return None
