# SPDX-License-Identifier: Apache-2.0
"""The pages of a server that are asked, and what of each is new."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, urljoin

import msgspec
import numpy as np

from fedmill_agent.sources.json_path import Nowhere
from fedmill_agent.sources.live import BAD, GOOD, Readings, reading
from fedmill_agent.sources.rest.answers import Format, Value, quality_of, time_of
from fedmill_agent.sources.rest.options import SINCE, RestOptions
from fedmill_agent.sources.timeline import iso
from fedmill_agent.sources.waveform import plausible
from fedmill_shared.files import sha256

MOST_SAME = 4096
"""Records of the newest time that are remembered, so that none counts twice."""
_SCALE = {"s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}


class Reached(msgspec.Struct, frozen=True):
    """Time (ns UTC) of the newest record of a page, and the hashes of those that have it."""

    time_ns: int
    same: tuple[str, ...] = ()


@dataclass(slots=True)
class Page:
    """Owns what is known of one page between two questions.

    Attributes:
        url: what is asked, with its ``{since}``.
        tags: of the source, with the path of each in a record.
        reached: the newest record; None where all are asked for.
        etag: of the last answer, for asking whether it is still so.
        body: of the last answer, if it has an ``etag``.
    """

    url: str
    tags: dict[str, str]
    reached: Reached | None = None
    etag: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    _told: dict[str, tuple[int, float]] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        """The URL for people, without its query: some servers want a secret there."""
        path, query, _ = self.url.partition("?")
        return f"{path}?..." if query else path

    def asked(self, options: RestOptions, now_ns: int) -> str:
        """The URL to ask now."""
        if SINCE not in self.url:
            return self.url
        time_ns = now_ns - round(1e9 * options.history_seconds)
        if self.reached is not None:
            time_ns = self.reached.time_ns
        written = (
            iso(time_ns)
            if options.since_format == "iso"
            else str(time_ns // _SCALE[options.since_format])
        )
        return self.url.replace(SINCE, quote(written, safe=""))

    def fresh(
        self, records: Sequence[object], options: RestOptions, reader: Format, counts: Counter[str]
    ) -> list[object]:
        """Those of a list of records that did not come before, the oldest first."""
        timed: list[tuple[int, object]] = []
        for record in records:
            try:
                found = reader.find(record, options.time_path)
                timed.append((time_of(found, options.time_unit), record))
            except Nowhere:
                counts["garbage"] += 1
        timed.sort(key=lambda each: each[0])
        if self.reached is not None:
            timed = [each for each in timed if each[0] >= self.reached.time_ns]
        known = set(self.reached.same) if self.reached is not None else set()
        hashed = [(time_ns, record, _hash(record)) for time_ns, record in timed]
        new = [each for each in hashed if each[2] not in known]
        if new:
            newest = new[-1][0]
            before = known if self.reached and newest == self.reached.time_ns else set()
            same = [*before, *(digest for time_ns, _, digest in new if time_ns == newest)]
            self.reached = Reached(newest, tuple(same[-MOST_SAME:]))
        return [record for _, record, _ in new]

    def readings(
        self, records: Sequence[object], options: RestOptions, reader: Format, now_ns: int
    ) -> tuple[list[Readings], dict[str, str], int]:
        """Readings of all tags, problems of those without any, and the values of a wrong type."""
        delivered: list[Readings] = []
        problems: dict[str, str] = {}
        wrong = 0
        for tag, path in self.tags.items():
            column = _Column(tag, now_ns, _rate(options, tag))
            for record in records:
                problem = column.take(record, path, options, reader)
                if problem:
                    problems[tag] = problem
            wrong += column.wrong
            if column.times and not self._repeated(tag, column, options):
                problems.pop(tag, None)
                delivered.append(column.readings())
        return delivered, problems, wrong

    def bad(self, now_ns: int) -> list[Readings]:
        """One bad value of every tag: the page was asked and told nothing."""
        return [
            reading(tag, math.nan, time_ns=now_ns, arrived_ns=now_ns, quality=BAD)
            for tag in self.tags
        ]

    def _repeated(self, tag: str, column: "_Column", options: RestOptions) -> bool:
        """Whether a value with a time of its own is the one that came the last time."""
        newest = (column.times[-1], column.values[-1])
        before = self._told.get(tag)
        self._told[tag] = newest
        return bool(options.time_path) and len(column.times) == 1 and newest == before


@dataclass(slots=True)
class _Column:
    """Collects the values of one tag."""

    tag: str
    now_ns: int
    rate_hz: float
    times: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    quality: list[int] = field(default_factory=list)
    text: str = ""
    wrong: int = 0

    def take(self, record: object, path: str, options: RestOptions, reader: Format) -> str:
        """Add what ``record`` has; else why not, in words."""
        try:
            value = reader.value(reader.find(record, path))
            time_ns = self.now_ns
            if options.time_path:
                time_ns = time_of(reader.find(record, options.time_path, path), options.time_unit)
            quality = GOOD
            if options.quality_path:
                quality = quality_of(reader.find(record, options.quality_path, path))
        except Nowhere as error:
            return str(error)
        if value.block is not None and not self.rate_hz:
            self.wrong += 1
            self.text = "a list"
            self._add([time_ns], [math.nan], BAD)
            return "its value is a list: give its rate under `rates`, or name one element"
        if value.block is not None:
            if value.block and not plausible(len(value.block), self.rate_hz):
                self.wrong += 1
                return f"a list of {len(value.block)} values at {self.rate_hz:g} Hz is no block"
            self._block(value, time_ns, quality)
            return ""
        self.text = value.text
        self.wrong += bool(value.text)
        self._add([time_ns], [value.number], quality)
        return ""

    def readings(self) -> Readings:
        """All of them."""
        values = np.array(self.values, np.float64)
        quality = np.array(self.quality, np.uint16)
        quality[~np.isfinite(values) & (quality == GOOD)] = BAD
        times = np.array(self.times, np.int64)
        return Readings(self.tag, times, values, quality, self.now_ns, self.text)

    def _block(self, value: Value, end_ns: int, quality: int) -> None:
        block = value.block or ()
        period = 1e9 / self.rate_hz
        times = [end_ns - round((len(block) - 1 - i) * period) for i in range(len(block))]
        self.text = ""
        self._add(times, list(block), quality)

    def _add(self, times: list[int], values: list[float], quality: int) -> None:
        self.times += times
        self.values += values
        self.quality += [quality] * len(times)


def pages_of(options: RestOptions, tags: Sequence[str]) -> list[Page]:
    """The pages to ask for ``tags``, each once; a tag is ``path`` or ``page#path``."""
    pages: dict[str, Page] = {}
    for tag in tags:
        other, stop, path = tag.partition("#")
        url = urljoin(options.url, other) if stop else options.url
        pages.setdefault(url, Page(url, {})).tags[tag] = path if stop else tag
    return list(pages.values())


def _rate(options: RestOptions, tag: str) -> float:
    """Samples per second of the blocks of ``tag``; 0 where none is given."""
    named = [signal for signal, own in options.tags.items() if own == tag]
    return next((options.rates[s] for s in [*named, tag] if s in options.rates), 0.0)


def _hash(record: object) -> str:
    try:
        return sha256(msgspec.json.encode(record))[:16]
    except (OverflowError, ValueError):  # whole numbers of more than 64 bits, half characters
        return sha256(repr(record).encode(errors="replace"))[:16]
