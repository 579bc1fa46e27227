# SPDX-License-Identifier: Apache-2.0
"""What a live source is: a session with a device or server that brings readings until it breaks.

A session knows one connection and nothing else. Who opens it again, notices that it fell silent,
puts its readings on a job's grid and counts what was lost is the supervisor, the same for all.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, Protocol, runtime_checkable

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from fedmill_agent.sources.base import LabelInterval, SourceOptions
from fedmill_shared.clock import Clock

BAD, GOOD, STALE = 0, 192, 500
"""Qualities, as Sparkplug B 3.0 (6.4.6) numbers them."""

LONGEST_TEXT = 200
"""Characters of a text that count."""

Startup = Literal["error", "retry", "ignore", "probe"]


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """Consecutive values of one tag, the oldest first.

    Attributes:
        tag: one of those that were asked for.
        times_ns: int64 (n,), when the source measured them, ns UTC.
        values: float64 (n,), as the source has them, before any scale; NaN where one is no number.
        quality: uint16 (n,): 0 bad, 192 good, 500 stale. Only good numbers are ever used.
        arrived_ns: when they came in here, ns UTC.
        text: the newest value as text, where it is no number; for tags that name a part or batch.
        historical: what the source kept while nobody listened. It says nothing of the present, may
            be older than what came already, and is for the recording alone.
    """

    tag: str
    times_ns: NDArray[np.int64]
    values: NDArray[np.float64]
    quality: NDArray[np.uint16]
    arrived_ns: int
    text: str = ""
    historical: bool = False

    def __len__(self) -> int:
        return len(self.times_ns)


Delivered = Readings | LabelInterval


def reading(
    tag: str, value: float, *, time_ns: int, arrived_ns: int, quality: int = GOOD, text: str = ""
) -> Readings:
    """One value of one tag; a number that is not finite is bad, whatever its source calls it."""
    told = quality if quality != GOOD or abs(value) < float("inf") else BAD
    return Readings(
        tag,
        np.array([time_ns], np.int64),
        np.array([value], np.float64),
        np.array([told], np.uint16),
        arrived_ns,
        text,
    )


def legible(readings: Readings) -> Readings:
    """``readings`` with a text that can be kept: 200 characters at most, and whole ones.

    Half characters (lone surrogates), which JSON can escape, have no place in a file or message.
    """
    text = readings.text[:LONGEST_TEXT].encode(errors="replace").decode()
    return readings if text == readings.text else replace(readings, text=text)


class Session(Protocol):
    """One connection, used by one thread."""

    @property
    def counts(self) -> Counter[str]:
        """What was left out so far, and why.

        ``garbage`` (not understood), ``type`` (no number), ``overflow`` (came faster than it was
        taken), ``late poll`` and the like.
        """
        ...

    @property
    def problems(self) -> Mapping[str, str]:
        """Tags that do not come, each with the reason and the remedy, as far as it is known.

        The other tags come all the same.
        """
        ...

    def read(self, timeout: float) -> Sequence[Delivered]:
        """What came since the last call; waits at most ``timeout`` seconds for something.

        Raises:
            SourceError: the connection is lost; ``close`` is called next, then a new one is opened.
        """
        ...

    def close(self) -> None:
        """Let go of everything within a few seconds, whatever state the connection is in."""
        ...


@runtime_checkable
class Suspecting(Protocol):
    """A session that can tell whether it reads a value in the wrong order of bytes."""

    def suspects(self, tag: str, low: float, high: float) -> list[tuple[str, float]]:
        """Other orders that bring the newest value of ``tag`` between bounds, each with that value.

        The likeliest first; nothing where it lies between ``low`` and ``high`` as it is read.
        """
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """A tag that a source offers.

    Attributes:
        tag: as it is written under ``tags`` of the source.
        type: of its values, in the source's own words.
        value: at present, as text; empty where it is not known.
        unit: empty where the source tells none.
        writable: whether it is an output that something may set, as far as it is known.
        note: what else the source says about it.
    """

    tag: str
    type: str = ""
    value: str = ""
    unit: str = ""
    writable: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Live:
    """How a kind of live source is used.

    ``open(options, tags, clock)`` connects and returns a session for these tags, in some seconds.
    It raises SourceError where the other side cannot be reached or refuses, and ConfigError where
    the options or a tag can never work, or the library for it is not installed.

    ``snapshot`` says that a session begins by telling the value that each tag has at present,
    however long ago it was measured: it counts from then on, not from its own old time.

    ``discover(options, clock)`` yields what tags there are, a bounded number; None where a source
    cannot tell. It raises the same.
    """

    open: Callable[[SourceOptions, Sequence[str], Clock], Session]
    discover: Callable[[SourceOptions, Clock], Iterator[Found]] | None = None
    snapshot: bool = False


SilenceSeconds = Annotated[
    float,
    Meta(
        ge=0.0,
        description="Time (s) without any good value after which the connection is given up and "
        "made anew; 0: never.",
    ),
]


class LiveOptions(SourceOptions, frozen=True, kw_only=True):
    """Fields of every source that goes on for ever."""

    unit: Annotated[str, Meta(description="The machine; empty for the source's name.")] = ""
    run_tag: Annotated[
        str,
        Meta(
            description="A tag whose value names the part or batch in the machine: windows of each "
            "are a run of their own; while it is 0, empty or bad there is none, and nothing is "
            "taken. Empty: all is one run."
        ),
    ] = ""
    startup: Annotated[
        Startup,
        Meta(
            description="If it cannot be reached at the start: end the agent with an error, try "
            "again for ever, leave it out until the next start, or leave it out also where it "
            "answers and no good value comes (`probe`)."
        ),
    ] = "retry"
    clock: Annotated[
        Literal["source", "arrival"],
        Meta(description="Whose times count: the source's own, or those at which values arrive."),
    ] = "source"
    silence_seconds: SilenceSeconds = 60.0
    hold_seconds: Annotated[
        float,
        Meta(
            ge=0.0,
            description="Time (s) for which a good value counts while no newer one comes. A bad or "
            "stale one ends it at once. 0: for the sample it is next to, or for two and a half "
            "times the interval at which the source is asked.",
        ),
    ] = 0.0
    wait_seconds: Annotated[
        float,
        Meta(
            ge=0.0,
            le=3600.0,
            description="Time (s) that one tag may come later than the others before its values "
            "count as missing.",
        ),
    ] = 1.0
    rates: Annotated[
        dict[str, float],
        Meta(
            description="Signal -> samples per second (Hz), of signals that come as samples at a "
            "fixed rate: waveforms, and all that is faster than the job, by a whole multiple. What "
            "the job's rate cannot show is filtered out, and no value is held."
        ),
    ] = msgspec.field(default_factory=dict)

    @property
    def tag_rates(self) -> dict[str, float]:
        """Tag -> samples per second (Hz), as ``rates`` says them of signals."""
        return {self.tags.get(signal, signal): rate for signal, rate in self.rates.items()}

    def told_rates(self, tags: Mapping[str, str]) -> Mapping[str, float]:  # noqa: ARG002  some kinds need them
        """``rates``, and those that a kind knows beside; ``tags`` is signal -> tag."""
        return self.rates


def check_silence(options: LiveOptions, interval_seconds: float) -> None:
    """Raise ValueError where a source would count as silent before its next value is due."""
    if 0 < options.silence_seconds <= interval_seconds:
        raise ValueError(
            f"`silence_seconds` {options.silence_seconds:g} is not more than `interval_seconds` "
            f"{interval_seconds:g}: the source would be given up before it is asked again"
        )


class PolledOptions(LiveOptions, frozen=True, kw_only=True):
    """Fields of every source that is asked for its values."""

    interval_seconds: Annotated[
        float, Meta(gt=0.0, le=86_400.0, description="Time (s) between two questions.")
    ] = 1.0

    def __post_init__(self) -> None:
        """Raise ValueError, which decoding reports with its place in the file."""
        super().__post_init__()
        check_silence(self, self.interval_seconds)


def hold_ns(options: LiveOptions, period_ns: int) -> int:
    """For how long (ns) a good value counts in samples that are ``period_ns`` apart."""
    asked = 2.5 * options.interval_seconds if isinstance(options, PolledOptions) else 0.0
    return max(round(1e9 * (options.hold_seconds or asked)), period_ns // 2)


@dataclass(slots=True)
class Shelf:
    """What a library's own thread brought, until the session's thread takes it; bounded.

    Of more than ``most`` values the oldest are dropped and counted as ``overflow``. ``fail`` hands
    over an error that the next ``take`` raises.
    """

    most: int = 1 << 20
    counts: Counter[str] = field(default_factory=Counter)
    _held: deque[Delivered] = field(default_factory=deque)
    _values: int = 0
    _error: Exception | None = None
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def put(self, delivered: Delivered) -> None:
        """Add something; never waits."""
        with self._changed:
            self._held.append(delivered)
            self._values += _size(delivered)
            while self._values > self.most and len(self._held) > 1:
                size = _size(self._held.popleft())
                self._values -= size
                self.counts["overflow"] += size
            self._changed.notify()

    def fail(self, error: Exception) -> None:
        """What ``take`` raises once all that came before is taken."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify()

    def take(self, timeout: float) -> list[Delivered]:
        """All there is; waits at most ``timeout`` seconds for something.

        Raises:
            Exception: the one that ``fail`` was given.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._held or self._error, timeout)
            if not self._held and self._error is not None:
                raise self._error
            taken = list(self._held)
            self._held.clear()
            self._values = 0
            return taken


def _size(delivered: Delivered) -> int:
    return len(delivered) if isinstance(delivered, Readings) else 1
