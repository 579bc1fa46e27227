# SPDX-License-Identifier: Apache-2.0
"""What a source would deliver: it is read once, up to a bound, and counted; nothing is kept."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.cutter import cutter_for
from fedmill_agent.sources import kind_of
from fedmill_agent.sources.base import Event, LabelInterval, Samples, SourceOptions
from fedmill_agent.sources.files import shorten
from fedmill_agent.store.dataset import LabelRow, Truth, WindowRow
from fedmill_agent.store.joining import Joining, joining_of, truth_of
from fedmill_shared.clock import Clock
from fedmill_shared.errors import DataError
from fedmill_shared.job import Job

MOST_VALUES = 1 << 22
MOST_WINDOWS = 100_000
MOST_SECONDS = 10.0
"""A source is read to its end, or until one of these is reached."""
RATE_TOLERANCE = 0.05
"""Times in a file are not exact."""
ASSUMED_HZ = 16_384.0
"""Asked for where neither a job nor the source has a rate. Only times, which are not shown, depend
on it, and what the simulated rig makes up: its resonances need a high one."""


@dataclass(slots=True)
class Extent:
    """What one tag delivered, in the source's unit: its extreme values, and how many are good."""

    low: float = np.inf
    high: float = -np.inf
    good: int = 0

    def take(self, values: NDArray[np.float64]) -> None:
        """Count ``values`` (samples,); what is not finite is bad."""
        finite = values[np.isfinite(values)]
        if len(finite):
            self.low = min(self.low, float(finite.min()))
            self.high = max(self.high, float(finite.max()))
            self.good += len(finite)


@dataclass(slots=True)
class Delivery:
    """What came of a source.

    Attributes:
        tags: what was asked for.
        extents: of each of them.
        own_hz: samples per second that the source itself tells; 0 where it tells none.
        rate_hz: samples per second that it delivered.
        samples: of each tag.
        runs: names of the recordings, batches or lives.
        windows: good ones, without their values; none where there is no job.
        bad: windows in which too much is wrong: they are neither scored nor stored.
        faults: what made how many of them so, as ``signal: fault``.
        labels: those that the job can use.
        foreign: how often labels came that it cannot use, by text; a number has none.
        whole: whether the source was read to its end.
    """

    tags: list[str]
    extents: list[Extent]
    own_hz: float = 0.0
    rate_hz: float = 0.0
    samples: int = 0
    runs: set[str] = field(default_factory=set)
    windows: list[WindowRow] = field(default_factory=list)
    bad: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    labels: list[LabelRow] = field(default_factory=list)
    foreign: Counter[str] = field(default_factory=Counter)
    whole: bool = True
    joining: Joining = field(default_factory=Joining)

    def truth(self) -> Truth:
        """Ground truth of the good windows, as the store would join it."""
        rows = sorted(self.windows, key=lambda row: (row.run, row.end_ns, row.start_ns))
        return truth_of(rows, self.labels, [], self.joining)


def read_tags(source: SourceOptions, clock: Clock) -> Delivery:
    """What ``source`` delivers of the tags that it maps, at its own rate.

    Raises:
        DataError: it cannot be read.
    """
    tags = list(source.tags.values())
    delivery = Delivery(tags, [Extent() for _ in tags], own_hz=kind_of(source).rate(source))
    for event in _bounded(source, delivery.own_hz or ASSUMED_HZ, delivery, clock):
        if isinstance(event, Samples):
            _count(delivery, event)
    return delivery


def read_for(source: SourceOptions, job: Job, clock: Clock) -> Delivery:
    """What ``source`` delivers to ``job``.

    Raises:
        SchemaError: it does not fit the job.
        DataError: it cannot be read, or lacks signals.
    """
    cutter = cutter_for(job, source)
    tags, rate_hz = cutter.tags, job.rate_hz
    delivery = Delivery(tags, [Extent() for _ in tags], own_hz=kind_of(source).rate(source))
    delivery.joining, forecaster = joining_of(job.labels), cutter.watch(job)
    try:
        for event in _bounded(source, rate_hz, delivery, clock):
            if isinstance(event, Samples):
                _count(delivery, event)
            if isinstance(event, LabelInterval):
                _keep(delivery, job, event)
            delivery.windows += [
                WindowRow(0, window.run, window.unit, window.start_ns, window.end_ns)
                for window in cutter.take(event)
            ]
            delivery.bad, delivery.faults = cutter.bad, cutter.faults
    except DataError as error:
        lacking = _all_lacking(source, job, tags)
        if lacking is not None:
            raise lacking from error
        if delivery.own_hz and abs(delivery.own_hz / rate_hz - 1) > RATE_TOLERANCE:
            told = f"; its own rate is {delivery.own_hz:.6g} Hz, the job's {rate_hz:.6g} Hz"
            raise DataError(error.message + told, remedy=error.remedy) from error
        raise
    if forecaster is not None:
        targets = {tuple(found[:3]): found[3] for found in forecaster.taken()}
        delivery.windows = [
            row._replace(target=targets.get((row.run, row.start_ns, row.end_ns)))
            for row in delivery.windows
        ]
    return delivery


def _bounded(
    source: SourceOptions, rate_hz: float, delivery: Delivery, clock: Clock
) -> Iterator[Event]:
    """Events of ``source`` until it ends or enough has come."""
    end = clock.monotonic() + MOST_SECONDS
    for event in kind_of(source).read(source, delivery.tags, rate_hz):
        yield event
        many = delivery.samples * len(delivery.tags) >= MOST_VALUES
        if many or len(delivery.windows) >= MOST_WINDOWS or clock.monotonic() > end:
            delivery.whole = False
            return


def _count(delivery: Delivery, samples: Samples) -> None:
    delivery.rate_hz = 1e9 / samples.period_ns
    delivery.samples += samples.values.shape[1]
    delivery.runs.add(samples.run)
    for extent, values in zip(delivery.extents, samples.values, strict=True):
        extent.take(values)


def _keep(delivery: Delivery, job: Job, label: LabelInterval) -> None:
    if job.labels.source == "forecast" or not job.needs_labels:
        return
    classified, counts = job.job.task == "classification", job.labels.source == "event"
    if label.text not in job.labels.classes if classified else label.text and not counts:
        delivery.foreign[label.text] += 1
        return
    delivery.labels.append(
        LabelRow(
            label.run,
            label.start_ns,
            label.end_ns,
            label.text,
            label.start_value,
            label.end_value,
        )
    )


def _all_lacking(source: SourceOptions, job: Job, tags: Sequence[str]) -> DataError | None:
    """All signals that ``source`` lacks, where they are several: reading tells only the first."""
    faults = {
        signal.name: fault
        for signal, tag in zip(job.signals, tags, strict=True)
        if (fault := _fault_alone(source, tag, job.rate_hz)) is not None
    }
    if len({str(fault) for fault in faults.values()}) < 2:  # none, one, or the file itself
        return None
    mapped = dict(zip((signal.name for signal in job.signals), tags, strict=True))
    named = shorten([f"{name} (tag {mapped[name]!r})" for name in faults])
    first = next(iter(faults.values()))
    return DataError(
        f"source {source.name!r} lacks {len(faults)} of {len(tags)} signals: {named}; "
        f"{first.message}",
        remedy=first.remedy,
    )


def _fault_alone(source: SourceOptions, tag: str, rate_hz: float) -> DataError | None:
    try:
        next(kind_of(source).read(source, [tag], rate_hz), None)
    except DataError as error:
        return error
    return None
