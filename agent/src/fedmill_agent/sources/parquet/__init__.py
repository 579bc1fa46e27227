# SPDX-License-Identifier: Apache-2.0
"""Recordings in Parquet files, read row group by row group. Needs the extra ``parquet``."""

from collections.abc import Iterator, Sequence
from typing import Annotated

from msgspec import Meta

from fedmill_agent.sources.base import Event, SourceKind, SourceOptions, narrow
from fedmill_agent.sources.tabular import TabularOptions
from fedmill_agent.sources.timeline import TimeUnit


class ParquetOptions(TabularOptions, frozen=True, kw_only=True, tag="parquet"):
    """One Parquet file; the tags are its column names."""

    path: Annotated[str, Meta(description="The file.")]
    time_column: Annotated[
        str,
        Meta(
            description="Column with timestamps, ISO 8601 texts or numbers that space the rows; "
            "the first row is replayed at `start`. Empty: rows are one sample apart."
        ),
    ] = ""
    time_unit: TimeUnit = "s"


def read(options: SourceOptions, tags: Sequence[str], rate_hz: float) -> Iterator[Event]:
    """Samples, labels and end of every run, as `csv` reads them, with 8192 rows at a time.

    Raises:
        DataError: naming file, column and row of what cannot be used.
        ConfigError: pyarrow is not installed.
    """
    from fedmill_agent.sources.parquet.reading import recorded  # noqa: PLC0415  takes 40 MiB

    yield from recorded(narrow(options, ParquetOptions), tags, rate_hz)


def told_rate(options: SourceOptions) -> float:
    """Samples per second that ``rate_hz`` or the first times of the file tell; 0 for neither.

    Raises:
        DataError: the file cannot be read, or a time in it.
        ConfigError: pyarrow is not installed.
    """
    own = narrow(options, ParquetOptions)
    if own.rate_hz or not own.time_column:
        return own.rate_hz
    from fedmill_agent.sources.parquet.reading import spaced_hz  # noqa: PLC0415  takes 40 MiB

    return spaced_hz(own)


KIND = SourceKind(ParquetOptions, read, told_rate)
