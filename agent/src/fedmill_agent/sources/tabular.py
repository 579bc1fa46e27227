# SPDX-License-Identifier: Apache-2.0
"""What a configuration says of a recording that is a table: a row for each moment."""

from typing import Annotated

from msgspec import Meta

from fedmill_agent.fields.cells import LabelColumn, LabelKind
from fedmill_agent.sources.base import ReplayOptions

FileRate = Annotated[
    float,
    Meta(
        ge=0.0,
        description="Samples per second of the file, a whole multiple of the job's rate; 0 for the "
        "job's rate.",
    ),
]


class TabularOptions(ReplayOptions, frozen=True, kw_only=True):
    """Fields of every source that plays a table; the tags are names of its columns."""

    run_column: Annotated[
        str, Meta(description="Column that names the batch or recording; empty: all is one run.")
    ] = ""
    unit_column: Annotated[
        str, Meta(description="Column that names the machine or part; empty: see `unit`.")
    ] = ""
    label_column: LabelColumn = ""
    label_kind: LabelKind = "class"
    rate_hz: FileRate = 0.0
    run: Annotated[
        str, Meta(description="Name of the run, or what precedes it; empty for the file's name.")
    ] = ""
    unit: Annotated[str, Meta(description="The machine; empty for the file's name.")] = ""
