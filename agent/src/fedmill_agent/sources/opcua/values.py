# SPDX-License-Identifier: Apache-2.0
"""From an OPC UA value to readings: quality, time, text, waveforms, and what stands unchanged."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fedmill_agent.sources.live import BAD, GOOD, STALE, Readings, Shelf, reading
from fedmill_agent.sources.opcua.stamps import Stamps
from fedmill_agent.sources.opcua.wire import DataValue
from fedmill_agent.sources.waveform import Waveform
from fedmill_shared.clock import Clock

_QUALITY = (GOOD, STALE, BAD, BAD)
"""By the severity in the two highest bits of a StatusCode (OPC 10000-4, 7.39)."""
_OVERFLOW = 0x480
"""InfoType DataValue, and the bit that says the server's queue ran over."""
LONGEST_TEXT = 200


def quality_of(status: int) -> int:
    """0 bad, 192 good, 500 stale (uncertain: the last usable value, a substitute, ...)."""
    return _QUALITY[status >> 30 & 3]


def number_of(content: object) -> float:
    """``content`` as a number, also if it is a text of one; NaN if it is none."""
    if isinstance(content, float):
        return content
    if isinstance(content, str) and len(content) <= LONGEST_TEXT:
        try:
            return float(content)
        except ValueError:
            return math.nan
    return math.nan


@dataclass(slots=True)
class Values:
    """Owns the present value of every tag of one session, and puts readings on its shelf.

    Attributes:
        tags: all that were asked for.
        rates: tag -> samples per second of those that are blocks of samples.
        run_tag: the tag that may well be a text.
        counts: ``type``: no number; ``overflow``: the server's queue ran over.
        problems: tag -> why it does not come.
    """

    tags: Sequence[str]
    rates: Mapping[str, float]
    run_tag: str
    clock: Clock
    shelf: Shelf
    stamps: Stamps
    counts: Counter[str]
    problems: Mapping[str, str] = field(default_factory=dict)
    _stamps: dict[str, int | None] = field(default_factory=dict)
    _good: dict[str, float] = field(default_factory=dict)
    _confirmed: dict[str, int] = field(default_factory=dict)
    _waves: dict[str, Waveform] = field(default_factory=dict)

    def take(self, tag: str, data: DataValue) -> None:
        """A value that the server told: a change, or what stands at the beginning or when asked."""
        arrived = self.clock.now_ns()
        stamp = data.stamp_ns
        stands = tag not in self._stamps or stamp is None or stamp == self._stamps[tag]
        known = tag in self._stamps and stamp is not None and stands
        self._stamps[tag] = stamp
        if data.status & _OVERFLOW == _OVERFLOW:
            self.counts["overflow"] += 1
        if data.array and isinstance(data.content, np.ndarray) and tag in self.rates:
            if not known:
                self._block(tag, data, arrived)
            return
        if stands or stamp is None:
            time_ns = self.stamps.standing(tag, stamp, arrived)
        else:
            time_ns = self.stamps.change(tag, stamp, arrived)
        self._single(tag, data, time_ns, arrived)

    def lost(self, tag: str) -> None:
        """The value is not known any more: what it was counts no longer."""
        arrived = self.clock.now_ns()
        time_ns = self.stamps.standing(tag, None, arrived)
        self._put(tag, math.nan, time_ns, arrived, quality=BAD)

    def confirm(self, age_ns: int) -> None:
        """Say again what stands, of the tags of which nothing was heard for ``age_ns``.

        Only for a moment at which the server said that nothing has changed since.
        """
        arrived = self.clock.now_ns()
        for tag, value in list(self._good.items()):
            if arrived - self._confirmed[tag] >= age_ns:
                self._put(tag, value, self.stamps.standing(tag, None, arrived), arrived)

    def heard(self, tag: str) -> bool:
        """Whether the server has told any value of ``tag``."""
        return tag in self._stamps

    def trouble(self, tag: str, reason: str) -> None:
        """Why ``tag`` does not come; empty once it does."""
        if self.problems.get(tag, "") != reason:
            others = {key: text for key, text in self.problems.items() if key != tag}
            self.problems = {**others, tag: reason} if reason else others

    def _single(self, tag: str, data: DataValue, time_ns: int, arrived: int) -> None:
        value, quality = number_of(data.content), quality_of(data.status)
        text = data.content if isinstance(data.content, str) and math.isnan(value) else ""
        if quality != BAD and math.isnan(value) and not isinstance(data.content, float):
            quality = BAD
            if tag != self.run_tag:
                self.counts["type"] += 1
                self.trouble(tag, _no_number(data))
        else:
            text = text if quality != BAD else ""
            self.trouble(tag, _refused(data.status))
        self._put(tag, value, time_ns, arrived, quality=quality, text=text[:LONGEST_TEXT])

    def _put(
        self,
        tag: str,
        value: float,
        time_ns: int,
        arrived: int,
        *,
        quality: int = GOOD,
        text: str = "",
    ) -> None:
        if quality == GOOD and math.isfinite(value):
            self._good[tag], self._confirmed[tag] = value, arrived
        else:
            self._good.pop(tag, None)
        self.shelf.put(
            reading(tag, value, time_ns=time_ns, arrived_ns=arrived, quality=quality, text=text)
        )

    def _block(self, tag: str, data: DataValue, arrived: int) -> None:
        """The samples of an array; they end at its time."""
        self._good.pop(tag, None)
        self.trouble(tag, _refused(data.status))
        values = np.asarray(data.content, np.float64)
        end = arrived if data.stamp_ns is None else data.stamp_ns
        quality = np.full(len(values), quality_of(data.status), np.uint16)
        quality[~np.isfinite(values) & (quality == GOOD)] = BAD
        if len(values):
            wave = self._waves.setdefault(tag, Waveform(self.rates[tag]))
            times = wave.times(len(values), end)
            self.shelf.put(Readings(tag, times, values, quality, arrived))


def _no_number(data: DataValue) -> str:
    if data.array:
        size = len(data.content) if isinstance(data.content, np.ndarray | list) else "several"
        return (
            f"holds {size} values of type {data.type} at a time: name another node, or give the "
            "signal's samples per second in `rates`"
        )
    if isinstance(data.content, str):
        return f"is the text {data.content[:40]!r} and no number: name another node"
    return f"is of type {data.type} and no number: name another node"


_REFUSED = {
    0x80330000: "the server does not understand this node id (BadNodeIdInvalid)",
    0x80340000: "the server has no such node (BadNodeIdUnknown): look with `discover`",
    0x80350000: "the node has no value (BadAttributeIdInvalid): name a variable",
    0x803A0000: "the node may not be read (BadNotReadable)",
    0x801F0000: "the user may not read it (BadUserAccessDenied)",
}


def _refused(status: int) -> str:
    return _REFUSED.get(status & 0xFFFF0000, "")
