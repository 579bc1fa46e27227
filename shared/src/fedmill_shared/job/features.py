# SPDX-License-Identifier: Apache-2.0
"""What a job computes from each window before the model sees it, and what the rows are then."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Annotated, Literal

from msgspec import Meta, Struct

from fedmill_shared.job.data import Signal, Window, window_rate

Step = Literal["time_statistics", "log_spectrum", "envelope_spectrum"]
Bands = Annotated[int, Meta(ge=1, le=128)]

STATISTICS = (
    "mean",
    "deviation",
    "rms",
    "peak",
    "skewness",
    "kurtosis",
    "crest",
    "impulse",
)
"""What ``time_statistics`` gives for each signal, in this order."""
ENVELOPE_SHARE = 8
"""Without ``envelope_top``, the bands of the envelope end at this part of half the rate."""


class Features(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the model gets instead of the samples of its inputs: a few numbers of each window."""

    steps: Annotated[
        list[Step],
        Meta(
            max_length=3,
            description="What is computed of every input signal, in this order: moments, peak and "
            "crest; the power in bands of equal width; the same of the envelope, where the "
            "impacts of bearings and gears show. Empty: the model gets the samples.",
        ),
    ] = []
    bands: Annotated[
        Bands, Meta(description="Bands of `log_spectrum`, from 0 to half the rate.")
    ] = 16
    envelope_bands: Annotated[Bands, Meta(description="Bands of `envelope_spectrum`.")] = 16
    envelope_band: Annotated[
        list[float],
        Meta(
            max_length=2,
            description="What `envelope_spectrum` demodulates, such as a resonance, in Hz as in "
            "`[2000, 4000]`, or in orders with `window.order`. Empty: the whole signal.",
        ),
    ] = []
    envelope_top: Annotated[
        float,
        Meta(
            ge=0.0,
            description="Where the bands of `envelope_spectrum` end, Hz (or orders), such as a few "
            "times the highest rate of impacts. 0: a sixteenth of the rate.",
        ),
    ] = 0.0


@dataclass(frozen=True, slots=True)
class Channel:
    """One row of the model's input.

    Attributes:
        name: the signal's, and behind a dot the feature's where there is one.
        signal: position of the signal that it comes from.
        role: of that signal.
        resolution: of that signal.
    """

    name: str
    signal: int
    role: Literal["input", "regime"]
    resolution: float


@dataclass(frozen=True, slots=True)
class Grid:
    """What a window looks like when features are computed from it.

    Attributes:
        length: values of each signal.
        rate: values per ``unit`` of time or angle.
        unit: what the frequencies of its spectrum are counted in.
    """

    length: int
    rate: float
    unit: str

    def bins(self, frequency: float) -> int:
        """Bins of the spectrum up to ``frequency``, without that at 0."""
        return min(self.length // 2, int(frequency * self.length / self.rate * (1 + 1e-9)))


def grid_of(signals: Sequence[Signal], window: Window) -> Grid:
    """The grid of windows of ``signals``."""
    if window.order:
        return Grid(window.revolutions * window.per_revolution, window.per_revolution, "orders")
    return Grid(window.length, window_rate(signals), "hz")


def input_length(window: Window, features: Features) -> int:
    """Values of each row of the model's input."""
    if features.steps:
        return 1
    return window.revolutions * window.per_revolution if window.order else window.length


def channels(signals: Sequence[Signal], window: Window, features: Features) -> list[Channel]:
    """The rows of the model's input: the signals, or the features of each input signal."""
    names = feature_names(grid_of(signals, window), features)
    found = []
    for index, signal in enumerate(signals):
        if signal.role == "input" and names:
            rows = [f"{signal.name}.{feature}" for feature in names]
        else:
            rows = [signal.name]
        found += [Channel(row, index, signal.role, signal.resolution) for row in rows]
    return found


def feature_names(grid: Grid, features: Features) -> list[str]:
    """What is computed of each input signal of windows on ``grid``."""
    return [name for step in features.steps for name in _names(step, grid, features)]


def _names(step: Step, grid: Grid, features: Features) -> Iterator[str]:
    if step == "time_statistics":
        yield from STATISTICS
    elif step == "log_spectrum":
        yield from _band_names("spectrum", grid, grid.length // 2, features.bands)
    else:
        top = top_bin(grid, features)
        yield from _band_names("envelope", grid, top, features.envelope_bands)


def _band_names(kind: str, grid: Grid, bins: int, bands: int) -> Iterator[str]:
    edges = [edge * grid.rate / grid.length for edge in band_edges(bins, bands)]
    for low, high in pairwise(edges):
        yield f"{kind}_{low:.6g}-{high:.6g}_{grid.unit}"


def band_edges(bins: int, bands: int) -> list[int]:
    """Where ``bands`` of about equal width begin among ``bins``, and where the last one ends."""
    return [band * bins // bands for band in range(bands + 1)]


def top_bin(grid: Grid, features: Features) -> int:
    """Bins of the envelope's spectrum that its bands divide."""
    return grid.bins(features.envelope_top or grid.rate / 2 / ENVELOPE_SHARE)


def pass_bins(grid: Grid, features: Features) -> tuple[int, int]:
    """First and last bin of the spectrum whose envelope is taken."""
    if not features.envelope_band:
        return 1, grid.length // 2
    low, high = features.envelope_band
    return max(1, ceil(low * grid.length / grid.rate * (1 - 1e-9))), grid.bins(high)
