# SPDX-License-Identifier: Apache-2.0
"""Brings the scores of a job without labels to the agent's own scale: 1 is the limit.

The limit of a version comes from what it says of the agent's validation windows, which nothing was
trained on. They are scored a few at a time beside the daemon's work, with the session that serves.
Until that is done the limit that was found last counts, and before the first one the score as the
model gives it, which of principal components is over a limit of their own.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import compress
from math import isfinite
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.monitoring.known import FILE, KnownLimits, Limit
from fedmill_agent.store.dataset import WindowRow
from fedmill_agent.store.reader import WindowReader
from fedmill_agent.sweep import SPLIT, Run, Said, Sweep
from fedmill_shared.clock import Clock
from fedmill_shared.errors import FedmillError, StoreError
from fedmill_shared.job import Job
from fedmill_shared.log import Logger
from fedmill_shared.monitoring.limits import empirical_limit

MOST_WINDOWS = 2000
"""The newest validation windows, of which a limit is found."""
MOST_RUNS = 64
"""Runs whose last scores are remembered."""
SMALLEST = 1e-12
"""A limit is not less: a model that gives everything back exactly has no scale."""

Scores = NDArray[np.float64]
Outputs = NDArray[np.float32]


class Placed(Protocol):
    """A window, as far as it matters whose it is."""

    @property
    def run(self) -> str:
        """The recording, batch or life."""


@dataclass(slots=True)
class Smoothing:
    """Means over the last scores of each run; the runs seen longest ago are forgotten.

    What is no number is told as it is and is in no mean: it would be in all for a while.
    """

    length: int
    runs: OrderedDict[str, deque[float]] = field(default_factory=OrderedDict)

    def means(self, windows: Sequence[Placed], scores: Scores) -> Scores:
        """Float64 (n,): of each of ``windows``, in order, the mean of its run's ``scores``."""
        if self.length == 1:
            return scores
        found = np.empty_like(scores)
        for place, window in enumerate(windows):
            last = self.runs.setdefault(window.run, deque(maxlen=self.length))
            self.runs.move_to_end(window.run)
            score = float(scores[place])
            if isfinite(score):
                last.append(score)
                score = sum(last) / len(last)
            found[place] = score
        while len(self.runs) > MOST_RUNS:
            self.runs.popitem(last=False)
        return found


@dataclass(frozen=True, slots=True)
class _Rows:
    """Stored windows, by run and time."""

    rows: list[WindowRow]

    @property
    def ids(self) -> list[int]:
        return [row.id for row in self.rows]


class Limits:
    """Owns the limits of one job's versions."""

    def __init__(
        self,
        job: Job,
        store: WindowReader,
        folder: Path,
        serving: Callable[[], str],
        run: Run,
        *,
        clock: Clock,
        log: Logger,
    ) -> None:
        """Know what was known before a restart.

        ``serving`` tells the version whose outputs (n, 1) ``run`` gives for windows.
        """
        self._job = job
        self._store = store
        self._known = KnownLimits(folder / FILE)
        self._log = log
        self._sweep = Sweep(
            store,
            serving,
            run,
            known=self._known.generation,
            choose=self._choose,
            learn=self._learn,
            clock=clock,
        )
        self._smoothing = Smoothing(job.monitoring.smooth)
        self._smoothed = ""

    def limit(self, version: str) -> Limit | None:
        """What is known of ``version``."""
        return self._known.get(version)

    def relative(self, version: str, windows: Sequence[Placed], outputs: Outputs) -> Outputs:
        """Float32 (n, 1): ``outputs`` (n, 1) of ``version``, smoothed, over its limit."""
        if version != self._smoothed:  # scores of another model are on another scale
            self._smoothing, self._smoothed = Smoothing(self._job.monitoring.smooth), version
        scores = self._smoothing.means(windows, outputs[:, 0].astype(np.float64))
        limit = self._known.get(version) or self._known.newest()
        over: Outputs = (scores / (limit.value if limit else 1.0)).astype(np.float32)[:, None]
        return over

    def tick(self) -> None:
        """Look about once a second whether a limit is to be found, and do a little of it."""
        try:
            self._sweep.tick()
        except FedmillError as error:
            self._log.error("limit.failed", kind=type(error).__name__, error=str(error))

    def _choose(self) -> _Rows | None:
        rows = self._store.newest(SPLIT, MOST_WINDOWS)
        rows.sort(key=lambda row: (row.run, row.end_ns))
        return _Rows(rows) if len(rows) >= self._job.monitoring.least_windows else None

    def _learn(self, said: Said[_Rows]) -> bool:
        settings, scores = self._job.monitoring, said.outputs[:, 0].astype(np.float64)
        known = np.isfinite(scores)  # no limit can be told of what is no number
        if known.sum() < settings.least_windows:
            return False
        windows = [said.windows.rows[place] for place in compress(said.places, known.tolist())]
        scores = Smoothing(settings.smooth).means(windows, scores[known])
        value = max(SMALLEST, empirical_limit(scores, settings.false_alarms, settings.margin))
        self._log.info(
            "limit.found", version=said.version[:12], windows=len(scores), limit=round(value, 6)
        )
        try:
            self._known.put(said.version, Limit(value, len(scores), said.generation))
        except StoreError as error:
            self._log.warning("limit.not_kept", error=str(error))
        return True
