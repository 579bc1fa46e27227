# SPDX-License-Identifier: Apache-2.0
"""What is said on the plant's broker while somebody listens."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from fedmill_agent.sources.broker import connect, join_tag
from fedmill_agent.sources.json_path import (
    DEEPEST,
    Broken,
    JsonPath,
    Nowhere,
    decode,
    leaves,
    number_in,
    parse,
)
from fedmill_agent.sources.live import Found
from fedmill_agent.sources.mqtt.options import MqttOptions
from fedmill_shared.clock import Clock
from fedmill_shared.link.base import Message

MOST_TAGS = 10_000
MOST_VALUES = 500
"""Of one message."""
LONGEST_VALUE = 60
READ_SECONDS = 0.25
_UNITS = ("unit", "units", "uom", "engUnit")


@dataclass(frozen=True, slots=True)
class _Samples:
    """A list of numbers, which is one value and not many."""

    count: int


def discover(options: MqttOptions, clock: Clock) -> Iterator[Found]:
    """The values in the messages of ``listen_seconds``, at most 10,000, by topic and path.

    Raises:
        SourceError: the broker cannot be reached, does not answer or refuses.
        ConfigError: a file cannot be used.
    """
    found: dict[str, Found] = {}
    heard: dict[str, int] = {}
    link = connect(options, options.topics or ["#"], qos=0)
    try:
        deadline = clock.monotonic() + options.listen_seconds
        while clock.monotonic() < deadline and len(found) < MOST_TAGS:
            for message in link.read(READ_SECONDS):
                for each in values_in(message, options.max_message_bytes):
                    heard[each.tag] = heard.get(each.tag, 0) + 1
                    found[each.tag] = each
    finally:
        link.close()
    for tag in sorted(found)[:MOST_TAGS]:
        often = f"{heard[tag]} in {options.listen_seconds:g} s"
        yield replace(found[tag], note=", ".join(filter(None, (often, found[tag].note))))


def values_in(message: Message, most_bytes: int) -> Iterator[Found]:
    """The values in one message."""
    note = "kept by the broker" if message.retained else ""
    try:
        document = decode(message.payload, most_bytes)
    except Broken:
        yield _bare(message, note)
        return
    for path, value in leaves(_folded(document), MOST_VALUES):
        tag = join_tag(message.topic, "" if path == "$" else path)
        yield Found(tag, _type(value), _shown(value), _unit(document, path), note=note)


def _bare(message: Message, note: str) -> Found:
    tag = join_tag(message.topic, "")
    try:
        text = message.payload.decode()
    except UnicodeDecodeError:
        return Found(tag, f"{len(message.payload)} bytes", note=note)
    kind = "text" if number_in(text)[1] else "number"
    return Found(tag, kind, text[:LONGEST_VALUE], note=note)


def _folded(value: object, depth: int = 0) -> object:
    """``value`` with its lists of numbers made one."""
    if depth >= DEEPEST:
        return value
    if isinstance(value, dict):
        return {name: _folded(child, depth + 1) for name, child in value.items()}
    if isinstance(value, list):
        if value and all(isinstance(each, int | float) for each in value):
            return _Samples(len(value))
        return [_folded(child, depth + 1) for child in value]
    return value


def _type(value: object) -> str:
    if isinstance(value, _Samples):
        return f"list of {value.count} numbers"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "truth"
    return "text" if isinstance(value, str) else "number"


def _shown(value: object) -> str:
    if value is None or isinstance(value, _Samples):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return (value if isinstance(value, str) else f"{value}")[:LONGEST_VALUE]


def _unit(document: object, path: str) -> str:
    """The unit that stands beside a value."""
    steps = parse(path).steps
    try:
        around = JsonPath(path, steps[:-1]).find(document)
    except Nowhere:
        return ""
    if not isinstance(around, dict) or not steps or steps[-1] in _UNITS:
        return ""
    units = (around.get(name) for name in _UNITS)
    return next((unit for unit in units if isinstance(unit, str)), "")
