# SPDX-License-Identifier: Apache-2.0
"""How CSV files that grow are read."""

from datetime import UTC, datetime
from pathlib import PurePath
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from msgspec import Meta

from fedmill_agent.fields.cells import (
    LONGEST,
    Decimal,
    Delimiter,
    Encoding,
    LabelColumn,
    LabelKind,
    Missing,
    tell_apart,
)
from fedmill_agent.sources.csv.cells import Dialect, dialect_of
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
    delimiter: Delimiter = ","
    decimal: Decimal = "."
    missing: Missing = []  # noqa: RUF012  the same
    encoding: Encoding = "utf-8"
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
    time_unit: TimeUnit = "s"
    time_zone: Annotated[
        str,
        Meta(max_length=64, description='Of times that tell none, such as "Europe/Berlin".'),
    ] = "UTC"
    label_column: LabelColumn = ""
    label_kind: LabelKind = "class"
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
        tell_apart(self)
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
        return dialect_of(self, self.encoding)

    def _check_format(self) -> None:
        moment = datetime(2024, 2, 29, 13, 14, 15, tzinfo=UTC)
        try:
            read = datetime.strptime(moment.strftime(self.time_format), self.time_format)  # noqa: DTZ007  only its date counts
        except ValueError as error:
            raise ValueError(f"`time_format` {self.time_format!r}: {error}") from error
        if (read.year, read.month, read.day) != (2024, 2, 29):
            raise ValueError(f"`time_format` {self.time_format!r} has no year, month and day")
