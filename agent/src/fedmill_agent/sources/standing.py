# SPDX-License-Identifier: Apache-2.0
"""Counts what a live source delivers, and what was left out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fedmill_agent.sources.live import GOOD, STALE, Readings
from fedmill_agent.sources.state import MOST_PROBLEMS, Phase, Standing

LONGEST_PROBLEM = 500
"""Characters of one: topics, names and texts of others are in it."""


@dataclass(slots=True)
class Tally:
    """Counts what one source delivers; written by its thread, read by any."""

    phase: Phase = "starting"
    error: str = ""
    readings: int = 0
    bad: int = 0
    stale: int = 0
    connections: int = 0
    last_ns: int = 0
    skew_ns: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    session: Mapping[str, int] = field(default_factory=dict)  # what the session left out so far
    problems: Mapping[str, str] = field(default_factory=dict)

    def closed(self) -> None:
        """The session ended; what it counted stays."""
        self.dropped.update(self.session)
        self.session = {}

    def take(self, delivered: Sequence[Readings]) -> bool:
        """Count ``delivered``; whether a good value of the present is among it."""
        good = False
        for each in delivered:
            usable = (each.quality == GOOD) & np.isfinite(each.values)
            stale = int(np.count_nonzero(each.quality == STALE))
            self.readings += len(each)
            self.stale += stale
            self.bad += len(each) - int(np.count_nonzero(usable)) - stale
            if not each.historical and (usable.any() or each.text):
                good, self.last_ns = True, each.arrived_ns
                self.skew_ns = int(each.times_ns[-1]) - each.arrived_ns
        return good

    def standing(self) -> Standing:
        """All of it, as it is now."""
        left_out = Counter(dict(self.dropped))  # a copy: another thread counts on
        left_out.update(self.session)
        return Standing(
            phase=self.phase,
            error=self.error,
            readings=self.readings,
            bad=self.bad,
            stale=self.stale,
            dropped=dict(+left_out),
            connections=self.connections,
            last_ns=self.last_ns,
            skew_seconds=round(self.skew_ns / 1e9, 3),
            problems={
                tag: why[:LONGEST_PROBLEM]
                for tag, why in list(self.problems.items())[:MOST_PROBLEMS]
            },
        )
