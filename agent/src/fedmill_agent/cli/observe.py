# SPDX-License-Identifier: Apache-2.0
"""Looks at a live source for some seconds: what comes of each tag, how often, and how good."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fedmill_agent.sources import live_of
from fedmill_agent.sources.base import SourceOptions, narrow
from fedmill_agent.sources.live import (
    GOOD,
    STALE,
    LiveOptions,
    PolledOptions,
    Readings,
    Session,
    Suspecting,
)
from fedmill_agent.sources.position import unplaced
from fedmill_shared.clock import Clock

LOOK_SECONDS = 8.0
LONGEST_SECONDS = 120.0
ENOUGH = 5
"""Batches of every tag after which nothing more is waited for."""
_READ_SECONDS = 0.25


@dataclass(slots=True)
class Seen:
    """What came of one tag.

    Attributes:
        batches: how often something came.
        values: how many values.
        good: of them, good numbers.
        stale: of them, those that their source calls old.
        low: smallest good value, as the source has it; inf for none.
        high: largest one.
        last: newest good value.
        text: newest value that is no number.
        first_ns: source time of the first value.
        last_ns: source time of the newest.
        skew_ns: how far the source's clock is ahead of ours, by the newest value.
    """

    batches: int = 0
    values: int = 0
    good: int = 0
    stale: int = 0
    low: float = np.inf
    high: float = -np.inf
    last: float = np.nan
    text: str = ""
    first_ns: int = 0
    last_ns: int = 0
    skew_ns: int = 0

    @property
    def rate_hz(self) -> float:
        """Values per second of source time; 0 where too few came to tell."""
        span = (self.last_ns - self.first_ns) / 1e9
        return (self.values - 1) / span if self.values >= 3 and span > 0 else 0.0

    def take(self, readings: Readings) -> None:
        """Count ``readings``."""
        if not len(readings):
            return
        usable = (readings.quality == GOOD) & np.isfinite(readings.values)
        found = readings.values[usable]
        if not self.batches:
            self.first_ns = self.last_ns = int(readings.times_ns[0])
        self.last_ns = max(self.last_ns, int(readings.times_ns[-1]))
        self.skew_ns = int(readings.times_ns[-1]) - readings.arrived_ns
        self.batches += 1
        self.values += len(readings)
        self.good += len(found)
        self.stale += int(np.count_nonzero(readings.quality == STALE))
        self.text = readings.text or self.text
        if len(found):
            self.low = min(self.low, float(found.min()))
            self.high = max(self.high, float(found.max()))
            self.last = float(found[-1])


@dataclass(slots=True)
class Look:
    """What came of a source while it was looked at.

    Attributes:
        seen: by tag.
        problems: tags that do not come, each with the reason.
        dropped: what was left out, and why.
        suspects: other orders of bytes in which the newest value of a tag would be plausible, each
            with that value; of sources that know such a thing.
        seconds: how long it was looked at.
    """

    seen: dict[str, Seen]
    problems: Mapping[str, str] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    suspects: Mapping[str, Sequence[tuple[str, float]]] = field(default_factory=dict)
    seconds: float = 0.0


def look(
    source: SourceOptions,
    tags: Sequence[str],
    clock: Clock,
    *,
    plausible: Mapping[str, tuple[float, float]] | None = None,
) -> Look:
    """Read ``tags`` of a live ``source`` until enough of each has come, for some seconds at most.

    ``plausible`` says between which bounds values of a tag are to lie, as the source has them.

    Raises:
        SourceError: it cannot be reached, or the connection broke.
        ConfigError: its options can never work, or its library is not installed.
    """
    options = narrow(source, LiveOptions)
    found = Look({tag: Seen() for tag in tags})
    begin = clock.monotonic()
    session = live_of(source).open(unplaced(source), list(found.seen), clock)
    try:
        end = clock.monotonic() + _seconds(options)
        while clock.monotonic() < end and not _enough(found):
            for each in session.read(_READ_SECONDS):
                if isinstance(each, Readings) and each.tag in found.seen and not each.historical:
                    found.seen[each.tag].take(each)
            found.problems = dict(session.problems)
        found.dropped = Counter(session.counts)
        found.suspects = _suspects(session, plausible or {})
    finally:
        session.close()
    found.seconds = clock.monotonic() - begin
    return found


def _suspects(
    session: Session, plausible: Mapping[str, tuple[float, float]]
) -> dict[str, list[tuple[str, float]]]:
    if not isinstance(session, Suspecting):
        return {}
    return {tag: session.suspects(tag, low, high) for tag, (low, high) in plausible.items()}


def _seconds(options: LiveOptions) -> float:
    asked = 3 * options.interval_seconds if isinstance(options, PolledOptions) else 0.0
    return min(LONGEST_SECONDS, max(LOOK_SECONDS, asked))


def _enough(found: Look) -> bool:
    return all(
        seen.batches >= ENOUGH for tag, seen in found.seen.items() if tag not in found.problems
    ) and bool(found.seen.keys() - found.problems.keys())
