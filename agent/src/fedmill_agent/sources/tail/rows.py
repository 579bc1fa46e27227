# SPDX-License-Identifier: Apache-2.0
"""From lines of a CSV file that grows to rows, and from rows to readings."""

import csv
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from zoneinfo import ZoneInfo

import numpy as np

from fedmill_agent.sources.csv.cells import Dialect
from fedmill_agent.sources.files import LONGEST_LINE, shorten
from fedmill_agent.sources.live import BAD, GOOD, Readings
from fedmill_agent.sources.tail.options import TailOptions
from fedmill_agent.sources.tail.tracked import Line, Tracked
from fedmill_agent.sources.timeline import moment_ns, stamp
from fedmill_shared.errors import DataError

FARTHEST_ROW = 2 * LONGEST_LINE
"""Bytes up to the end of a first row by which a file is known again: they are read into memory."""


@dataclass(slots=True)
class Batch:
    """Rows that follow one another in one file.

    Attributes:
        names: of the columns; a header among the lines ends a batch.
        times_ns: of each row, ns UTC.
        rows: its cells.
    """

    names: list[str]
    times_ns: list[int] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


class RowReader:
    """Splits lines into cells as a source's options say, and keeps count of what is no row."""

    def __init__(self, options: TailOptions, tags: Sequence[str], counts: Counter[str]) -> None:
        """Look for ``tags`` among the columns."""
        self._options = options
        self._dialect = options.dialect
        self._zone = ZoneInfo(options.time_zone)
        self._wanted = {*tags, options.time_column} - {""}
        self._counts = counts

    def take(self, tracked: Tracked, *, whole: bool, now_ns: int) -> list[Batch]:
        """The next rows of a file, which is then read up to their end; none where there is none.

        Args:
            tracked: the file, open.
            whole: nothing more will come, so that a last line without its end is a row too.
            now_ns: time of rows that tell none, ns UTC.
        """
        mark = tracked.mark
        overlong = tracked.overlong
        lines = tracked.lines(whole=whole)
        self._counts["garbage"] += tracked.overlong - overlong
        if not lines:
            return []
        header_at, first_row = mark.header_at, mark.first_row
        batches = [Batch(self._names(tracked))]
        for line in lines:
            cells = self._cells(line)
            if not cells:
                continue
            if self._is_header(cells, batches[-1].names):
                header_at = line.begin
                batches.append(Batch([cell.strip() for cell in cells]))
            elif self._add(batches[-1], cells, now_ns) and line.end <= FARTHEST_ROW:
                first_row = first_row or line.end
        tracked.reach(lines[-1].end, header_at, first_row)
        return [batch for batch in batches if batch.rows]

    def header(self, tracked: Tracked) -> list[str]:
        """Names of the columns of a file that was not read yet, as far as it has some."""
        if self._options.columns:
            return self._options.columns
        for line in tracked.lines(whole=False):
            cells = self._cells(line)
            if cells and self._is_header(cells, []):
                return [cell.strip() for cell in cells]
        return []

    def skip(self, tracked: Tracked) -> None:
        """Go to the end of a file, past its rows."""
        header_at = first_row = -1
        for line in tracked.lines(whole=False):
            if header_at < 0 and not self._options.columns:
                cells = self._cells(line)
                header_at = line.begin if cells and self._is_header(cells, []) else -1
            elif first_row < 0:
                first_row = line.end
        if header_at >= 0 or first_row >= 0:
            tracked.reach(tracked.last_line(), header_at, max(0, first_row))

    def _names(self, tracked: Tracked) -> list[str]:
        if tracked.mark.header_at < 0:
            return list(self._options.columns)
        begin = tracked.mark.header_at
        cells = self._cells(Line(begin, begin, tracked.line_at(begin)))
        return [cell.strip() for cell in cells]

    def _cells(self, line: Line) -> list[str]:
        """The cells of a line; none where it is empty, Excel's ``sep=;``, or no text."""
        if not line.text.strip():
            return []
        try:
            text = line.text.decode(self._dialect.encoding)
            if line.begin == 0:
                text = text.removeprefix("\ufeff")
            cells = next(csv.reader([text], delimiter=self._dialect.delimiter, strict=True), [])
        except (UnicodeDecodeError, csv.Error):
            self._counts["garbage"] += 1
            return []
        if "\0" in text:  # what a power cut leaves
            self._counts["garbage"] += 1
            return []
        return [] if line.begin == 0 and text.lower().startswith("sep=") else cells

    def _is_header(self, cells: list[str], names: list[str]) -> bool:
        """The first line of a file, the same again, or names that belong to it."""
        if not names:
            return True
        stripped = [cell.strip() for cell in cells]
        known = self._wanted & set(names)
        timed = self._options.time_column != "" and self._options.time_column in stripped
        return stripped == names or timed or bool(known and known <= set(stripped))

    def _add(self, batch: Batch, cells: list[str], now_ns: int) -> bool:
        if len(cells) != len(batch.names):
            self._counts["garbage"] += 1
            return False
        time_ns = now_ns
        if self._options.time_column in batch.names:
            try:
                time_ns = self._time(cells[batch.names.index(self._options.time_column)])
            except ValueError:
                self._counts["garbage"] += 1
                return False
        elif self._options.time_column:
            self._counts["garbage"] += 1
            return False
        batch.times_ns.append(time_ns)
        batch.rows.append(cells)
        return True

    def _time(self, cell: str) -> int:
        text = cell.strip()
        if self._options.time_format:
            moment = datetime.strptime(text, self._options.time_format)  # noqa: DTZ007  see below
        else:
            try:
                pointed = text.replace(self._dialect.decimal, ".")
                return stamp(
                    float(pointed) if "." in pointed else int(pointed), self._options.time_unit
                )
            except ValueError:
                moment = datetime.fromisoformat(text)
        return moment_ns(moment if moment.tzinfo else moment.replace(tzinfo=self._zone))


def readings(batch: Batch, tag: str, dialect: Dialect, now_ns: int) -> list[Readings]:
    """The column ``tag`` of a batch: one piece, or several where its texts change."""
    column = batch.names.index(tag)
    values, texts = [], []
    for row in batch.rows:
        value, text = value_of(row[column], dialect)
        values.append(value)
        texts.append(text)
    found, first = [], 0
    for text, group in groupby(texts):
        count = len(list(group))
        piece = slice(first, first + count)
        numbers = np.array(values[piece], np.float64)
        quality = np.where(np.isfinite(numbers), GOOD, BAD).astype(np.uint16)
        times = np.array(batch.times_ns[piece], np.int64)
        found.append(Readings(tag, times, numbers, quality, now_ns, text))
        first += count
    return found


def value_of(cell: str, dialect: Dialect) -> tuple[float, str]:
    """The number in a cell, and its text where it is none."""
    try:
        return dialect.number("", 0, "", cell), ""
    except DataError:
        return math.nan, cell.strip()[:200]


def missing_words(path: str, tag: str, names: Sequence[str]) -> str:
    """Why a tag does not come."""
    return f"{path} has no column {tag!r}; columns are {shorten(names, 12)}"
