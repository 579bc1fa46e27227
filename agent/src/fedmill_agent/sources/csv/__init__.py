# SPDX-License-Identifier: Apache-2.0
"""Historian exports: CSV with a header, plain or gzipped, read as a stream."""

from collections.abc import Iterator, Sequence
from typing import Annotated

from msgspec import Meta

from fedmill_agent.fields.cells import Decimal, Delimiter, Encoding, Missing, tell_apart
from fedmill_agent.sources.base import (
    Event,
    SourceKind,
    SourceOptions,
    narrow,
)
from fedmill_agent.sources.csv.cells import Dialect, dialect_of
from fedmill_agent.sources.csv.runs import events, file_period_hz, naming_of, told_hz
from fedmill_agent.sources.csv.table import Columns, rows
from fedmill_agent.sources.tabular import TabularOptions
from fedmill_agent.sources.timeline import parse_iso, period_ns


class CsvOptions(TabularOptions, frozen=True, kw_only=True, tag="csv"):
    """One CSV file; the tags are its column names."""

    path: Annotated[str, Meta(description="The file, gzipped or not, with a header.")]
    delimiter: Delimiter = ","
    decimal: Decimal = "."
    missing: Missing = []  # noqa: RUF012  msgspec copies an empty list
    encoding: Encoding = "utf-8"
    time_column: Annotated[
        str,
        Meta(
            description="Column with ISO 8601 times or unix seconds that space the rows; the "
            "first row is replayed at `start`. Empty: rows are one sample apart."
        ),
    ] = ""

    def __post_init__(self) -> None:
        """Raise ValueError, which decoding reports with its place in the file."""
        super().__post_init__()
        tell_apart(self)

    @property
    def dialect(self) -> Dialect:
        """How the cells are written."""
        return dialect_of(self, self.encoding)


def read(options: SourceOptions, tags: Sequence[str], rate_hz: float) -> Iterator[Event]:
    """Samples, labels and end of every run, with at most 8192 rows in memory.

    A run ends where the cell of ``run_column`` or ``unit_column`` changes. A gap in the time column
    starts new Samples at their own time; smaller deviations are put on the time grid of the file,
    whose rate the option `rate_hz` tells, or the job.

    Raises:
        DataError: naming file, line, column and value of what cannot be used.
    """
    own = narrow(options, CsvOptions)
    file_hz = file_period_hz(own.path, own.rate_hz, rate_hz)
    columns = Columns(
        tags=tuple(tags),
        run=own.run_column,
        unit=own.unit_column,
        time=own.time_column,
        label=own.label_column,
        numeric_label=own.label_kind == "number",
    )
    start, period = parse_iso(own.start), period_ns(file_hz)
    table = rows(own.path, own.dialect, columns, start_ns=start, period_ns=period)
    yield from events(own.path, table, naming_of(own, own.path), period)


def told_rate(options: SourceOptions) -> float:
    """Samples per second that the file or ``rate_hz`` tells; 0 where neither does.

    With a time column it is the median spacing of the first rows.

    Raises:
        DataError: the file cannot be read, or a time in it.
    """
    options = narrow(options, CsvOptions)
    if options.rate_hz or not options.time_column:
        return options.rate_hz
    columns = Columns(
        tags=(), run=options.run_column, unit=options.unit_column, time=options.time_column
    )
    return told_hz(rows(options.path, options.dialect, columns, start_ns=0, period_ns=1))


KIND = SourceKind(CsvOptions, read, told_rate)
