# SPDX-License-Identifier: Apache-2.0
"""From the columns of a Parquet file to events."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fedmill_agent.sources.base import Event, RunEnded, Samples
from fedmill_agent.sources.csv.runs import (
    Naming,
    events,
    file_period_hz,
    naming_of,
    told_hz,
)
from fedmill_agent.sources.csv.table import Row
from fedmill_agent.sources.parquet import ParquetOptions
from fedmill_agent.sources.parquet.table import Table, floats, opened, texts, times
from fedmill_agent.sources.timeline import parse_iso, period_ns


def recorded(own: ParquetOptions, tags: Sequence[str], rate_hz: float) -> Iterator[Event]:
    """All events of a file.

    Raises:
        DataError: naming file, column and row of what cannot be used.
    """
    period = period_ns(file_period_hz(own.path, own.rate_hz, rate_hz))
    naming = naming_of(own, own.path)
    with opened(own.path) as table:
        _check(table, own, tags)
        if own.time_column or own.run_column or own.unit_column or own.label_column:
            rows = _rows(table, own, tags, period)
            yield from events(own.path, rows, naming, period)
        else:
            yield from _blocks(table, own, tags, naming, period)


def spaced_hz(own: ParquetOptions) -> float:
    """Rows per second by the times of the first rows; 0 where they do not tell.

    Raises:
        DataError: the file cannot be read, or a time in it.
    """
    with opened(own.path) as table:
        _check(table, own, ())
        return told_hz(_rows(table, own, (), 1))


def _check(table: Table, own: ParquetOptions, tags: Sequence[str]) -> None:
    table.numbers(tags)
    for option in ("run_column", "unit_column", "label_column", "time_column"):
        table.named(option, getattr(own, option))
    if own.label_column and own.label_kind == "number":
        table.numbers([own.label_column])


def _blocks(
    table: Table, own: ParquetOptions, tags: Sequence[str], naming: Naming, period: int
) -> Iterator[Event]:
    """The samples of one run whose rows are one period apart."""
    start, begun = parse_iso(own.start), False
    for chunk in table.chunks(list(dict.fromkeys(tags))):
        values = np.stack([floats(chunk[tag]) for tag in tags])
        yield Samples(naming.run, naming.unit, start, period, values)
        start += values.shape[1] * period
        begun = True
    if begun:
        yield RunEnded(naming.run)


def _rows(table: Table, own: ParquetOptions, tags: Sequence[str], period: int) -> Iterator[Row]:
    columns = [*tags, own.time_column, own.run_column, own.unit_column, own.label_column]
    number, start, shift = 1, parse_iso(own.start), None
    for chunk in table.chunks([name for name in dict.fromkeys(columns) if name]):
        count = len(next(iter(chunk.values())))
        moments = [start + (number - 1 + i) * period for i in range(count)]
        if own.time_column:
            cells = chunk[own.time_column]
            told = times(own.path, own.time_column, cells, own.time_unit, number)
            shift = start - told[0] if shift is None else shift
            moments = [moment + shift for moment in told]
        values = np.stack([floats(chunk[tag]) for tag in tags]).T.tolist() if tags else [[]] * count
        runs, units = _named(chunk, own.run_column, count), _named(chunk, own.unit_column, count)
        labels = _labels(chunk, own, count)
        for place in range(count):
            yield Row(
                line=number + place,
                time_ns=moments[place],
                run=runs[place],
                unit=units[place],
                label=labels[place],
                values=values[place],
            )
        number += count


def _named(chunk: Mapping[str, Any], column: str, count: int) -> list[str]:
    return texts(chunk[column]) if column else [""] * count


def _labels(chunk: Mapping[str, Any], own: ParquetOptions, count: int) -> list[str | float | None]:
    if not own.label_column:
        return [None] * count
    if own.label_kind == "class":
        return [text or None for text in texts(chunk[own.label_column])]
    numbers = floats(chunk[own.label_column]).tolist()
    return [None if number != number else number for number in numbers]  # noqa: PLR0124  NaN
