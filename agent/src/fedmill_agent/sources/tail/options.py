# SPDX-License-Identifier: Apache-2.0
"""How CSV files that grow are read."""

from datetime import UTC, datetime
from pathlib import PurePath
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from msgspec import Meta

from fedmill_agent.sources.csv.cells import LONGEST, Decimal, Dialect
from fedmill_agent.sources.files import Encoding
from fedmill_agent.sources.live import PolledOptions
from fedmill_agent.sources.timeline import TimeUnit


class TailOptions(PolledOptions, frozen=True, kw_only=True, tag="tail"):
    """CSV files that something else appends to; the tags are their column names."""

    path: Annotated[
        str,
        Meta(
            min_length=1,
            description="The file, or a pattern for its name with `*`, `?` or `[...]`, as in "
            "`logger/*.csv`: older files are read to their end first, the newest is followed.",
        ),
    ]
    start: Annotated[
        Literal["end", "beginning"],
        Meta(
            description="Where to begin in files that are there at the very first start; later on "
            "it goes on where it was, and new files are read from their beginning."
        ),
    ] = "end"
    columns: Annotated[
        list[Annotated[str, Meta(max_length=LONGEST)]],
        Meta(max_length=4096, description="Names of the columns of files without a header."),
    ] = []  # noqa: RUF012  msgspec copies an empty list
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
    ] = []  # noqa: RUF012
    encoding: Annotated[
        Encoding, Meta(description="Of the text; cp1252 is what Windows writes in Western Europe.")
    ] = "utf-8"
    time_column: Annotated[
        str,
        Meta(description="Column with the time of each row; empty: when the row is read."),
    ] = ""
    time_format: Annotated[
        str,
        Meta(
            max_length=100,
            description="Of the times, as Python's strptime has it: `%d.%m.%Y %H:%M:%S`. Empty: "
            "ISO 8601 or a number.",
        ),
    ] = ""
    time_unit: Annotated[TimeUnit, Meta(description="Of times that are numbers, since 1970.")] = "s"
    time_zone: Annotated[
        str,
        Meta(max_length=64, description='Of times that tell none, such as "Europe/Berlin".'),
    ] = "UTC"
    label_column: Annotated[str, Meta(description="Column with the truth; empty for none.")] = ""
    label_kind: Annotated[
        Literal["class", "number"], Meta(description="Whether labels are class texts or numbers.")
    ] = "class"
    silence_seconds: Annotated[
        float,
        Meta(
            ge=0.0,
            description="Time (s) without any good value after which the files are opened anew and "
            "the silence is told; 0: never, as files may stand still.",
        ),
    ] = 0.0
    position_file: Annotated[
        str,
        Meta(
            description="File that keeps how far was read; empty for one in the agent's state "
            "folder."
        ),
    ] = ""

    def __post_init__(self) -> None:
        """Raise ValueError, which decoding reports with its place in the file."""
        super().__post_init__()
        if self.decimal == self.delimiter:
            raise ValueError(f"`decimal` and `delimiter` are both {self.decimal!r}")
        if any(sign in str(PurePath(self.path).parent) for sign in "*?["):
            raise ValueError("`path` has a pattern in a folder; only the file's name can be one")
        if len(set(self.columns)) != len(self.columns):
            raise ValueError("`columns` has a name twice")
        try:
            ZoneInfo(self.time_zone)
        except (OSError, ValueError, LookupError) as error:
            raise ValueError(f"`time_zone` {self.time_zone!r} is unknown here") from error
        if self.time_format:
            self._check_format()

    @property
    def dialect(self) -> Dialect:
        """How the cells are written."""
        missing = frozenset(each.strip().lower() for each in self.missing)
        return Dialect(self.delimiter, self.decimal, missing, self.encoding)

    def _check_format(self) -> None:
        moment = datetime(2024, 2, 29, 13, 14, 15, tzinfo=UTC)
        try:
            read = datetime.strptime(moment.strftime(self.time_format), self.time_format)  # noqa: DTZ007
        except ValueError as error:
            raise ValueError(f"`time_format` {self.time_format!r}: {error}") from error
        if (read.year, read.month, read.day) != (2024, 2, 29):
            raise ValueError(f"`time_format` {self.time_format!r} has no year, month and day")
