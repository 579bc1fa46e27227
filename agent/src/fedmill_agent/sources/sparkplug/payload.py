# SPDX-License-Identifier: Apache-2.0
"""Sparkplug B payloads, read and written (Sparkplug 3.0, 6.4; schema sparkplug_b.proto, Eclipse).

Births, data and deaths of nodes and devices are made here too (6.4.19 to 6.4.27).

What a listener has no use for is skipped: data sets, templates, metadata, bodies, nested property
sets. Readers are bounded by the length of the payload and by a number of metrics.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from fedmill_agent.sources.sparkplug.datatypes import INT, DataType, Raw, Value, pack, unpack
from fedmill_agent.sources.sparkplug.properties import Property, put_properties, read_properties
from fedmill_agent.sources.sparkplug.values import put_value, read_value
from fedmill_agent.sources.sparkplug.wire import (
    BYTES,
    MASK32,
    VARINT,
    Malformed,
    fields,
    put_bytes,
    put_varint,
    text_of,
)

MOST_METRICS = 50_000
BD_SEQ: Final = "bdSeq"
REBIRTH: Final = "Node Control/Rebirth"


@dataclass(frozen=True, slots=True)
class Metric:
    """One value, with what is said of it.

    Attributes:
        name: empty where only the alias tells which it is.
        time_ms: when it was measured, ms since 1970; None where it does not say.
        datatype: one of ``DataType``; 0 where only the birth says it.
        null: that there is no value.
        field: which of the value's fields is set; 0 for none.
        raw: what stands there; ``value`` makes sense of it.
        property_set: as it was sent; ``properties`` reads it.
    """

    name: str = ""
    alias: int | None = None
    time_ms: int | None = None
    datatype: int = 0
    historical: bool = False
    transient: bool = False
    null: bool = False
    field: int = 0
    raw: Raw = None
    property_set: bytes = b""

    def value(self, datatype: int = 0) -> Value:
        """The value as one of ``datatype``, where it does not name its type itself.

        Raises:
            Mistyped: it is none of that type, or has none.
        """
        return unpack(self.datatype or datatype, self.field, self.raw)

    def properties(self) -> dict[str, Property]:
        """What else is said of it; nested sets are left out.

        Raises:
            Malformed: that cannot be read.
        """
        return read_properties(self.property_set) if self.property_set else {}


@dataclass(frozen=True, slots=True)
class Payload:
    """One message.

    Attributes:
        time_ms: when it was sent, ms since 1970; None where it does not say.
        seq: its number, 0 to 255; None for deaths of nodes and for commands.
    """

    metrics: Sequence[Metric] = ()
    time_ms: int | None = None
    seq: int | None = None


def metric(
    name: str,
    datatype: int,
    value: Value | bytes | None,
    *,
    time_ms: int | None = None,
    alias: int | None = None,
    properties: Mapping[str, Property] | None = None,
) -> Metric:
    """A metric to be sent; None is null.

    Raises:
        ValueError: ``value`` is none of ``datatype``.
    """
    said = put_properties(properties or {})
    known = Metric(name, alias, time_ms, int(datatype), property_set=said)
    if value is None:
        return replace(known, null=True)
    field, raw = pack(datatype, value)
    return replace(known, field=field, raw=raw)


def decode(data: bytes) -> Payload:
    """Read a payload.

    Raises:
        Malformed: it is none, or has more than 50,000 metrics.
    """
    metrics: list[Metric] = []
    time_ms: int | None = None
    seq: int | None = None
    for number, wire, value in fields(data):
        if number == 2 and wire == BYTES and isinstance(value, bytes):
            if len(metrics) >= MOST_METRICS:
                raise Malformed(f"more than {MOST_METRICS} metrics")
            metrics.append(_read_metric(value))
        elif number == 1 and wire == VARINT and isinstance(value, int):
            time_ms = value
        elif number == 3 and wire == VARINT and isinstance(value, int):
            seq = value
    return Payload(metrics, time_ms, seq)


def encode(payload: Payload) -> bytes:
    """Write a payload.

    Raises:
        ValueError: a number does not fit its field.
    """
    parts = [] if payload.time_ms is None else [put_varint(1, payload.time_ms)]
    parts += [put_bytes(2, _metric(each)) for each in payload.metrics]
    if payload.seq is not None:
        parts.append(put_varint(3, payload.seq))
    return b"".join(parts)


def node_birth(metrics: Iterable[Metric], *, time_ms: int, seq: int, bd_seq: int) -> bytes:
    """NBIRTH: all metrics of a node; what the specification wants beside them is added.

    Raises:
        ValueError: a metric lacks name, type or time, or two have one name or alias.
    """
    own = [
        metric(BD_SEQ, DataType.Int64, _counter(bd_seq), time_ms=time_ms),
        metric(REBIRTH, DataType.Boolean, value=False, time_ms=time_ms),
    ]
    others = [each for each in metrics if each.name not in (BD_SEQ, REBIRTH)]
    return device_birth([*own, *others], time_ms=time_ms, seq=seq)


def device_birth(metrics: Iterable[Metric], *, time_ms: int, seq: int) -> bytes:
    """DBIRTH: all metrics of a device, with their present values.

    Raises:
        ValueError: as for ``node_birth``.
    """
    born = [
        each if each.time_ms is not None else replace(each, time_ms=time_ms) for each in metrics
    ]
    for each in born:
        if not each.name or not each.datatype:
            raise ValueError(f"metric {each.name!r} is born without a name or a type")
    aliases = [each.alias for each in born if each.alias is not None]
    names = [each.name for each in born]
    if len(set(aliases)) < len(aliases) or len(set(names)) < len(names):
        raise ValueError("two metrics have one name or alias")
    return encode(Payload(born, time_ms, _counter(seq)))


def data(metrics: Iterable[Metric], *, time_ms: int, seq: int) -> bytes:
    """NDATA or DDATA: metrics that changed; those with an alias go without their name and type.

    Raises:
        ValueError: a metric has neither name nor alias.
    """
    sent = []
    for each in metrics:
        if not each.name and each.alias is None:
            raise ValueError("a metric has neither name nor alias")
        timed = _timed(each, time_ms)
        sent.append(timed if each.alias is None else replace(timed, name="", datatype=0))
    return encode(Payload(sent, time_ms, _counter(seq)))


def node_death(bd_seq: int) -> bytes:
    """NDEATH, the will of a node: it has the number of the birth that it ends."""
    return encode(Payload([metric(BD_SEQ, DataType.Int64, _counter(bd_seq))]))


def rebirth_request(time_ms: int) -> bytes:
    """NCMD that asks a node for its births."""
    wish = metric(REBIRTH, DataType.Boolean, value=True, time_ms=time_ms)
    return encode(Payload([wish], time_ms))


def _timed(told: Metric, time_ms: int) -> Metric:
    return replace(told, time_ms=time_ms) if told.time_ms is None else told


def _counter(number: int) -> int:
    if not 0 <= number <= 255:
        raise ValueError(f"{number} is not from 0 to 255")
    return number


def _read_metric(data: bytes) -> Metric:
    known: dict[int, int | bytes] = {}
    field: int = 0
    raw: Raw = None
    for number, wire, value in fields(data):
        if INT <= number <= 19:
            found = read_value(number, wire, value)
            if found is not None:
                field, raw = number, found
        elif number <= 9 and wire == (BYTES if number in (1, 8, 9) else VARINT):
            known[number] = value
    name, properties = known.get(1, b""), known.get(9, b"")
    return Metric(
        text_of(name) if isinstance(name, bytes) else "",
        _whole(known.get(2)),
        _whole(known.get(3)),
        (_whole(known.get(4)) or 0) & MASK32,
        bool(known.get(5, 0)),
        bool(known.get(6, 0)),
        bool(known.get(7, 0)),
        field,
        raw,
        properties if isinstance(properties, bytes) else b"",
    )


def _whole(value: int | bytes | None) -> int | None:
    return value if isinstance(value, int) else None


def _metric(told: Metric) -> bytes:
    parts = [put_bytes(1, told.name.encode())] if told.name else []
    for number, value in ((2, told.alias), (3, told.time_ms), (4, told.datatype or None)):
        if value is not None:
            parts.append(put_varint(number, value))
    for number, flag in ((5, told.historical), (6, told.transient), (7, told.null)):
        if flag:
            parts.append(put_varint(number, 1))
    if told.property_set:
        parts.append(put_bytes(9, told.property_set))
    if told.field:
        parts.append(put_value(told.field, told.raw))
    return b"".join(parts)
