# SPDX-License-Identifier: Apache-2.0
"""From a window's samples to the features that its job names: one file for each step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.job.data import Signal, Window
from fedmill_shared.job.features import (
    Features,
    Grid,
    Step,
    band_edges,
    channels,
    grid_of,
    pass_bins,
    top_bin,
)
from fedmill_shared.signals.features.envelope_spectrum import envelope_spectrum
from fedmill_shared.signals.features.log_spectrum import log_spectrum
from fedmill_shared.signals.features.time_statistics import time_statistics

Numbers = NDArray[np.float64]

_TOGETHER = 1 << 17
"""Values of signals that are transformed at a time: it takes ten times their memory."""
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True, eq=False)
class Extractor:
    """Computes a job's features.

    Attributes:
        inputs: positions of the signals whose features are computed.
        regimes: positions of the signals whose mean is kept.
        input_rows: rows of the result that hold the features, signal by signal.
        regime_rows: rows that hold the means.
        steps: each gives float64 (windows, signals, features) of float64 (windows, signals,
            length).
    """

    inputs: list[int]
    regimes: list[int]
    input_rows: list[int]
    regime_rows: list[int]
    steps: list[Callable[[Numbers], Numbers]]

    @classmethod
    def of(cls, signals: Sequence[Signal], window: Window, features: Features) -> Self:
        """That of a job with these ``signals``."""
        rows = channels(signals, window, features)
        grid = grid_of(signals, window)
        return cls(
            inputs=[i for i, signal in enumerate(signals) if signal.role == "input"],
            regimes=[i for i, signal in enumerate(signals) if signal.role == "regime"],
            input_rows=[i for i, row in enumerate(rows) if row.role == "input"],
            regime_rows=[i for i, row in enumerate(rows) if row.role == "regime"],
            steps=[_step(name, grid, features) for name in features.steps],
        )

    def apply(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features float32 (windows, rows, 1) of float32 (windows, signals, length), all finite.

        Every window is computed by itself: the result of one does not depend on its company.
        """
        count, _, length = windows.shape
        result = np.zeros((count, len(self.input_rows) + len(self.regime_rows)))
        together = max(1, _TOGETHER // length)
        found = []
        for first in range(0, len(self.inputs), together):
            part = self.inputs[first : first + together]
            inputs = np.ascontiguousarray(windows[:, part], np.float64)
            each = np.concatenate([step(inputs) for step in self.steps], axis=2)
            found.append(each.reshape(count, -1))
        result[:, self.input_rows] = np.concatenate(found, axis=1)
        regimes = np.ascontiguousarray(windows[:, self.regimes], np.float64)
        result[:, self.regime_rows] = regimes.mean(axis=2)
        return np.clip(result, -_LARGEST, _LARGEST).astype(np.float32)[:, :, None]


def _step(name: Step, grid: Grid, features: Features) -> Callable[[Numbers], Numbers]:
    if name == "time_statistics":
        return time_statistics
    if name == "log_spectrum":
        return partial(log_spectrum, edges=band_edges(grid.length // 2, features.bands))
    return partial(
        envelope_spectrum,
        band=pass_bins(grid, features),
        edges=band_edges(top_bin(grid, features), features.envelope_bands),
    )
