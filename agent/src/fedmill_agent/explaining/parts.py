# SPDX-License-Identifier: Apache-2.0
"""Parts of a window that can be exchanged for those of another: signals, features, and bands."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.job import Job
from fedmill_shared.job.features import Grid, band_edges, grid_of

MOST_BANDS = 16
LEAST_RATE_HZ = 100.0
"""Slower signals are no vibration: nobody thinks of a temperature in bands."""
LEAST_SAMPLES = 64


class Part(Protocol):
    """Something of a window."""

    def copy(self, source: NDArray[np.float32], target: NDArray[np.float32]) -> None:
        """Make this part of ``target`` (rows, length) that of ``source``."""
        ...


@dataclass(frozen=True, slots=True)
class Rows:
    """Whole rows of the model's input, in a row.

    Attributes:
        positions: of the rows.
        first: name of the first one, or of the signal that all of them are of.
        last: name of the last one, the same where there is one.
    """

    positions: tuple[int, ...]
    first: str
    last: str

    def copy(self, source: NDArray[np.float32], target: NDArray[np.float32]) -> None:
        """See ``Part``."""
        places = list(self.positions)
        target[places] = source[places]


@dataclass(frozen=True, slots=True)
class Band:
    """A band of frequencies of one row; the first one has what does not move at all.

    Attributes:
        position: of the row.
        begin: first bin of the spectrum.
        end: one past the last.
        low: where it begins, in ``unit``.
        high: where it ends.
        unit: Hz or orders.
    """

    position: int
    begin: int
    end: int
    low: float
    high: float
    unit: str

    def copy(self, source: NDArray[np.float32], target: NDArray[np.float32]) -> None:
        """See ``Part``; everything else of the row keeps its amplitude and phase."""
        length = target.shape[1]
        spectrum = np.fft.rfft(target[self.position].astype(np.float64))
        given = np.fft.rfft(source[self.position].astype(np.float64))
        spectrum[self.begin : self.end] = given[self.begin : self.end]
        target[self.position] = np.fft.irfft(spectrum, length)


def signal_parts(job: Job) -> list[Rows]:
    """The input signals, each with all that the model sees of it."""
    rows: dict[int, list[int]] = {}
    for position in job.inputs:
        rows.setdefault(job.channels[position].signal, []).append(position)
    return [
        Rows(tuple(positions), job.signals[signal].name, job.signals[signal].name)
        for signal, positions in rows.items()
    ]


def feature_parts(job: Job, signal: Rows) -> list[Rows]:
    """The features of a signal, one by one."""
    names = [job.channels[position].name for position in signal.positions]
    prefix = f"{signal.first}."
    short = [name.removeprefix(prefix) for name in names]
    return [
        Rows((position,), name, name)
        for position, name in zip(signal.positions, short, strict=True)
    ]


def bands(job: Job, signal: Rows) -> list[Band]:
    """Bands of equal width of a signal that vibrates; none of any other."""
    grid, [position, *others] = grid_of(job.signals, job.window), signal.positions
    own = job.signals[job.channels[position].signal].rate_hz
    if others or job.features.steps or grid.length < LEAST_SAMPLES or own < LEAST_RATE_HZ:
        return []
    unit = "Hz" if grid.unit == "hz" else grid.unit
    reach = grid.bins(own / 2) if unit == "Hz" else grid.length // 2
    edges = band_edges(reach + 1, min(MOST_BANDS, reach + 1))
    return [
        Band(position, begin, end, _frequency(begin, grid), _frequency(end, grid), unit)
        for begin, end in pairwise(edges)
    ]


def grouped(parts: Sequence[Rows], most: int) -> list[Rows]:
    """At most ``most`` groups of neighbours, of about equal size."""
    groups = band_edges(len(parts), min(most, len(parts)))
    return [
        Rows(
            tuple(each for part in parts[begin:end] for each in part.positions),
            parts[begin].first,
            parts[end - 1].last,
        )
        for begin, end in pairwise(groups)
    ]


def _frequency(edge: int, grid: Grid) -> float:
    """Half a bin below ``edge``, so that bands touch and hold their bins; never below 0."""
    return min(max(0.0, (edge - 0.5) * grid.rate / grid.length), grid.rate / 2)
