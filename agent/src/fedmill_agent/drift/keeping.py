# SPDX-License-Identifier: Apache-2.0
"""What is known of drift, on disk, so that a restart goes on as if there had been none.

Numbers are kept whole, as float64: a chart that goes on with rounded ones would tell another story.
"""

from math import prod
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta, Struct

from fedmill_agent.drift.charts import Chart, Levels, Standing, plans
from fedmill_agent.drift.detector import Array
from fedmill_agent.drift.normaliser import Normaliser, Tally
from fedmill_agent.drift.signals import Signal
from fedmill_agent.drift.told import Acted
from fedmill_agent.drift.trend import MOST_RUNS
from fedmill_agent.kept import Kept
from fedmill_shared.errors import DataError, ModelError
from fedmill_shared.job import Job

FILE = "drift.msgpack"


class Matrix(Struct, frozen=True):
    """A float64 array."""

    shape: tuple[int, ...]
    data: bytes

    def __post_init__(self) -> None:
        if min(self.shape, default=0) < 0 or len(self.data) != 8 * prod(self.shape):
            raise DataError(f"matrix of shape {self.shape[:8]} has {len(self.data)} bytes")

    @property
    def array(self) -> Array:
        """A copy that may be changed."""
        return np.frombuffer(self.data, "<f8").reshape(self.shape).copy()


class KeptChart(Struct, frozen=True, kw_only=True):
    """A chart without its detector, which follows from the reference."""

    name: str
    warn: float
    alarm: float
    state: Matrix
    standing: Standing
    statistic: float
    column: int
    windows: int


class KeptSignal(Struct, frozen=True, kw_only=True):
    """A signal that watches: its reference, charts, and trends by run."""

    reference: Matrix
    charts: list[KeptChart]
    trends: dict[str, Matrix] = {}


class KeptTally(Struct, frozen=True, kw_only=True):
    """Sums of samples, as ``Tally`` has them."""

    count: Matrix
    total: Matrix
    squares: Matrix


class DriftState(Kept, frozen=True, kw_only=True):
    """Everything.

    Attributes:
        version: digest of the weights that it is about.
        signals: those that watch.
        normaliser: mean, inverse, centroids and resolution that input rows are made with.
        reference: samples of the reference.
        recent: samples since an alarm that asked for a recalibration, and windows still wanted.
        recent_left: how many.
        since_drift: whether what had not learned yet learns from what comes, as the input had
            alarmed before the version began to score.
        collecting: windows that are still to be kept for training.
        judged: predictions whose truth was counted.
        acted: what was done, the newest last.
    """

    version: str
    signals: dict[str, KeptSignal]
    normaliser: list[Matrix] = msgspec.field(default_factory=list)
    reference: KeptTally | None = None
    recent: KeptTally | None = None
    recent_left: Annotated[int, Meta(ge=0)] = 0
    since_drift: bool = False
    collecting: Annotated[int, Meta(ge=0)] = 0
    judged: list[int] = msgspec.field(default_factory=list)
    acted: list[Acted] = msgspec.field(default_factory=list)


def matrix(array: Array) -> Matrix:
    """``array`` as the file holds it."""
    return Matrix(array.shape, array.astype("<f8").tobytes())


def kept_signal(signal: Signal) -> KeptSignal:
    """A signal that watches."""
    trends = {} if signal.trends is None else signal.trends.runs
    return KeptSignal(
        reference=matrix(signal.reference),
        charts=[_kept_chart(chart) for chart in signal.charts],
        trends={run: matrix(state) for run, state in trends.items()},
    )


def restore(job: Job, signal: Signal, kept: KeptSignal) -> None:
    """Watch as before; what does not fit the job's charts is learned anew.

    Raises:
        DataError: the reference has no rows.
    """
    rows = kept.reference.array
    wanted = plans(job, signal.name)
    if rows.ndim != 2 or not rows.size or [p.name for p in wanted] != [c.name for c in kept.charts]:
        raise DataError(f"drift of {signal.name}: its reference is of no use")
    charts = []
    for plan, old in zip(wanted, kept.charts, strict=True):
        detector = plan.fit(rows[:, plan.columns])
        state, fresh = old.state.array, detector.init()
        if state.shape[-1:] != fresh.shape[-1:] or state.ndim != fresh.ndim:
            raise DataError(f"drift of {signal.name}: the state of {old.name} does not fit")
        if signal.columns and old.column >= len(signal.columns):
            raise DataError(f"drift of {signal.name}: it has no column {old.column}")
        chart = Chart(plan, detector, Levels(old.warn, old.alarm), state)
        chart.standing, chart.windows = old.standing, old.windows
        chart.statistic, chart.column = old.statistic, old.column
        charts.append(chart)
    if signal.trends is not None:
        runs = {run: kept.trends[run].array for run in list(kept.trends)[-MOST_RUNS:]}
        if any(state.shape != (3, rows.shape[1]) for state in runs.values()):
            raise DataError(f"drift of {signal.name}: its trends are of other columns")
        signal.trends.runs = runs
    signal.arm(rows, charts)


def kept_tally(tally: Tally) -> KeptTally:
    """Sums as the file holds them."""
    return KeptTally(
        count=matrix(tally.count), total=matrix(tally.total), squares=matrix(tally.squares)
    )


def tally_of(kept: KeptTally, shape: tuple[int, ...]) -> Tally:
    """Sums of ``shape`` (R, S) that can be added to.

    Raises:
        DataError: they have another shape.
    """
    tally = Tally(kept.count.array, kept.total.array, kept.squares.array)
    found = tally.count.shape, tally.total.shape, tally.squares.shape
    if found != (shape[:1], shape, shape):
        raise DataError(f"sums of {found} are not of {shape}")
    return tally


def kept_normaliser(normaliser: Normaliser) -> list[Matrix]:
    """What of a standardisation does not follow from the job."""
    parts = normaliser.centroids, normaliser.inverse_resolution
    return [matrix(part) for part in (normaliser.mean, normaliser.inverse_scale, *parts)]


def normaliser_of(job: Job, kept: list[Matrix]) -> Normaliser:
    """The standardisation that was kept.

    Raises:
        ModelError: it does not fit the job's signals.
    """
    mean, inverse, centroids, resolution = (part.array for part in kept)
    regimes = job.regimes if centroids.size else []
    whole, apart = (len(mean), len(job.inputs)), (len(mean), len(regimes))
    shapes = [part.shape for part in (mean, inverse, centroids, resolution)]
    if not len(mean) or shapes != [whole, whole, apart, (len(regimes),)]:
        raise ModelError(f"a standardisation of {shapes} does not fit the job's signals")
    return Normaliser(job.inputs, regimes, mean, inverse, centroids, resolution)


def _kept_chart(chart: Chart) -> KeptChart:
    return KeptChart(
        name=chart.plan.name,
        warn=chart.levels.warn,
        alarm=chart.levels.alarm,
        state=matrix(chart.state),
        standing=chart.standing,
        statistic=chart.statistic,
        column=chart.column,
        windows=chart.windows,
    )
