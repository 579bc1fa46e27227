# SPDX-License-Identifier: Apache-2.0
"""Puts rows on the job's time grid, and finds the gaps between them."""

from collections.abc import Iterator
from dataclasses import dataclass

from fedmill_agent.sources.csv.table import Row
from fedmill_shared.errors import DataError

PROBE = 16


@dataclass(frozen=True, slots=True)
class Stamped:
    """A row with its time on the grid; ``joined`` if it is one period after the row before."""

    time_ns: int
    joined: bool
    row: Row


def on_grid(path: str, run: Iterator[Row], period_ns: int) -> Iterator[Stamped]:
    """Rows of one run; a row keeps the grid of the one before within half a period.

    Raises:
        DataError: time goes back, or the rows clearly have another rate than the job.
    """
    before: Row | None = None
    grid = joined_rows = 0
    for count, row in enumerate(run, start=1):
        expected = grid + period_ns
        joined = before is not None and 2 * abs(row.time_ns - expected) <= period_ns
        if before is not None and not joined and 2 * (row.time_ns - before.time_ns) < period_ns:
            raise DataError(
                f"{path}: line {row.line} is {_seconds(row.time_ns - before.time_ns)} s after the "
                f"line before, the job has a sample every {_seconds(period_ns)} s",
                remedy="sort by time and drop double rows (summer time?), set the job's rate to "
                "that of the file, or leave `time_column` empty",
            )
        grid = expected if joined else row.time_ns
        joined_rows += joined
        if count == PROBE and joined_rows == 0:
            raise DataError(
                f"{path}: up to line {row.line} no two rows are {_seconds(period_ns)} s apart as "
                "the job's samples are",
                remedy="set the job's rate to that of the file, or resample the file",
            )
        yield Stamped(grid, joined, row)
        before = row


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e9:g}"
