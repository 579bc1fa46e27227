# SPDX-License-Identifier: Apache-2.0
"""One signal of drift: it learns what is usual, calibrates its charts on it, and then watches."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from fedmill_agent.background import Background
from fedmill_agent.drift.charts import Change, Chart, Standing, calibrated, highest
from fedmill_agent.drift.detector import Array
from fedmill_agent.drift.trend import Trends, detrended
from fedmill_shared.errors import FedmillError
from fedmill_shared.job import Job

LEAST_REFERENCE = 100
"""Stored windows that make a reference; with fewer it is learned from what comes."""
MOST_NUMBERS = 500_000
"""Numbers that a reference may have: very wide rows have a shorter one."""

Stored = Callable[[], Iterable[list[tuple[str, Array]]]]
"""Rows of stored windows with their runs, in their order, a few at a time."""

Made = list[Chart]
Submit = Callable[
    [Callable[[], Made], Callable[[Made], object], Callable[[FedmillError], object]], None
]
"""Has something done beside the loop, and tells what came of it, or why nothing did."""


@dataclass(slots=True, eq=False)
class Signal:
    """Owns the reference and the charts of one signal of drift.

    Attributes:
        name: as in ``[drift] watch``.
        columns: what the columns of its rows are called.
        trends: takes the slow trend of each run away; None where rows are used as they are.
        reference: rows (n, columns) that the charts were made of; none before that.
        charts: empty while it learns.
        off: why it cannot watch.
        submit: has charts calibrated.
        calibrating: whether it waits for that.
    """

    job: Job
    name: str
    columns: list[str]
    trends: Trends | None = None
    reference: Array = field(default_factory=lambda: np.empty((0, 0)))
    charts: list[Chart] = field(default_factory=list)
    off: str = ""
    submit: Submit = field(default_factory=lambda: Background().submit)
    calibrating: bool = False
    _learned: list[Array] = field(default_factory=list)
    _runs: Counter[str] = field(default_factory=Counter)
    _live: bool = False
    _work: Iterator[bool] | None = None

    @property
    def standing(self) -> Standing:
        """The most serious of its charts."""
        return highest([chart.standing for chart in self.charts])

    @property
    def idle(self) -> bool:
        """Whether it neither watches nor learns."""
        return not self.charts and self._work is None

    @property
    def live(self) -> bool:
        """Whether it learns from what comes."""
        return self._live

    @property
    def learned(self) -> int:
        """Rows that it has learned from so far, or its charts were made of."""
        return len(self._learned) or len(self.reference)

    def learn(self, stored: Stored | None) -> None:
        """Forget everything, and learn from ``stored`` windows; None: from what comes."""
        self.charts, self.reference, self.off = [], np.empty((0, 0)), ""
        self._learned, self._live, self.calibrating = [], False, False
        self._runs.clear()
        if self.trends is not None:
            self.trends.runs.clear()
        self._work = self._prepare(stored)

    def see(self, run: str, row: Array) -> list[Change]:
        """Take the row (columns,) of a window of ``run``; where charts changed."""
        if self.off or not (self.charts or self._live):
            return []
        if not np.isfinite(row).all():  # one NaN in an average, and nothing is noticed any more
            return []
        if self.trends is not None:
            row = self.trends.step(run, row)
        if self._live:
            self._learned.append(row.astype(np.float32))
            self._runs[run] += 1
            return []
        row = row.astype(np.float32).astype(np.float64)
        return [change for chart in self.charts if (change := chart.step(row)) is not None]

    def go_on(self) -> bool:
        """Do a little of what there is to learn; False where there is nothing to do now."""
        if self._work is None:
            return False
        more = next(self._work, None)
        if more is None:
            self._work = None
        return bool(more)

    def arm(self, reference: Array, charts: list[Chart]) -> None:
        """Watch with what was known before a restart."""
        self.reference, self.charts, self._work, self._live = reference, charts, None, False

    def _prepare(self, stored: Stored | None) -> Iterator[bool]:
        yield True
        if stored is not None:
            yield from self._read(stored)
        wanted = self.job.drift.reference_windows
        if len(self._learned) < LEAST_REFERENCE:
            self._learned, self._live = [], True
            self._runs.clear()
            while len(self._learned) < self._most(wanted):
                yield False
            self._live = False
        rows = np.stack(self._learned).astype(np.float64)
        self._learned = []
        made: list[list[Chart]] = []
        failed: list[FedmillError] = []
        longest = max(self._runs.values())
        work = partial(calibrated, self.job, self.name, rows, longest)
        self.submit(work, made.append, failed.append)
        self.calibrating = True
        while not made:
            if failed:
                raise failed[0]
            yield False
        self.reference, self.charts, self.calibrating = rows, made[0], False

    def _read(self, stored: Stored) -> Iterator[bool]:
        runs: list[str] = []
        for rows in stored():
            portion = [each for each in rows if np.isfinite(each[1]).all()]
            runs += [run for run, _ in portion]
            self._learned += [row.astype(np.float32) for _, row in portion]
            most = self._most(len(self._learned))  # only a row tells how wide features are
            del self._learned[:-most], runs[:-most]
            yield True
        self._runs.update(runs)
        if self.trends is not None and runs:
            left = detrended(runs, np.stack(self._learned).astype(np.float64))
            self._learned = list(left.astype(np.float32))

    def _most(self, wanted: int) -> int:
        width = len(self._learned[0]) if self._learned else 1
        return max(LEAST_REFERENCE, min(wanted, MOST_NUMBERS // width))
