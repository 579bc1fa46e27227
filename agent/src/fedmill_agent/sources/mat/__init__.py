# SPDX-License-Identifier: Apache-2.0
"""Recordings in MATLAB level-5 files, such as those of the CWRU bearing data centre."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from math import prod
from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from fedmill_agent.sources.base import Event, ReplayOptions, SourceKind, SourceOptions, narrow
from fedmill_agent.sources.files import rate_factor, shorten, stem
from fedmill_agent.sources.mat.level5 import (
    LARGEST_VARIABLE,
    Variable,
    list_variables,
    read_variable,
)
from fedmill_agent.sources.replay import recording
from fedmill_agent.sources.tabular import FileRate
from fedmill_agent.sources.timeline import parse_iso, period_ns
from fedmill_shared.errors import DataError
from fedmill_shared.signals.resample import decimate


class MatOptions(ReplayOptions, frozen=True, kw_only=True, tag="mat"):
    """One file, or a part of it; tags are patterns over variable names such as ``*_DE_time``."""

    path: Annotated[str, Meta(description="The `.mat` file, saved with -v6 or -v7.")]
    rate_hz: FileRate = 0.0
    label: Annotated[str, Meta(description="Class of the recording; empty for none.")] = ""
    begin: Annotated[
        float, Meta(ge=0.0, le=1.0, description="Where to begin, as a fraction of the recording.")
    ] = 0.0
    end: Annotated[
        float, Meta(ge=0.0, le=1.0, description="Where to end, as a fraction of the recording.")
    ] = 1.0
    run: Annotated[
        str, Meta(description="Name of the run; empty for the file's name and part.")
    ] = ""
    unit: Annotated[str, Meta(description="The machine; empty for the file's name.")] = ""

    def __post_init__(self) -> None:
        """Raise ValueError, which decoding reports with its place in the file."""
        super().__post_init__()
        if self.begin >= self.end:
            raise ValueError(f"`begin` {self.begin:g} is not before `end` {self.end:g}")


def read(options: SourceOptions, tags: Sequence[str], rate_hz: float) -> Iterator[Event]:
    """Samples in chunks of at most 8192, the label and the end of the one run.

    Raises:
        DataError: the file is unreadable or damaged, a tag does not match exactly one variable, the
            variables are no equally long series or too large, or the rates do not fit.
    """
    own = narrow(options, MatOptions)
    factor = rate_factor(own.path, own.rate_hz, rate_hz)
    variables = list_variables(own.path)
    chosen = [_match(own.path, tag, variables) for tag in tags]
    if 8 * sum(prod(variable.shape) for variable in set(chosen)) > LARGEST_VARIABLE:
        raise DataError(
            f"{own.path}: the variables of all tags need more than {LARGEST_VARIABLE} bytes",
            remedy="split the recording into several files",
        )
    series = {variable: _series(own.path, variable) for variable in dict.fromkeys(chosen)}
    lengths = {values.size for values in series.values()}
    if len(lengths) > 1:
        raise DataError(
            f"{own.path}: {shorten([str(v) for v in series])} are not equally long",
            remedy="choose variables of one recording",
        )
    count = lengths.pop() if lengths else 0
    first, last = round(own.begin * count), round(own.end * count)
    if first >= last:
        raise DataError(f"{own.path}: no samples between {own.begin:g} and {own.end:g} of {count}")
    values = np.stack([series[variable][first:last] for variable in chosen])
    name = stem(own.path)
    part = "" if (own.begin, own.end) == (0.0, 1.0) else f"-{own.begin:g}-{own.end:g}"
    yield from recording(
        decimate(values, factor),
        run=own.run or name + part,
        unit=own.unit or name,
        start_ns=parse_iso(own.start),
        period_ns=period_ns(rate_hz),
        label=own.label,
    )


KIND = SourceKind(MatOptions, read)


def _match(path: str, tag: str, variables: list[Variable]) -> Variable:
    """The one readable variable that ``tag`` matches; others count only where none is readable."""
    named = [variable for variable in variables if fnmatchcase(variable.name, tag)]
    readable = [variable for variable in named if variable.readable]
    if len(readable) == 1:
        return readable[0]
    problem = "no variable"
    if named:
        which = shorten([str(variable) for variable in named], 5)
        problem = (
            f"more than one variable ({which})" if readable else f"no real numbers but {which}"
        )
    raise DataError(
        f"{path}: tag {tag!r} matches {problem}; variables are "
        f"{shorten([str(variable) for variable in variables]) or 'none'}",
        remedy="map the signal to a name or pattern of exactly one under `tags` of the source, "
        "or with --tag of replay",
    )


def _series(path: str, variable: Variable) -> NDArray[np.float64]:
    """The variable as (samples,)."""
    if sum(side != 1 for side in variable.shape) > 1:
        raise DataError(f"{path}: {variable} is not one series of numbers")
    return read_variable(path, variable).ravel()
