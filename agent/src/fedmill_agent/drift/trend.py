# SPDX-License-Identifier: Apache-2.0
"""What is left of columns once their slow trend is taken away: wear is no drift.

Holt 1957, "Forecasting seasonals and trends by exponentially weighted moving averages": the error
of the forecast of the next row. A straight line, however long, leaves nothing in the end; a step
leaves itself, and fades.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fedmill_agent.drift.detector import Array

LEVEL_WEIGHT = 0.1
TREND_WEIGHT = 0.01
BEGINNING = 10
"""Rows of a run from which it is learned where it begins: its mean, and nothing is said of them."""
MOST_RUNS = 64


@dataclass(slots=True)
class Trends:
    """Level, trend and number of rows (3, columns) of the runs that were seen last; 64 at most."""

    runs: dict[str, Array] = field(default_factory=dict)

    def step(self, run: str, row: Array) -> Array:
        """How far ``row`` (columns,) is from where its run was going; 0 in its beginning."""
        before = self.runs.pop(run, None)
        if before is None:
            before = np.stack((row, np.zeros_like(row), np.zeros_like(row)))
            if len(self.runs) >= MOST_RUNS:
                del self.runs[next(iter(self.runs))]
        self.runs[run], error = step(before, row)
        return error if before[2, 0] >= BEGINNING else np.zeros_like(error)


def step(state: Array, row: Array) -> tuple[Array, Array]:
    """Level, trend and number (3, columns) after ``row`` (columns,), and how far that was off."""
    level, trend, count = state
    error = row - level - trend
    level = level + trend + np.maximum(LEVEL_WEIGHT, 1.0 / (count + 1.0)) * error
    grown = trend + np.where(count < BEGINNING, 0.0, LEVEL_WEIGHT * TREND_WEIGHT) * error
    return np.stack((level, grown, count + 1.0)), error


def detrended(runs: Sequence[str], rows: Array) -> Array:
    """Each of ``rows`` (n, columns), in their order, as ``Trends`` sees it."""
    trends = Trends()
    return np.array([trends.step(run, row) for run, row in zip(runs, rows, strict=True)])
