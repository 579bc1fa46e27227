# SPDX-License-Identifier: Apache-2.0
"""C-MAPSS turbofan lives: one engine is one run, labelled with its remaining useful life.

Format: A. Saxena, K. Goebel, D. Simon, N. Eklund, Damage Propagation Modeling for Aircraft Engine
Run-to-Failure Simulation, PHM 2008. No header; 26 blank-separated columns: unit, cycle, three
operational settings, 21 sensors. One line of the truth file per test engine, in unit order.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import Annotated

import numpy as np
from msgspec import Meta

from fedmill_agent.sources.base import (
    Event,
    LabelInterval,
    ReplayOptions,
    RunEnded,
    Samples,
    SourceKind,
    SourceOptions,
    narrow,
)
from fedmill_agent.sources.files import number_rows, positions, shorten, stem
from fedmill_agent.sources.timeline import parse_iso, period_ns
from fedmill_shared.errors import DataError

TAGS = (*(f"setting{i}" for i in range(1, 4)), *(f"s{i}" for i in range(1, 22)))
MOST_CYCLES = 100_000
_COLUMNS = 2 + len(TAGS)

Row = tuple[int, list[float]]


class CmapssOptions(ReplayOptions, frozen=True, kw_only=True, tag="cmapss"):
    """Engine lives of one ``train_FD00x.txt`` or ``test_FD00x.txt``."""

    path: Annotated[str, Meta(description="The text file, gzipped or not.")]
    engines: Annotated[
        tuple[int, ...], Meta(description="Numbers of the engines to replay; empty for all.")
    ] = ()
    truth: Annotated[
        str,
        Meta(description="The `RUL_FD00x.txt` of a test file; empty where engines run to failure."),
    ] = ""


def read(options: SourceOptions, tags: Sequence[str], rate_hz: float) -> Iterator[Event]:
    """Samples, label and end of every selected engine, one after the other on one time line.

    One cycle takes ``1 / rate_hz`` seconds.

    Raises:
        DataError: a file is unreadable or not in the format, or an engine or tag is unknown.
    """
    own = narrow(options, CmapssOptions)
    columns = [2 + i for i in positions(own.path, tags, TAGS)]
    left = _remaining(own)
    start, period = parse_iso(own.start), period_ns(rate_hz)
    for number, rows in groupby(_rows(own.path), key=_unit):
        if own.engines and number not in own.engines:
            continue
        values = _values(own.path, rows)
        run = f"{stem(own.path)}-{number}"
        steps = len(values) - 1
        end = start + steps * period
        yield Samples(run, run, start, period, np.ascontiguousarray(values[:, columns].T))
        yield LabelInterval(
            run, start, end, start_value=left[number] + steps, end_value=left[number]
        )
        yield RunEnded(run)
        start = end + period


KIND = SourceKind(CmapssOptions, read)


def _remaining(own: CmapssOptions) -> dict[int, float]:
    """Cycles left after the last row, by engine; checked before anything is emitted."""
    lives = [(unit, sum(1 for _ in rows)) for unit, rows in groupby(_rows(own.path), key=_unit)]
    engines = [number for number, _ in lives]
    longest = max(cycles for _, cycles in lives)
    if longest > MOST_CYCLES:
        raise DataError(
            f"{own.path}: an engine of {longest} cycles, at most {MOST_CYCLES} are read"
        )
    twice = {number for number in engines if engines.count(number) > 1}
    if twice:
        raise DataError(
            f"{own.path}: rows of engine {min(twice)} are not together",
            remedy="sort the file by engine and cycle",
        )
    unknown = [str(number) for number in own.engines if number not in engines]
    if unknown:
        raise DataError(
            f"{own.path}: there is no engine {shorten(unknown)}; it has {len(engines)}",
            remedy="correct `engines` of the source, or leave it empty for all",
        )
    if not own.truth:
        return dict.fromkeys(engines, 0.0)
    truth = list(number_rows(own.truth))
    for line, cells in truth:
        if len(cells) != 1 or not cells[0] >= 0:
            raise DataError(f"{own.truth}: line {line} is not one number of cycles left")
    if len(truth) != len(engines):
        raise DataError(
            f"{own.truth} has {len(truth)} lines, {own.path} has {len(engines)} engines",
            remedy="name the truth file that belongs to the test file",
        )
    return {number: cells[0] for number, (_, cells) in zip(sorted(engines), truth, strict=True)}


def _rows(path: str) -> Iterator[Row]:
    empty = True
    for line, cells in number_rows(path):
        if len(cells) != _COLUMNS:
            raise DataError(
                f"{path}: line {line} has {len(cells)} columns, C-MAPSS has {_COLUMNS}",
                remedy="use the original text file, without a header",
            )
        if not all(cell.is_integer() for cell in cells[:2]):
            raise DataError(f"{path}: line {line}: unit and cycle are not whole numbers")
        empty = False
        yield line, cells
    if empty:
        raise DataError(f"{path}: is empty", remedy="copy the file again from where it came")


def _unit(row: Row) -> int:
    return int(row[1][0])


def _values(path: str, rows: Iterator[Row]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    life = list(rows)
    for (_, before), (line, after) in pairwise(life):
        if after[1] != before[1] + 1:
            raise DataError(
                f"{path}: line {line}: cycle {after[1]:g} follows cycle {before[1]:g}",
                remedy="every engine needs consecutive cycles",
            )
    return np.array([cells for _, cells in life], np.float64)
