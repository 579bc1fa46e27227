# SPDX-License-Identifier: Apache-2.0
"""From messages to readings; knows nothing of connections."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.sources.json_path import Broken, JsonPath, Nowhere, decode, number, parse
from fedmill_agent.sources.live import BAD, LONGEST_TEXT, STALE, Readings
from fedmill_agent.sources.mqtt.memory import Memory
from fedmill_agent.sources.mqtt.moments import moment
from fedmill_agent.sources.mqtt.options import MqttOptions
from fedmill_agent.sources.mqtt.tags import Place
from fedmill_agent.sources.pieces import Pieces
from fedmill_agent.sources.quality import quality_of
from fedmill_agent.sources.waveform import MOST_SAMPLES, plausible
from fedmill_shared.link.base import Message, topic_matches

MOST_TOPICS = 10_000
"""Topics whose tags are remembered."""
LONGEST_TOPIC = 1_000
"""Characters of one of them."""


@dataclass(frozen=True, slots=True)
class _Around:
    """What a message says beside a value.

    Attributes:
        told: its time, or the times of a list, as they stand there.
        time_ns: None where there is none.
        quality: 0, 192 or 500.
        known: whether that was understood.
        rate_hz: 0 where there is none.
    """

    told: object
    time_ns: int | None
    quality: int
    known: bool
    rate_hz: float


class Messages:
    """Owns what is known of the tags.

    Attributes:
        counts: ``garbage``: no JSON; ``missing``: no such value in a message; ``type``: no number;
            ``time``: no time where there should be one; ``quality``: a word that nobody knows;
            ``duplicate``: came again with the same time; ``mixed``: two topics for one tag;
            ``retained``: from before, and ignored.
        problems: tags that do not come, and why.
    """

    def __init__(
        self, options: MqttOptions, places: Sequence[Place], counts: Counter[str] | None = None
    ) -> None:
        """Nothing has come yet, and that is what ``problems`` says; counts are added to."""
        self.counts: Counter[str] = Counter() if counts is None else counts
        self.problems: Mapping[str, str] = {
            place.tag: f"nothing has come on {place.topic} yet" for place in places
        }
        self._options = options
        self._places = places
        self._rates = options.tag_rates
        self._time = parse(options.time_path) if options.time_path else None
        self._quality = parse(options.quality_path) if options.quality_path else None
        self._rate = parse(options.rate_path) if options.rate_path else None
        self._by_topic: dict[str, list[Place]] = {}
        self._memories = {place.tag: Memory() for place in places}

    def take(self, message: Message, arrived_ns: int) -> list[Readings]:
        """The readings in ``message``, which came at ``arrived_ns``."""
        places = self._of(message.topic)
        if not places:
            return []
        document: object = None
        broken = ""
        try:
            document = decode(message.payload, self._options.max_message_bytes)
        except Broken as error:
            broken = str(error)
        pieces = Pieces(arrived_ns)
        garbage = False
        for place in places:
            if self._mixed(place, message.topic):
                continue
            try:
                found = _values(place, message, document, broken)
            except Nowhere as error:
                self._trouble(place.tag, f"{message.topic}: {error}")
                self.counts["missing"] += 1
            except Broken as error:
                self._trouble(place.tag, f"{message.topic}: {error}")
                garbage = True
            else:
                self._put(pieces, place.tag, found, message, arrived_ns)
        self.counts["garbage"] += garbage
        return pieces.readings()

    def _of(self, topic: str) -> list[Place]:
        known = self._by_topic.get(topic)
        if known is None:
            if len(self._by_topic) >= MOST_TOPICS:
                self._by_topic.clear()
            known = [place for place in self._places if topic_matches(place.topic, topic)]
            if len(topic) <= LONGEST_TOPIC:
                self._by_topic[topic] = known
        return known

    def _mixed(self, place: Place, topic: str) -> bool:
        memory = self._memories[place.tag]
        before = memory.topic
        memory.follow(topic)
        if memory.mixed:
            self.counts["mixed"] += 1
            told = f"{before} and {topic} take turns"
            self._trouble(place.tag, f"{told}: name one of them, or make two sources")
        return memory.mixed

    def _put(
        self,
        pieces: Pieces,
        tag: str,
        found: Sequence[tuple[object, tuple[object, ...]]],
        message: Message,
        arrived_ns: int,
    ) -> None:
        """The values of one tag."""
        for value, around in found:
            beside = self._beside(tag, around)
            if message.retained and beside.time_ns is None and self._options.retained != "use":
                if self._options.retained == "ignore":
                    self.counts["retained"] += 1
                    continue
                beside = replace(beside, quality=STALE if beside.quality else BAD)
            if isinstance(value, list):
                block = self._block(tag, value, beside, arrived_ns)
                if block is not None:
                    pieces.add_block(block)
                continue
            numeric, text = self._number(tag, value, beside)
            time_ns = arrived_ns if beside.time_ns is None else beside.time_ns
            again = f"{beside.quality} {value!r}"
            if beside.time_ns is None or not self._again(tag, time_ns, again):
                pieces.add(tag, time_ns, numeric, beside.quality, text)

    def _number(self, tag: str, value: object, beside: _Around) -> tuple[float, str]:
        numeric, text = number(value)
        named = isinstance(value, str) and tag == self._options.run_tag
        if text and not named:
            self.counts["type"] += 1
            self._trouble(tag, f"{text[:LONGEST_TEXT]!r} is no number")
        elif beside.known:
            self._well(tag)
        return numeric, text if isinstance(value, str) else ""

    def _block(
        self, tag: str, value: list[object], beside: _Around, arrived_ns: int
    ) -> Readings | None:
        values = _numbers(value)
        times = self._block_times(tag, value, beside, arrived_ns)
        if values is None or times is None:
            self.counts["type"] += 1
            if values is None:
                self._trouble(tag, "a list came that is not all numbers")
            return None
        if not len(values):
            return None
        if beside.told is not None and self._again(tag, int(times[-1]), values.tobytes()):
            return None
        if beside.known:
            self._well(tag)
        quality = np.where(np.isfinite(values), beside.quality, BAD).astype(np.uint16)
        return Readings(tag, times, values, quality, arrived_ns)

    def _block_times(
        self, tag: str, value: list[object], beside: _Around, arrived_ns: int
    ) -> NDArray[np.int64] | None:
        """A time for each sample; None where nothing says how far they are apart."""
        if isinstance(beside.told, list) and len(beside.told) <= MOST_SAMPLES:
            each = [moment(told, self._options.time_unit) for told in beside.told]
            if len(each) == len(value) and None not in each:
                return np.array(each, np.int64)
        rate = beside.rate_hz or self._rates.get(tag, 0.0)
        if not plausible(len(value), rate):
            told = f"a list of {len(value)} values came, and nothing tells how fast they are"
            self._trouble(tag, f"{told}: say so under `rates`, or give `rate_path`")
            return None
        end_ns = arrived_ns if beside.time_ns is None else beside.time_ns
        return self._memories[tag].waveform(rate).times(len(value), end_ns) if value else None

    def _beside(self, tag: str, around: tuple[object, ...]) -> _Around:
        told = _look(self._time, around)
        time_ns = moment(told, self._options.time_unit)
        if self._time is not None and time_ns is None and not isinstance(told, list):
            self.counts["time"] += 1
        word = _look(self._quality, around)
        quality = quality_of(word, self._options.qualities)
        if quality is None:
            self.counts["quality"] += 1
            text = repr(word)[:LONGEST_TEXT]
            self._trouble(tag, f"nobody knows the quality {text}: name it under `qualities`")
        rate, _ = number(_look(self._rate, around)) if self._rate else (0.0, "")
        known = quality is not None
        return _Around(told, time_ns, BAD if quality is None else quality, known, rate)

    def _again(self, tag: str, time_ns: int, value: str | bytes) -> bool:
        again = self._memories[tag].repeated((time_ns, hash(value)))
        self.counts["duplicate"] += again
        return again

    def _trouble(self, tag: str, why: str) -> None:
        if self.problems.get(tag) != why:
            self.problems = {**self.problems, tag: why}

    def _well(self, tag: str) -> None:
        if tag in self.problems:
            self.problems = {key: why for key, why in self.problems.items() if key != tag}


def _values(
    place: Place, message: Message, document: object, broken: str
) -> list[tuple[object, tuple[object, ...]]]:
    """Values of a tag in a message, and the objects around each.

    Raises:
        Nowhere: there is none.
        Broken: the message is neither JSON nor, where it is the value, a text.
    """
    if place.part >= 0:
        parts = message.topic.split("/")
        if place.part >= len(parts):
            raise Nowhere(f"the topic has {len(parts)} parts, so none at {place.part}")
        return [(parts[place.part], _outermost(document))]
    if not broken:
        return [(document, ())] if place.steps is None else place.find(document)
    if place.steps is not None or not message.payload:
        raise Broken(broken)
    try:
        return [(message.payload[: 4 * LONGEST_TEXT].decode().strip(), ())]
    except UnicodeDecodeError as error:
        raise Broken("neither JSON nor text") from error


def _outermost(document: object) -> tuple[object, ...]:
    return (document,) if isinstance(document, dict) else ()


def _look(path: JsonPath | None, around: tuple[object, ...]) -> object:
    """What stands at ``path`` in the innermost object that has it; None where none has."""
    if path is None:
        return None
    first = path.steps[0] if path.steps else None
    for scope in around:
        if isinstance(scope, dict) and first in scope:
            try:
                return path.find(scope)
            except Nowhere:
                continue
    return None


def _numbers(value: list[object]) -> NDArray[np.float64] | None:
    if any(isinstance(each, str | dict | list) for each in value):
        return None
    try:
        return np.array(value, np.float64)  # null becomes NaN, a truth 1 or 0
    except (ValueError, TypeError, OverflowError):
        return None
