# SPDX-License-Identifier: Apache-2.0
"""Tags of an MQTT source: ``topic:path``.

The path is that of ``json_path``. Two things go beyond it: ``[*]`` is every element of a list, and
a match such as ``[?@.tag=='speed']`` is every element that it is true of, in their order; each of
them is a value of its own. ``$topic[2]`` is a part of the topic, counted from 0.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fedmill_agent.sources.broker import split_tag
from fedmill_agent.sources.json_path import JsonPath, Match, Nowhere, Step, parse
from fedmill_agent.sources.mqtt.options import check_filter
from fedmill_shared.errors import ConfigError

MOST_VALUES = 100_000
"""Values of one tag in one message."""
_TOPIC_PART = re.compile(r"\$topic\[(\d{1,3})\]")


@dataclass(frozen=True, slots=True)
class Every:
    """The step to all elements of a list."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the values of a tag stand.

    Attributes:
        topic: of its messages; ``+`` for any one part.
        steps: to the value in a message; None where the message is the value.
        part: of the topic that is the value; -1 for none.
    """

    tag: str
    topic: str
    steps: tuple[Step | Every, ...] | None = None
    part: int = -1

    def find(self, document: object) -> list[tuple[object, tuple[object, ...]]]:
        """Values, each with the objects around it, the innermost first.

        Raises:
            Nowhere: there is none, and why.
        """
        steps = self.steps or ()
        found: list[tuple[object, tuple[object, ...]]] = []
        for value, around in _walk(document, steps, ()):
            if len(found) < MOST_VALUES:
                found.append((value, around))
        if not found:
            plain = steps[: steps.index(Every())] if Every() in steps else steps
            JsonPath(self.tag, tuple(s for s in plain if not isinstance(s, Every))).find(document)
            raise Nowhere("a list there is empty or has no such elements")
        return found


def place_of(tag: str) -> Place:
    """What ``tag`` names.

    Raises:
        ConfigError: it can name nothing.
    """
    topic, path = split_tag(tag)
    try:
        check_filter(topic)
        if "#" in topic:
            raise ValueError(f"{topic!r} has a #: name one topic, with + for what changes in it")  # noqa: TRY301  told as those of check_filter
        if not path:
            return Place(tag, topic)
        part = _TOPIC_PART.fullmatch(path)
        if part:
            return Place(tag, topic, (), int(part[1]))
        steps: list[Step | Every] = []
        for index, piece in enumerate(path.split("[*]")):
            steps += [Every()] if index else []
            steps += parse(piece.removeprefix(".") if index else piece).steps
    except ValueError as error:
        raise ConfigError(f"tag {tag!r}: {error}") from error
    return Place(tag, topic, tuple(steps))


def _walk(
    value: object, steps: tuple[Step | Every, ...], around: tuple[object, ...]
) -> Iterator[tuple[object, tuple[object, ...]]]:
    if isinstance(value, dict) and steps:
        around = (value, *around)
    if not steps:
        yield value, around
        return
    for child in _children(value, steps[0]):
        yield from _walk(child, steps[1:], around)


def _children(value: object, step: Step | Every) -> Iterator[object]:
    if isinstance(step, str):
        if isinstance(value, dict) and step in value:
            yield value[step]
    elif isinstance(value, list):
        if isinstance(step, Every):
            yield from value
        elif isinstance(step, Match):
            for each in value:
                if isinstance(each, dict) and each.get(step.key) == step.value:
                    yield each
        elif -len(value) <= step < len(value):
            yield value[step]
