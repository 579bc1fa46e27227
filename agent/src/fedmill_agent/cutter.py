# SPDX-License-Identifier: Apache-2.0
"""From a source's events to usable windows of a job: the one way that data takes, live or not."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.sources.base import Event, RunEnded, Samples, SourceOptions
from fedmill_agent.sources.files import shorten
from fedmill_shared.errors import SchemaError
from fedmill_shared.job import Cleaning, Features, Job, Signal
from fedmill_shared.job import Window as WindowSettings
from fedmill_shared.job.data import window_rate
from fedmill_shared.signals.cutting import windower_for
from fedmill_shared.signals.preparation import Preparation, Prepared
from fedmill_shared.signals.quality import Fault
from fedmill_shared.signals.units import affine
from fedmill_shared.signals.windows import Window, Windower

if TYPE_CHECKING:
    from fedmill_agent.labels.forecast import Forecaster
    from fedmill_shared.signals.rates import Resampler

MOST_VALUES = 1 << 22
"""Values of the windows that are made at once, as far as one does not have more."""
MOST_FAULTS = 8
"""Kinds of fault that are told."""


@dataclass(frozen=True, slots=True)
class Mapping:
    """How one source feeds a job's S signals.

    Attributes:
        tags: what the source calls each signal.
        factor: (S, 1), from the source's unit to the job's.
        offset: (S, 1), in the job's unit.
    """

    tags: list[str]
    factor: NDArray[np.float64]
    offset: NDArray[np.float64]

    def convert(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """``values`` (S, samples) from the source's units to the job's."""
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is bad, not an error
            return (values * self.factor + self.offset).astype(np.float32)


class Cutter:
    """Owns the windower of one source, and what brings its signals to one rate.

    A source is as fast as the job's windows, or a whole number of times faster.

    Attributes:
        tags: what to ask the source for, a tag for each signal.
        bad: windows so far that cannot be used.
        faults: ``signal: fault`` -> how many of them it made unusable.
    """

    def __init__(
        self,
        job: str,
        signals: Sequence[Signal],
        window: WindowSettings,
        source: SourceOptions,
        *,
        cleaning: Cleaning,
        features: Features | None = None,
    ) -> None:
        """Map ``source`` to the ``signals`` of the job called ``job``.

        Raises:
            SchemaError: it does not fit.
        """
        self._names = [signal.name for signal in signals]
        self._rates = [signal.rate_hz for signal in signals]
        self._switched = [signal.role == "regime" for signal in signals]
        self._window_hz = window_rate(signals)
        self._resampler: Resampler | None = None
        self._preparation = Preparation.of(signals, cleaning, window, features)
        self._mapping = map_source(job, signals, source)
        self._windower: Windower | Forecaster = windower_for(signals, window)
        overlapping = max(1, MOST_VALUES // (len(signals) * window.length))
        self._portion = overlapping * (1 if window.trigger else window.stride or window.length)
        self.tags = self._mapping.tags
        self.bad = 0
        self.faults: Counter[str] = Counter()

    def watch(self, job: Job) -> "Forecaster | None":
        """What sees the values that ``job`` foretells; None where it foretells nothing."""
        if job.labels.source != "forecast":
            return None
        from fedmill_agent.labels.forecast import Forecaster  # noqa: PLC0415  few jobs need it

        if isinstance(self._windower, Windower):
            self._windower = Forecaster(job, self._windower)
        return self._windower

    def take(self, event: Event) -> list[Window]:
        """The usable windows that ``event`` completes, float32 (S, length) in the job's units.

        Where the job wants features, they are its channels, float32 (channels, 1).

        Raises:
            DataError: no window can be made of it.
        """
        return [window for batch in self.batches(event) for window in batch]

    def batches(self, event: Event) -> Iterator[list[Window]]:
        """The same in batches of a bounded size: windows that overlap much are much more data.

        Raises:
            DataError: no window can be made of it.
        """
        match event:
            case Samples(run, unit, start_ns, period_ns, values):
                for first in range(0, values.shape[1], self._portion):
                    piece = self._mapping.convert(values[:, first : first + self._portion])
                    begin_ns = start_ns + first * period_ns
                    yield self._usable(self._push(run, unit, begin_ns, period_ns, piece))
            case RunEnded(run):
                yield self._usable(self._end(run))

    def _usable(self, found: list[Window]) -> list[Window]:
        prepared = [self._preparation.apply(window) for window in found]
        for each in prepared:
            if not each.usable:
                self._count(each)
        return [each.window for each in prepared if each.usable]

    def _push(
        self, run: str, unit: str, start_ns: int, period_ns: int, values: NDArray[np.float32]
    ) -> list[Window]:
        resampler = self._resampling(period_ns)
        if resampler is None:
            return self._windower.push(run, unit, start_ns, period_ns, values)
        return [
            window
            for part in resampler.push(run, unit, start_ns, period_ns, values)
            for window in self._windower.push(
                run, part.unit, part.start_ns, part.period_ns, part.values
            )
        ]

    def _end(self, run: str) -> list[Window]:
        found: list[Window] = []
        for part in self._resampler.end(run) if self._resampler else []:
            found += self._windower.push(run, part.unit, part.start_ns, part.period_ns, part.values)
        return found + self._windower.end(run)

    def _resampling(self, period_ns: int) -> "Resampler | None":
        """What brings samples ``period_ns`` apart to one rate, once something needs it."""
        faster = 1.5 * self._window_hz * period_ns < 1e9
        if self._resampler is None and (faster or len(set(self._rates)) > 1):
            from fedmill_shared.signals.rates import Resampler  # noqa: PLC0415  few jobs need it

            self._resampler = Resampler(self._rates, self._switched)
        return self._resampler

    def _count(self, prepared: Prepared) -> None:
        """A window that cannot be used, by what is wrong with most values of its worst signal."""
        self.bad += 1
        codes = np.where(np.isfinite(prepared.window.values), 0, prepared.codes)
        if not codes.any():  # all could be repaired, and it was too much
            codes = prepared.codes
        worst = int(np.count_nonzero(codes, axis=1).argmax())
        fault = Fault(int(np.bincount(codes[worst], minlength=len(Fault))[1:].argmax()) + 1)
        self.faults[f"{self._names[worst]}: {fault.words}"] += 1


def told_faults(faults: dict[str, int]) -> str:
    """What is wrong with windows and with how many, the most frequent first, for people."""
    ordered = sorted(faults.items(), key=lambda item: (-item[1], item[0]))
    return shorten([f"{fault} {count}" for fault, count in ordered], MOST_FAULTS)


def cutter_for(job: Job, source: SourceOptions) -> Cutter:
    """Cuts what ``source`` delivers as ``job`` wants it.

    Raises:
        SchemaError: it does not fit.
    """
    return Cutter(
        job.name, job.signals, job.window, source, cleaning=job.cleaning, features=job.features
    )


def map_source(job: str, signals: Sequence[Signal], source: SourceOptions) -> Mapping:
    """Tags and unit conversions of ``source`` for the ``signals`` of the job called ``job``.

    Raises:
        SchemaError: a unit is unknown or cannot be converted, or the source maps a signal that
            the job does not have.
    """
    names = [signal.name for signal in signals]
    for signal in {*source.tags, *source.units, *source.scales, *source.offsets} - set(names):
        raise SchemaError(
            f"source {source.name!r} maps signal {signal!r}, which job {job!r} does not have",
            remedy=f"signals of the job: {', '.join(names)}",
        )
    pairs = [_conversion(source, signal) for signal in signals]
    return Mapping(
        [source.tags.get(s.name) or s.tag or s.name for s in signals],
        np.array([factor for factor, _ in pairs])[:, None],
        np.array([offset for _, offset in pairs])[:, None],
    )


def _conversion(source: SourceOptions, signal: Signal) -> tuple[float, float]:
    scale, offset = source.scales.get(signal.name, 1.0), source.offsets.get(signal.name, 0.0)
    try:
        factor, shift = affine(source.units.get(signal.name, signal.unit), signal.unit)
    except SchemaError as error:
        raise SchemaError(
            f"source {source.name!r}: signal {signal.name!r}: {error.message}",
            remedy=error.remedy,
        ) from error
    return factor * scale, factor * offset + shift
