# SPDX-License-Identifier: Apache-2.0
"""From Sparkplug messages to readings; knows nothing of connections.

Sparkplug 3.0, chapters 5 and 6.4: births tell names, types and present values, data tell what has
changed, deaths make everything stale. Numbers of messages show where one was lost. What is
historical (6.4.6) is no current value: it tells of its own time alone, and of no tag's state.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.sources.json_path import number_in
from fedmill_agent.sources.live import BAD, LONGEST_TEXT, STALE, Readings
from fedmill_agent.sources.pieces import Pieces
from fedmill_agent.sources.quality import quality_of
from fedmill_agent.sources.sparkplug.datatypes import Mistyped, name_of
from fedmill_agent.sources.sparkplug.nodes import Born, Node
from fedmill_agent.sources.sparkplug.options import SparkplugOptions
from fedmill_agent.sources.sparkplug.payload import Metric, Payload, decode
from fedmill_agent.sources.sparkplug.topics import Address, NodeName, Place, address_of
from fedmill_agent.sources.sparkplug.wire import Malformed
from fedmill_agent.sources.waveform import Waveform, plausible
from fedmill_shared.link.base import Message

LATEST_MS = 2**62 // 10**6
QUALITY = "quality"
SHOWN = 8
LONGEST_PROBLEM = 400
_MS = 10**6


@dataclass(frozen=True, slots=True)
class _Said:
    """What is said of one value; ``quality`` is None where nobody knows."""

    tag: str
    time_ns: int
    quality: int | None
    arrived_ns: int
    historical: bool

    @property
    def about(self) -> str:
        """The tag whose problem it would be; what was is no problem of what is."""
        return "" if self.historical else self.tag


class Mirror:
    """Owns what is known of the nodes that tags are from.

    Attributes:
        counts: ``garbage``: no payload; ``unborn``: data before a birth; ``gap``: messages were
            lost before it; ``unknown``: metrics that no birth has named; ``old death``: of a life
            before; ``type``: no number; ``time``: none in it; ``quality``: one that nobody knows.
        problems: tags that do not come, and why.
        wishes: nodes whose births are needed.
    """

    def __init__(
        self,
        options: SparkplugOptions,
        places: Sequence[Place],
        counts: Counter[str] | None = None,
    ) -> None:
        """Nothing has come yet; counts are added to."""
        self.counts: Counter[str] = Counter() if counts is None else counts
        self.problems: Mapping[str, str] = {
            place.tag: f"no birth certificate of {'/'.join(place.node)} has come yet"
            for place in places
        }
        names = {place.node for place in places}
        self.wishes: set[NodeName] = set(names)
        self._options = options
        self._nodes = {
            name: Node([place for place in places if place.node == name]) for name in names
        }
        self._rates = options.tag_rates
        self._waveforms: dict[tuple[str, bool], Waveform] = {}  # of the present, and of the past
        self._last: dict[str, tuple[int, int]] = {}

    def take(self, message: Message, arrived_ns: int) -> list[Readings]:
        """The readings in ``message``, which came at ``arrived_ns``."""
        address = address_of(message.topic)
        node = self._nodes.get(address.node) if address is not None else None
        if address is None or node is None:
            return []
        try:
            payload = decode(message.payload)
        except Malformed:
            self.counts["garbage"] += 1
            return []
        pieces = Pieces(arrived_ns)
        if address.kind in ("NBIRTH", "DBIRTH"):
            kept = address.kept or message.retained
            self._birth(node, address, payload, pieces if not kept else None, arrived_ns)
        elif message.retained:
            self.counts["retained"] += 1
        elif address.kind in ("NDATA", "DDATA"):
            self._data(node, address, payload, pieces, arrived_ns)
        else:
            self._death(node, address, payload, pieces, arrived_ns)
        return pieces.readings()

    def _birth(
        self,
        node: Node,
        address: Address,
        payload: Payload,
        pieces: Pieces | None,
        arrived_ns: int,
    ) -> None:
        """Learn names and types; the values count only if the birth is happening now."""
        kept = pieces is None
        if address.device:
            if not kept and not node.alive:
                self._unborn(address)
                return
            if not kept:
                self._check_order(node, address, payload)
            node.admit(address.device)
        elif not node.begin(payload, kept=kept):
            return
        elif not kept:
            self.wishes.discard(address.node)
        for metric in payload.metrics:
            born = node.define(address.device, metric, self._rate_in(metric))
            if born is not None and metric.historical:
                self._trouble(born.place.tag, "it was born with a value of the past")
            if born is not None and pieces is not None:
                self._value(pieces, born, metric, payload, arrived_ns, birth=True)
        origin = "/".join((*address.node, address.device)).rstrip("/")
        names = [metric.name for metric in payload.metrics[:SHOWN]]
        some = ", ".join(names) + (", ..." if len(payload.metrics) > SHOWN else "")
        for place in node.missing(address.device):
            told = f"{origin} was born without a metric {place.metric!r}, only with {some}"
            self._trouble(place.tag, told[:LONGEST_PROBLEM])

    def _data(
        self, node: Node, address: Address, payload: Payload, pieces: Pieces, arrived_ns: int
    ) -> None:
        wanted = node.concerns(address.device)
        if not node.alive or (address.device and wanted and address.device not in node.devices):
            self._unborn(address)
            node.follows(payload)
            return
        self._check_order(node, address, payload)
        for metric in payload.metrics if wanted else ():
            known, born = node.find(address.device, metric)
            if born is not None:
                self._value(pieces, born, metric, payload, arrived_ns, birth=False)
            elif not known:
                self.counts["unknown"] += 1
                self.wishes.add(address.node)

    def _death(
        self, node: Node, address: Address, payload: Payload, pieces: Pieces, arrived_ns: int
    ) -> None:
        if address.device:
            self._check_order(node, address, payload)
            node.devices.discard(address.device)
        elif not node.ends(payload):
            self.counts["old death"] += 1
            return
        else:
            self.wishes.discard(address.node)  # it tells by itself when it lives again
        origin = "/".join((*address.node, address.device)).rstrip("/")
        for place in node.wanted(address.device or None):
            last_ns, last_arrived_ns = self._last.get(place.tag, (arrived_ns - 1, arrived_ns - 1))
            time_ns = max(last_ns + 1, arrived_ns + last_ns - last_arrived_ns)
            pieces.add(place.tag, time_ns, float("nan"), STALE)
            self._trouble(place.tag, f"{origin} is dead")

    def _unborn(self, address: Address) -> None:
        self.counts["unborn"] += 1
        self.wishes.add(address.node)

    def _check_order(self, node: Node, address: Address, payload: Payload) -> None:
        if not node.follows(payload):
            self.counts["gap"] += 1
            self.wishes.add(address.node)

    def _value(
        self,
        pieces: Pieces,
        born: Born,
        metric: Metric,
        payload: Payload,
        arrived_ns: int,
        *,
        birth: bool,
    ) -> None:
        time_ns = self._time(metric, payload, arrived_ns)
        if time_ns is None:
            return
        tag = born.place.tag
        said = _Said(tag, time_ns, None, arrived_ns, metric.historical)
        said = replace(said, quality=self._quality(said.about, metric))
        try:
            value = float("nan") if metric.null else metric.value(born.datatype)
        except Mistyped:
            self.counts["type"] += 1
            kind = name_of(metric.datatype or born.datatype)
            self._trouble(said.about, f"a {kind} came: no number")
            pieces.add(tag, time_ns, float("nan"), BAD, historical=said.historical)
            return
        if isinstance(value, np.ndarray):
            if not (birth and self._last.get(tag, (-1, 0))[0] == time_ns):
                self._put_block(pieces, said, value, self._rate_in(metric) or born.rate_hz)
            return
        if birth and not said.historical and payload.time_ms is not None:
            # what has not changed for long was measured long ago, and is true now
            said = replace(said, time_ns=max(time_ns, min(payload.time_ms, LATEST_MS) * _MS))
        self._put(pieces, said, value)

    def _put(self, pieces: Pieces, said: "_Said", value: str | float) -> None:
        number, text = number_in(value) if isinstance(value, str) else (float(value), "")
        if text and said.tag != self._options.run_tag:
            self.counts["type"] += 1
            self._trouble(said.about, f"{text[:LONGEST_TEXT]!r} is no number")
        elif said.quality is not None:
            self._well(said.about)
        quality = BAD if said.quality is None else said.quality
        pieces.add(said.tag, said.time_ns, number, quality, text, historical=said.historical)
        self._remember(said)

    def _put_block(
        self, pieces: Pieces, said: "_Said", values: NDArray[np.float64], rate_hz: float
    ) -> None:
        if not len(values):
            return
        rate_hz = rate_hz or self._rates.get(said.tag, 0.0)
        if not plausible(len(values), rate_hz):
            self.counts["type"] += 1
            told = f"an array of {len(values)} values came, and nothing tells how fast they are"
            self._trouble(said.about, f"{told}: say so under `rates`, or give `rate_property`")
            return
        line = said.tag, said.historical
        waveform = self._waveforms.get(line)
        if waveform is None or waveform.rate_hz != rate_hz:
            waveform = self._waveforms[line] = Waveform(rate_hz)
        self._well(said.about)
        times = waveform.times(len(values), said.time_ns)
        known = BAD if said.quality is None else said.quality
        quality = np.where(np.isfinite(values), known, BAD).astype(np.uint16)
        block = Readings(said.tag, times, values, quality, said.arrived_ns)
        pieces.add_block(replace(block, historical=said.historical))
        self._remember(said)

    def _time(self, metric: Metric, payload: Payload, arrived_ns: int) -> int | None:
        """When a value was measured; None for one of the past that does not say."""
        told = metric.time_ms
        if told is None and not metric.historical:
            told = payload.time_ms
        if told is None or told > LATEST_MS:
            self.counts["time"] += 1
            return None if metric.historical else arrived_ns
        return told * _MS

    def _quality(self, tag: str, metric: Metric) -> int | None:
        """0, 192 or 500; None where nobody knows what it says."""
        if not metric.property_set:
            return quality_of(None)
        try:
            told = next((v for k, v in metric.properties().items() if k.lower() == QUALITY), None)
        except Malformed:
            told = "unreadable"
        quality = quality_of(told)
        if quality is None:
            self.counts["quality"] += 1
            self._trouble(tag, f"nobody knows the quality {told!r:.60}")
        return quality

    def _rate_in(self, metric: Metric) -> float:
        if not self._options.rate_property or not metric.property_set:
            return 0.0
        try:
            told = metric.properties().get(self._options.rate_property)
        except Malformed:
            return 0.0
        return float(told) if isinstance(told, int | float) else 0.0

    def _remember(self, said: "_Said") -> None:
        if not said.historical:
            self._last[said.tag] = (said.time_ns, said.arrived_ns)

    def _trouble(self, tag: str, why: str) -> None:
        if tag and self.problems.get(tag) != why:
            self.problems = {**self.problems, tag: why}

    def _well(self, tag: str) -> None:
        if tag in self.problems:
            self.problems = {key: why for key, why in self.problems.items() if key != tag}
