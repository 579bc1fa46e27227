# SPDX-License-Identifier: Apache-2.0
"""What of a job is watched for drift, and what an agent does about it."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

Watched = Literal["input", "representation", "output", "residual"]
Action = Literal["collect", "round", "recalibrate", "personal", "rollback"]


class Drift(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What agents watch for drift, and what they do about it."""

    watch: Annotated[
        list[Watched],
        Meta(
            max_length=4,
            description="What is watched: the windows (`input`), what the model's head works on "
            "(`representation`), what the model says (`output`), and how wrong it is where the "
            "truth comes (`residual`); empty: nothing.",
        ),
    ] = []
    run_length: Annotated[
        int,
        Meta(
            ge=200,
            le=100_000_000,
            description="Windows between two false alarms, on average, where nothing changes; all "
            "that is watched shares them.",
        ),
    ] = 10_000
    warn_run_length: Annotated[
        int,
        Meta(ge=100, le=100_000_000, description="The same for warnings, which come sooner."),
    ] = 1000
    reference_windows: Annotated[
        int,
        Meta(
            ge=100,
            le=10_000,
            description="Windows that later ones are compared with. Fewer than 500 can tell "
            "large changes only.",
        ),
    ] = 500
    block_windows: Annotated[
        int,
        Meta(ge=20, le=1000, description="Windows whose distribution is compared as a whole."),
    ] = 100
    on_warning: Annotated[
        list[Action], Meta(max_length=5, description="What a warning leads to; see `on_alarm`.")
    ] = msgspec.field(default_factory=lambda: ["collect"])
    on_alarm: Annotated[
        list[Action],
        Meta(
            max_length=5,
            description="What an alarm leads to: `collect` keeps the next windows for training, "
            'those of a `split = "live"` source too; `round` asks the coordinator for a round; '
            "`recalibrate` fits the standardisation to the next windows; `personal` changes to "
            "the model that this agent has tuned to itself; `rollback` goes back to the model "
            "before. A new model has to pass the same gates as any other.",
        ),
    ] = msgspec.field(default_factory=lambda: ["round"])
    pause_seconds: Annotated[
        float,
        Meta(ge=0.0, le=31_536_000.0, description="Least seconds between two of the same action."),
    ] = 3600.0
    collect_windows: Annotated[
        int,
        Meta(
            ge=50,
            le=100_000,
            description="Windows that `collect` keeps, and that `recalibrate` is computed from.",
        ),
    ] = 200
