# SPDX-License-Identifier: Apache-2.0
"""From the rows of a recording to its runs, and to the rate that its times tell."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, islice, pairwise

import numpy as np

from fedmill_agent.sources.base import Event, RunEnded
from fedmill_agent.sources.csv.grid import on_grid
from fedmill_agent.sources.csv.table import Row
from fedmill_agent.sources.csv.track import track
from fedmill_agent.sources.files import rate_factor, stem
from fedmill_agent.sources.tabular import TabularOptions
from fedmill_shared.errors import DataError

SPACING_ROWS = 256
"""First rows of a file that tell how far its rows are apart."""


@dataclass(frozen=True, slots=True)
class Naming:
    """How runs and machines of a file are called.

    Attributes:
        run: name of the run, or what precedes it.
        unit: the machine, where no column names it.
        by_unit: whether a column names the machine.
        by_run: whether a column names the batch or recording.
    """

    run: str
    unit: str
    by_unit: bool = False
    by_run: bool = False

    def name(self, run_cell: str, unit_cell: str) -> str:
        """Name of the run of a row."""
        cells = [unit_cell] * self.by_unit + [run_cell] * self.by_run
        return "-".join([self.run, *cells])


def naming_of(options: TabularOptions, path: str) -> Naming:
    """How the runs and machines of the file ``path`` are called."""
    return Naming(
        options.run or stem(path),
        options.unit or stem(path),
        by_unit=bool(options.unit_column),
        by_run=bool(options.run_column),
    )


def events(path: str, table: Iterator[Row], naming: Naming, period_ns: int) -> Iterator[Event]:
    """Samples, labels and end of every run; a run ends where the cells that name it change.

    Raises:
        DataError: time goes back, the rows have another rate, or a run starts again.
    """
    seen: set[str] = set()
    for (run_cell, unit_cell), group in groupby(table, key=_key):
        run = naming.name(run_cell, unit_cell)
        stamped = on_grid(path, _once(path, run, seen, group), period_ns)
        yield from track(run, unit_cell or naming.unit, period_ns, stamped)
        yield RunEnded(run)


def told_hz(table: Iterator[Row]) -> float:
    """Rows per second by the median spacing of the first ones; 0 where they do not tell."""
    steps = [
        after.time_ns - before.time_ns
        for before, after in pairwise(islice(table, SPACING_ROWS))
        if _key(before) == _key(after)
    ]
    spacing = float(np.median(steps)) if steps else 0.0
    return 1e9 / spacing if spacing > 0 else 0.0


def file_period_hz(path: str, own_hz: float, rate_hz: float) -> float:
    """Samples per second of a file that tells ``own_hz`` (0: nothing) to a job at ``rate_hz``.

    Raises:
        DataError: the one is no whole multiple of the other.
    """
    rate_factor(path, own_hz, rate_hz)
    return own_hz or rate_hz


def _key(row: Row) -> tuple[str, str]:
    return row.run, row.unit


def _once(path: str, run: str, seen: set[str], group: Iterator[Row]) -> Iterator[Row]:
    for index, row in enumerate(group):
        if index == 0 and run in seen:
            raise DataError(
                f"{path}: line {row.line}: run {run!r} starts again after another run",
                remedy="sort the file so that the rows of a run are together",
            )
        seen.add(run)
        yield row
