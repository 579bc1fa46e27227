# SPDX-License-Identifier: Apache-2.0
"""Tennessee Eastman process recordings: 52 blank-separated columns, one row per sample.

Format: L. H. Chiang, E. L. Russell, R. D. Braatz, Fault Detection and Diagnosis in Industrial
Systems, Springer 2001: columns 1-41 are XMEAS(1..41), 42-52 XMV(1..11). The set's own ``d00.dat``
is stored transposed, 52 lines of n numbers; both layouts are read. A file of 52 x 52 counts as not
transposed.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from fedmill_agent.sources.base import Event, ReplayOptions, SourceKind, SourceOptions, narrow
from fedmill_agent.sources.files import number_rows, positions, stem
from fedmill_agent.sources.replay import recording
from fedmill_agent.sources.timeline import parse_iso, period_ns
from fedmill_shared.errors import DataError

TAGS = (*(f"xmeas{i}" for i in range(1, 42)), *(f"xmv{i}" for i in range(1, 12)))
MOST_ROWS = 1_000_000


class TepOptions(ReplayOptions, frozen=True, kw_only=True, tag="tep"):
    """One ``dNN.dat`` or ``dNN_te.dat``, or some rows of it."""

    path: Annotated[str, Meta(description="The text file, gzipped or not.")]
    label: Annotated[str, Meta(description="Class of the rows; empty for none.")] = ""
    first_row: Annotated[int, Meta(ge=1, description="First row to replay, from 1.")] = 1
    last_row: Annotated[int, Meta(ge=0, description="Last row to replay; 0 for the end.")] = 0
    run: Annotated[
        str, Meta(description="Name of the run; empty for the file's name and rows.")
    ] = ""
    unit: Annotated[str, Meta(description="The plant; empty for the file's name.")] = ""

    def __post_init__(self) -> None:
        """Raise ValueError, which decoding reports with its place in the file."""
        super().__post_init__()
        if 0 < self.last_row < self.first_row:
            raise ValueError(f"`last_row` {self.last_row} is before `first_row` {self.first_row}")


def read(options: SourceOptions, tags: Sequence[str], rate_hz: float) -> Iterator[Event]:
    """Samples, label and end of the one run; a row takes ``1 / rate_hz`` seconds.

    Raises:
        DataError: the file is unreadable or not in the format, or a row or tag is unknown.
    """
    own = narrow(options, TepOptions)
    values = _load(own.path, positions(own.path, tags, TAGS))
    count = values.shape[1]
    last = own.last_row or count
    if own.first_row > last or last > count:
        raise DataError(
            f"{own.path}: has {count} rows, rows {own.first_row} to {last} are asked for",
            remedy="correct `first_row` and `last_row` of the source",
        )
    name = stem(own.path)
    part = "" if (own.first_row, last) == (1, count) else f"-{own.first_row}-{last}"
    yield from recording(
        values[:, own.first_row - 1 : last],
        run=own.run or name + part,
        unit=own.unit or name,
        start_ns=parse_iso(own.start),
        period_ns=period_ns(rate_hz),
        label=own.label,
    )


KIND = SourceKind(TepOptions, read)


def _load(path: str, columns: list[int]) -> NDArray[np.float64]:
    """The wanted columns as float64 (tags, rows)."""
    rows = number_rows(path)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{path}: is empty", remedy="copy the file again from where it came")
    width = len(first[1])
    transposed = width != len(TAGS)
    kept: list[list[float]] = []
    count = 0
    for line, cells in chain([first], rows):
        if len(cells) != width:
            raise DataError(f"{path}: line {line} has {len(cells)} columns, line 1 has {width}")
        count += 1
        if count > (len(TAGS) if transposed else MOST_ROWS):
            break
        kept.append(cells if transposed else [cells[i] for i in columns])
    if transposed and count != len(TAGS):
        raise DataError(
            f"{path}: has {width} columns and {'more than 52' if count > 52 else count} lines",
            remedy="a Tennessee Eastman file has 52 columns, or 52 lines where it is transposed",
        )
    if count > MOST_ROWS:
        raise DataError(f"{path}: has more than {MOST_ROWS} rows", remedy="split the file")
    table = np.array(kept, np.float64)
    return table[columns] if transposed else np.ascontiguousarray(table.T)
