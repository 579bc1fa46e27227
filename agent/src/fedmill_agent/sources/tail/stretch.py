# SPDX-License-Identifier: Apache-2.0
"""Labels of rows that come one by one, as stretches of time."""

from dataclasses import dataclass

from fedmill_agent.sources.base import LabelInterval
from fedmill_agent.sources.csv.track import Label, extended, single

GAP_NS = 60 * 10**9
"""Rows further apart have nothing between them."""
TOLD_NS = 60 * 10**9
"""A stretch that goes on is told anew, longer, this often (source time)."""
LONGEST_NS = 86_400 * 10**9


@dataclass(slots=True)
class Stretch:
    """Owns the label that goes on.

    A class that stays, or a number on its line, is one stretch: it is told when it ends, and each
    minute before that, longer every time, so that windows need not wait for its end.
    """

    _current: LabelInterval | None = None
    _told_ns: int = 0
    _complete: bool = True

    def take(self, run: str, time_ns: int, label: Label) -> list[LabelInterval]:
        """What is to be told now that ``label`` is true of ``run`` at ``time_ns``."""
        current = self._current
        longer = None
        if current is not None and current.run == run:
            near = 0 < time_ns - current.end_ns <= GAP_NS
            short = time_ns - current.start_ns <= LONGEST_NS
            longer = extended(current, time_ns, label) if near and short else None
        if longer is None:
            told = self.rest()
            self._current = None if label is None else single(run, time_ns, label)
            self._told_ns, self._complete = time_ns, self._current is None
            return told
        self._current, self._complete = longer, False
        return self.rest() if time_ns - self._told_ns >= TOLD_NS else []

    def rest(self) -> list[LabelInterval]:
        """What was not told of the label that goes on."""
        if self._current is None or self._complete:
            return []
        self._told_ns, self._complete = self._current.end_ns, True
        return [self._current]
