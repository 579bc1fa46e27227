# SPDX-License-Identifier: Apache-2.0
"""Columns of a Parquet file, some thousand rows at a time: the only importer of pyarrow."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.sources.files import open_binary, positions, shorten
from fedmill_agent.sources.replay import CHUNK
from fedmill_agent.sources.timeline import TimeUnit, stamp
from fedmill_shared.errors import ConfigError, DataError

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:
    raise ConfigError(
        "sources of kind 'parquet' need pyarrow, which is not installed here",
        remedy="pip install fedmill-agent[parquet], or convert the file to CSV",
    ) from error

DEEPEST = 32
"""Levels of nested columns; those of ours have one."""
LARGEST_TEXT = 1 << 24
MOST_PARTS = 1 << 20
"""Of what a footer lists: columns, and pieces of them."""
LARGEST_GROUP = 1 << 32
"""Bytes of all columns of a row group, unpacked; far less of them is in memory at a time."""
_BUFFER = 1 << 20

_NUMBERS = ("integer", "floating", "boolean", "decimal")


class Table:
    """A file that is open.

    Attributes:
        path: the file.
        names: of its columns.
    """

    def __init__(self, path: str, file: Any) -> None:
        """``file`` is what pyarrow has of it."""
        self.path = path
        self.names: list[str] = list(file.schema_arrow.names)
        self._file = file

    def chunks(self, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """The named columns of at most 8192 rows at a time, in the order of the file.

        Raises:
            DataError: a row group is too large, or damaged.
        """
        for number in range(self._file.num_row_groups):
            self._check_size(number)
            with translated(self.path):
                batches = self._file.iter_batches(
                    batch_size=CHUNK, row_groups=[number], columns=columns, use_threads=False
                )
                for batch in batches:
                    yield dict(zip(batch.schema.names, batch.columns, strict=True))

    def numbers(self, tags: Sequence[str]) -> None:
        """Check that ``tags`` are columns of numbers.

        Raises:
            DataError: one is none, or no column.
        """
        positions(self.path, tags, self.names)
        for tag in tags:
            kind = self._file.schema_arrow.field(tag).type
            if not any(getattr(pa.types, f"is_{name}")(kind) for name in _NUMBERS):
                raise DataError(
                    f"{self.path}: column {tag!r} has values of type {str(kind)[:60]}, no numbers",
                    remedy="map the signal to another column, or convert this one",
                )

    def named(self, option: str, column: str) -> None:
        """Check that the column that ``option`` names is there, if it names one.

        Raises:
            DataError: it is not.
        """
        if column and self.names.count(column) != 1:
            raise DataError(
                f"{self.path}: {option} is {column!r}: the file has no such column; columns are "
                f"{shorten(self.names)}",
                remedy=f"correct `{option}` of the source, or leave it out",
            )

    def _check_size(self, number: int) -> None:
        # asked of the group alone: of an encrypted column pyarrow 26 ends the whole process
        if self._file.metadata.row_group(number).total_byte_size > LARGEST_GROUP:
            raise DataError(
                f"{self.path}: row group {number} has more than {LARGEST_GROUP >> 20} MiB",
                remedy="write the file with smaller row groups, such as 100,000 rows",
            )


@contextmanager
def opened(path: str) -> Iterator[Table]:
    """The file ``path``; only its footer is read.

    Raises:
        DataError: it is missing, damaged, encrypted, too deep, or no Parquet file.
    """
    open_binary(path).close()  # says in our words what is wrong with the path
    with translated(path), pa.OSFile(path, "rb") as source:
        file = pq.ParquetFile(
            source,
            buffer_size=_BUFFER,
            pre_buffer=False,
            thrift_string_size_limit=LARGEST_TEXT,
            thrift_container_size_limit=MOST_PARTS,
            schema_depth_limit=DEEPEST,
            page_checksum_verification=True,
        )
        with file:
            yield Table(path, file)


@contextmanager
def translated(path: str) -> Iterator[None]:
    """What pyarrow raises, as DataError that names ``path``."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        told = " ".join(str(error).split())[:200]
        problem, remedy = _explained(told)
        raise DataError(f"{path}: {problem}: {told}", remedy=remedy) from error
    except MemoryError as error:
        raise DataError(
            f"{path}: claims more memory than there is", remedy="copy the file again"
        ) from error


def floats(column: Any) -> NDArray[np.float64]:
    """float64 (rows,); NaN where there is no value, or none that is finite."""
    values: NDArray[np.float64] = np.array(
        column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64
    )
    values[np.isinf(values)] = np.nan
    return values


def texts(column: Any) -> list[str]:
    """The cells as texts, without blanks around them; empty where there is no value."""
    return [str(cell).strip() if cell is not None else "" for cell in column.to_pylist()]


def times(path: str, name: str, column: Any, unit: TimeUnit, row: int) -> list[int]:
    """The cells as times, ns UTC; ``row`` is the number of the first one, for errors.

    Raises:
        DataError: one is no time.
    """
    kind = column.type
    if pa.types.is_timestamp(kind):
        cells, unit = column.cast(pa.timestamp(kind.unit)).cast(pa.int64()).to_pylist(), kind.unit
    elif pa.types.is_date(kind):
        cells = [None if cell is None else cell.isoformat() for cell in column.to_pylist()]
    else:
        cells = column.to_pylist()
    found = []
    for number, cell in enumerate(cells, start=row):
        try:
            found.append(stamp(cell, unit))
        except ValueError as error:
            raise DataError(
                f"{path}: row {number}, column {name}: {str(cell)[:40]!r} is not a time",
                remedy="write timestamps, ISO 8601 texts, or numbers in `time_unit`",
            ) from error
    return found


def _explained(told: str) -> tuple[str, str]:
    """What is wrong with a file of which pyarrow says ``told``, and what helps."""
    if "encrypt" in told or "decrypt" in told:
        return "is encrypted", "write it without encryption: an agent has no keys for it"
    if "too deeply nested" in told:
        return "has columns in columns, too deep", "write one column of numbers for each tag"
    return (
        "is damaged, or no Parquet file",
        "copy the file again from where it came, and check that it is Parquet",
    )
