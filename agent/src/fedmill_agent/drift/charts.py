# SPDX-License-Identifier: Apache-2.0
"""One detector on the columns of one signal, with its two thresholds and where it stands."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal
from zlib import crc32

import numpy as np

from fedmill_agent.drift.bootstrap import PATHS, Draws, threshold
from fedmill_agent.drift.detector import Array, Detector
from fedmill_agent.drift.ewma import Ewma
from fedmill_agent.drift.hotelling import Hotelling
from fedmill_agent.drift.ks import Smirnov
from fedmill_agent.drift.psi import Stability
from fedmill_agent.drift.rows import wears
from fedmill_shared.job import Job

Standing = Literal["quiet", "warned", "alarmed"]
RANK: dict[Standing, int] = {"quiet": 0, "warned": 1, "alarmed": 2}
PORTION = 250_000
"""Numbers of all paths that are drawn together, to spare the memory of a gateway."""
MOST_TOGETHER = 50
BRISK, FAR = 0.2, 20.0
"""Weight of averages of what has lost its trend, and where that is cut: what is left of a step must
show before it fades."""
MARGIN = 3.0
"""Some hundred windows know their own tails badly, the worse the more they resemble each other:
without this, false alarms come up to twice as often as they may (``tests.bench drift``). It costs
few windows of delay, as thresholds grow with its logarithm."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A detector that is to be: its name, its columns of a row, and how it is made of a reference.

    ``discrete`` columns hold classes.
    """

    name: str
    columns: slice
    fit: Callable[[Array], Detector]
    discrete: bool = False


@dataclass(frozen=True, slots=True)
class Levels:
    """What a statistic must exceed for a warning, and for an alarm."""

    warn: float
    alarm: float


@dataclass(frozen=True, slots=True)
class Change:
    """A chart changed where it stands.

    Attributes:
        chart: its name.
        before: where it stood.
        now: where it stands.
        statistic: what was measured.
        limit: the threshold for it, or that for a warning where it went back to quiet.
        column: the column that is farthest away; -1 for all of them together.
        windows: rows since the chart began.
    """

    chart: str
    before: Standing
    now: Standing
    statistic: float
    limit: float
    column: int
    windows: int


@dataclass(slots=True, eq=False)
class Chart:
    """Owns the state of one detector."""

    plan: Plan
    detector: Detector
    levels: Levels
    state: Array
    standing: Standing = "quiet"
    statistic: float = 0.0
    column: int = -1
    windows: int = 0

    def step(self, row: Array) -> Change | None:
        """Take a row of the signal; what changed, if anything did.

        A warning or an alarm stays until the statistic is below the threshold for a warning.
        """
        self.windows += 1
        self.state, reading = self.detector.step(self.state, row[self.plan.columns])
        if reading is None:
            return None
        self.statistic, self.column = reading.statistic, reading.column
        before, now = self.standing, self._now()
        if now == before:
            return None
        self.standing = now
        limit = self.levels.alarm if now == "alarmed" else self.levels.warn
        return Change(self.plan.name, before, now, self.statistic, limit, self.column, self.windows)

    def _now(self) -> Standing:
        if self.statistic > self.levels.alarm:
            return "alarmed"
        if self.statistic <= self.levels.warn:
            return "quiet"
        return "warned" if self.standing == "quiet" else self.standing


def plans(job: Job, signal: str) -> list[Plan]:
    """The detectors of a signal."""
    block, every = job.drift.block_windows, slice(None)
    if signal == "representation":
        return [Plan("representation-hotelling", every, Hotelling.fit)]
    chart = Plan(f"{signal}-ewma", every, Ewma.fit)
    if signal == "residual":
        return [chart]
    if wears(job):  # blocks would be of several ages, and of a step only its beginning is left
        return [Plan(chart.name, every, partial(Ewma.fit, weight=BRISK, limit=FAR))]
    test = Plan(f"{signal}-ks", every, lambda rows: Smirnov.fit(rows, block))
    if signal == "input":
        index = Plan("input-psi", every, lambda rows: Stability.fit(rows, block))
        return [chart, test, index]
    if job.job.task != "classification":
        return [chart, test]
    edges: Array = np.arange(0.5, len(job.labels.classes) - 1, dtype=np.float64)[None]
    classes = Plan(
        "output-psi",
        slice(-1, None),
        lambda rows: Stability.within(rows, edges, block),
        discrete=True,
    )
    return [Plan("output-ewma", slice(0, -1), Ewma.fit), classes]


def shared_run_length(job: Job, run_length: float) -> float:
    """What each chart of ``job`` may take, so that all together keep ``run_length``."""
    return MARGIN * run_length * sum(len(plans(job, signal)) for signal in job.drift.watch)


def calibrated(job: Job, signal: str, rows: Array, longest_run: int = 1) -> list[Chart]:
    """The charts of a signal, whose reference are ``rows`` (n, columns). Takes up to seconds.

    ``longest_run`` is that of the reference: a life is drawn as a whole, as far as that goes.
    """
    return [_calibrated(job, plan, rows, longest_run) for plan in plans(job, signal)]


def _calibrated(job: Job, plan: Plan, rows: Array, longest_run: int) -> Chart:
    own = rows[:, plan.columns]
    detector = plan.fit(own)
    seed = crc32(f"{job.name}/{plan.name}".encode())
    least = longest_run if wears(job) else 1
    draws = Draws(seed, discrete=plan.discrete, least=least)
    paths = max(1, min(MOST_TOGETHER, PORTION // max(1, own.size)))
    sizes = [min(paths, PATHS - first) for first in range(0, PATHS, paths)]
    maxima = np.concatenate([detector.maxima(own, draws, size) for size in sizes])
    limits = []
    for wanted in (job.drift.warn_run_length, job.drift.run_length):
        length = shared_run_length(job, float(wanted))
        limit = threshold(maxima, detector.span, length)
        if isinstance(detector, Smirnov):
            limit = max(limit, detector.floor(length))
        limits.append(limit)
    return Chart(plan, detector, Levels(limits[0], limits[1]), detector.init())


def highest(standings: Sequence[Standing]) -> Standing:
    """The most serious of ``standings``; quiet where there is none."""
    return max(standings, key=RANK.__getitem__, default="quiet")


def sigmas(chart: str, value: float) -> float:
    """A statistic for people: charts of averages in deviations, others as they are."""
    averages = chart.endswith(("-ewma", "-hotelling"))
    return math.sqrt(max(value, 0.0)) if averages else value
