# SPDX-License-Identifier: Apache-2.0
"""Answers to Read, CreateSubscription and Publish (OPC 10000-4, 5.11.2, 5.14.2 and 5.14.5)."""

import struct
from dataclasses import dataclass

from fedmill_agent.sources.opcua.wire import (
    MOST_ITEMS,
    DataValue,
    Reader,
    Structure,
    WireError,
    data_value,
    diagnostics,
    localized,
    node_id,
    structure,
    time_ns,
)

READ, SUBSCRIBE, PUBLISH = "i=634", "i=790", "i=829"
_CHANGES, _STATUS = 811, 820
_UNITS, _RANGE = 889, 886
LONGEST_SECONDS = 10 * 86_400.0
_U1, _U4, _I4 = (struct.Struct(f"<{each}") for each in "BIi")
_F8 = struct.Struct("<d")


@dataclass(frozen=True, slots=True)
class Subscribed:
    """What a server made of a subscription: its number, and how long (s) it says nothing at most.

    After that it sends an empty message.
    """

    number: int
    quiet_seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Publication:
    """What a server tells of its own accord.

    Attributes:
        subscription: number of the subscription.
        sequence: number of the message; of one without values, that of the next with some.
        more: whether more is waiting.
        values: pairs of the number under which a node was subscribed to, and its value.
        ended: StatusCode with which the subscription ended; None while it lives.
    """

    subscription: int
    sequence: int
    more: bool
    values: list[tuple[int, DataValue]]
    ended: int | None = None


def read_response(data: bytes, count: int) -> list[DataValue]:
    """The ``count`` values of an answer to Read.

    Raises:
        WireError: it is no such answer.
    """
    reader = Reader(data)
    _header(reader, READ)
    found = reader.count(MOST_ITEMS)
    if found != count:
        raise WireError(f"{found} values for {count} nodes")
    return [data_value(reader) for _ in range(count)]


def subscription_response(data: bytes) -> Subscribed:
    """An answer to CreateSubscription.

    Raises:
        WireError: it is no such answer.
    """
    reader = Reader(data)
    _header(reader, SUBSCRIBE)
    number = reader.integer(_U4)
    interval_seconds = reader.number(_F8) / 1000
    reader.integer(_U4)
    quiet = interval_seconds * reader.integer(_U4)
    if not 0.0 <= quiet <= LONGEST_SECONDS:
        raise WireError(f"a subscription that is quiet for {quiet} s")
    return Subscribed(number, quiet)


def publish_response(data: bytes) -> Publication:
    """An answer to Publish.

    Raises:
        WireError: it is no such answer.
    """
    reader = Reader(data)
    _header(reader, PUBLISH)
    subscription = reader.integer(_U4)
    reader.raw(4 * reader.count(MOST_ITEMS))
    more = bool(reader.integer(_U1))
    sequence = reader.integer(_U4)
    time_ns(reader)
    values: list[tuple[int, DataValue]] = []
    ended = None
    for _ in range(reader.count(MOST_ITEMS)):
        part = structure(reader)
        inner = Reader(part.body)
        if part.type == _CHANGES:
            count = inner.count(MOST_ITEMS - len(values))
            values += [(inner.integer(_U4), data_value(inner)) for _ in range(count)]
        elif part.type == _STATUS:
            ended = inner.integer(_U4)
    return Publication(subscription, sequence, more, values, ended)


def unit_of(data: DataValue) -> str:
    """The sign of a unit (EUInformation, OPC 10000-8, 5.6.3); empty if this is none."""
    found = _body(data, _UNITS)
    if found is None:
        return ""
    found.text()
    found.integer(_I4)
    return localized(found)


def range_of(data: DataValue) -> tuple[float, float] | None:
    """The ends of a Range (OPC 10000-8, 5.6.2); None if this is none."""
    found = _body(data, _RANGE)
    if found is None:
        return None
    return found.number(_F8), found.number(_F8)


def _body(data: DataValue, kind: int) -> Reader | None:
    content = data.content
    if data.status >> 30 or not isinstance(content, Structure) or content.type != kind:
        return None
    return Reader(content.body)


def _header(reader: Reader, kind: str) -> None:
    """Step over a ResponseHeader; that the service was good, the library has checked."""
    found = node_id(reader)
    if found != kind:
        raise WireError(f"an answer of the type {found} instead of {kind}")
    reader.raw(16)
    diagnostics(reader)
    for _ in range(reader.count(MOST_ITEMS)):
        reader.text()
    structure(reader)
