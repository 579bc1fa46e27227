# SPDX-License-Identifier: Apache-2.0
"""Rows of a CSV file, cell by cell."""

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fedmill_agent.sources.csv.cells import Dialect
from fedmill_agent.sources.files import lines, positions, shorten
from fedmill_shared.errors import DataError

_DELIMITERS = {";": ";", "\t": "\\t", ",": ",", "|": "|"}  # as TOML writes them


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns to read; empty for those that the file does not have."""

    tags: tuple[str, ...]
    run: str = ""
    unit: str = ""
    time: str = ""
    label: str = ""
    numeric_label: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the file.

    Attributes:
        line: its number, from 1.
        time_ns: source time, ns UTC.
        run: cell of the run column.
        unit: cell of the unit column.
        label: text or number of the label column; None where there is none.
        values: one number for each tag, NaN where the cell is empty.
    """

    line: int
    time_ns: int
    run: str
    unit: str
    label: str | float | None
    values: list[float]


def rows(
    path: str, dialect: Dialect, columns: Columns, *, start_ns: int, period_ns: int
) -> Iterator[Row]:
    """Every row of ``path``; the first one is at ``start_ns``, the others follow its time column.

    Without a time column they are ``period_ns`` apart.

    Raises:
        DataError: the file is unreadable, has no header or not these columns, or a cell is wrong.
    """
    table = _split(path, dialect)
    first, cells = next(table, (1, []))
    header = [cell.strip() for cell in cells]
    _check_header(path, first, header, columns, dialect)
    at = _Places(path, header, columns)
    shift: int | None = None
    for index, (line, cells) in enumerate(table):
        if len(cells) != len(header):
            raise DataError(
                f"{path}: line {line} has {len(cells)} cells, the header has {len(header)}",
                remedy="check the delimiter and the quotes of that line",
            )
        time_ns = start_ns + index * period_ns
        if at.time >= 0:
            told = dialect.time(path, line, columns.time, cells[at.time])
            shift = start_ns - told if shift is None else shift
            time_ns = told + shift
        yield Row(
            line=line,
            time_ns=time_ns,
            run=cells[at.run].strip() if at.run >= 0 else "",
            unit=cells[at.unit].strip() if at.unit >= 0 else "",
            label=_label(path, line, columns, cells[at.label], dialect) if at.label >= 0 else None,
            values=[
                dialect.number(path, line, tag, cells[i])
                for tag, i in zip(columns.tags, at.tags, strict=True)
            ],
        )


class _Places:
    """Positions of the columns in the header, -1 for those that are not asked for."""

    __slots__ = ("label", "run", "tags", "time", "unit")

    def __init__(self, path: str, header: Sequence[str], columns: Columns) -> None:
        self.tags = positions(path, columns.tags, header)
        self.run = _place(path, "run_column", columns.run, header)
        self.unit = _place(path, "unit_column", columns.unit, header)
        self.time = _place(path, "time_column", columns.time, header)
        self.label = _place(path, "label_column", columns.label, header)


def _place(path: str, option: str, name: str, header: Sequence[str]) -> int:
    """Position of the column that ``option`` of the source names, -1 if it names none."""
    if not name:
        return -1
    if header.count(name) != 1:
        problem = "the file has no such column" if name not in header else "several have this name"
        raise DataError(
            f"{path}: {option} is {name!r}: {problem}; columns are {shorten(header)}",
            remedy=f"correct `{option}` of the source, or leave it out",
        )
    return header.index(name)


def _split(path: str, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of every line that has some, but for Excel's ``sep=;``."""
    text = (line for _, line in lines(path, dialect.encoding))
    reader = csv.reader(text, delimiter=dialect.delimiter)
    try:
        for cells in reader:
            if cells and not (reader.line_num == 1 and cells[0].lower().startswith("sep=")):
                yield reader.line_num, cells
    except csv.Error as error:
        raise DataError(
            f"{path}: line {reader.line_num}: {error}", remedy="check the quotes of that line"
        ) from error


def _check_header(
    path: str, line: int, header: list[str], columns: Columns, dialect: Dialect
) -> None:
    if not header:
        raise DataError(f"{path}: is empty", remedy="a header line and rows are needed")
    other = next((d for d in _DELIMITERS if d in header[0] and d != dialect.delimiter), None)
    wanted = {*columns.tags, columns.run, columns.unit, columns.time, columns.label}
    if len(header) == 1 and other is not None and header[0] not in wanted:
        raise DataError(
            f"{path}: line {line} is one single column, {header[0][:60]!r}",
            remedy=f'write delimiter = "{_DELIMITERS[other]}" below the source',
        )
    try:
        numbers = [float(cell) for cell in header]
    except ValueError:
        return
    raise DataError(
        f"{path}: line {line} has the number {numbers[0]:g} where the name of a column is expected",
        remedy="add a header line with the names of the columns",
    )


def _label(
    path: str, line: int, columns: Columns, cell: str, dialect: Dialect
) -> str | float | None:
    if not columns.numeric_label:
        return cell.strip() or None
    value = dialect.number(path, line, columns.label, cell)
    return None if math.isnan(value) else value
