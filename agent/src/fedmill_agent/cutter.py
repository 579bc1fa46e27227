# SPDX-License-Identifier: Apache-2.0
"""From a source's events to usable windows of a job: the one way that data takes, live or not."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.sources.base import Event, RunEnded, Samples, SourceOptions
from fedmill_shared.errors import SchemaError
from fedmill_shared.job import Signal
from fedmill_shared.job import Window as WindowSettings
from fedmill_shared.signals.quality import mend, usable
from fedmill_shared.signals.units import affine
from fedmill_shared.signals.windows import Window, Windower


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
    """Owns the windower of one source.

    Attributes:
        tags: what to ask the source for, a tag for each signal.
        bad: windows so far in which too much is missing.
    """

    def __init__(
        self, job: str, signals: Sequence[Signal], window: WindowSettings, source: SourceOptions
    ) -> None:
        """Map ``source`` to the ``signals`` of the job called ``job``.

        Raises:
            SchemaError: it does not fit.
        """
        self._mapping = map_source(job, signals, source)
        self._windower = Windower(window.length, window.stride or window.length, window.pad)
        self.tags = self._mapping.tags
        self.bad = 0

    def take(self, event: Event) -> list[Window]:
        """The usable windows, float32 (S, length) in the job's units, that ``event`` completes.

        Raises:
            DataError: no window can be made of it.
        """
        match event:
            case Samples(run, unit, start_ns, period_ns, values):
                converted = self._mapping.convert(values)
                found = self._windower.push(run, unit, start_ns, period_ns, converted)
            case RunEnded(run):
                found = self._windower.end(run)
            case _:
                return []
        good = [window for window in map(mend, found) if usable(window)]
        self.bad += len(found) - len(good)
        return good


def map_source(job: str, signals: Sequence[Signal], source: SourceOptions) -> Mapping:
    """Tags and unit conversions of ``source`` for the ``signals`` of the job called ``job``.

    Raises:
        SchemaError: a unit is unknown or cannot be converted, or the source maps a signal that
            the job does not have.
    """
    names = [signal.name for signal in signals]
    for signal in {*source.tags, *source.units} - set(names):
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
    try:
        return affine(source.units.get(signal.name, signal.unit), signal.unit)
    except SchemaError as error:
        raise SchemaError(
            f"source {source.name!r}: signal {signal.name!r}: {error.message}",
            remedy=error.remedy,
        ) from error
