# SPDX-License-Identifier: Apache-2.0
"""Historian exports: CSV with a header, plain or gzipped, read as a stream."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from msgspec import Meta

from fedmill_agent.sources.base import (
    Event,
    ReplayOptions,
    SourceKind,
    SourceOptions,
    narrow,
)
from fedmill_agent.sources.csv.cells import LONGEST, Decimal, Dialect
from fedmill_agent.sources.csv.runs import Naming, events, file_period_hz, told_hz
from fedmill_agent.sources.csv.table import Columns, rows
from fedmill_agent.sources.files import Encoding, stem
from fedmill_agent.sources.timeline import parse_iso, period_ns


class CsvOptions(ReplayOptions, frozen=True, kw_only=True, tag="csv"):
    """One CSV file; the tags are its column names."""

    path: Annotated[str, Meta(description="The file, gzipped or not, with a header.")]
    delimiter: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=1,
            pattern=r'^[^"\r\n\x00]$',
            description="What separates cells: one character, neither a quote nor a line break.",
        ),
    ] = ","
    decimal: Annotated[
        Decimal, Meta(description="What separates whole and fraction of a number.")
    ] = "."
    missing: Annotated[
        list[Annotated[str, Meta(max_length=LONGEST)]],
        Meta(
            max_length=64,
            description='Cells that hold no value, whatever the case, such as "Bad Input", beside '
            "empty ones, NaN, NA, null and none.",
        ),
    ] = []  # noqa: RUF012  msgspec copies an empty list
    encoding: Annotated[
        Encoding, Meta(description="Of the text; cp1252 is what Windows writes in Western Europe.")
    ] = "utf-8"
    run_column: Annotated[
        str, Meta(description="Column that names the batch or recording; empty: all is one run.")
    ] = ""
    unit_column: Annotated[
        str, Meta(description="Column that names the machine or part; empty: see `unit`.")
    ] = ""
    label_column: Annotated[str, Meta(description="Column with the truth; empty for none.")] = ""
    label_kind: Annotated[
        Literal["class", "number"], Meta(description="Whether labels are class texts or numbers.")
    ] = "class"
    time_column: Annotated[
        str,
        Meta(
            description="Column with ISO 8601 times or unix seconds that space the rows; the "
            "first row is replayed at `start`. Empty: rows are one sample apart."
        ),
    ] = ""
    rate_hz: Annotated[
        float,
        Meta(
            ge=0.0,
            description="Samples per second of the file, a whole multiple of the job's rate; 0 for "
            "the job's rate.",
        ),
    ] = 0.0
    run: Annotated[
        str, Meta(description="Name of the run, or what precedes it; empty for the file's name.")
    ] = ""
    unit: Annotated[str, Meta(description="The machine; empty for the file's name.")] = ""

    def __post_init__(self) -> None:
        """Raise ValueError, which decoding reports with its place in the file."""
        super().__post_init__()
        if self.decimal == self.delimiter:
            raise ValueError(f"`decimal` and `delimiter` are both {self.decimal!r}")

    @property
    def dialect(self) -> Dialect:
        """How the cells are written."""
        missing = frozenset(each.strip().lower() for each in self.missing)
        return Dialect(self.delimiter, self.decimal, missing, self.encoding)


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
    naming = Naming(
        own.run or stem(own.path),
        own.unit or stem(own.path),
        by_unit=bool(own.unit_column),
        by_run=bool(own.run_column),
    )
    yield from events(own.path, table, naming, period)


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
