# SPDX-License-Identifier: Apache-2.0
"""When a prediction is an alarm, and how often people hear of it."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from fedmill_shared.job.kinds import Count


class Alarm(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When predictions are an alarm, and how often people hear of it."""

    name: Annotated[
        str, Meta(pattern=r"^[a-z0-9_-]{1,32}$", description="Name of the alarm, once in a job.")
    ]
    classes: Annotated[
        list[Annotated[str, Meta(max_length=200)]],
        Meta(max_length=256, description="It is raised where one of these classes is predicted."),
    ] = []
    above: Annotated[
        float | None, Meta(description="It is raised where the predicted number is larger.")
    ] = None
    below: Annotated[
        float | None, Meta(description="It is raised where the predicted number is smaller.")
    ] = None
    clear: Annotated[
        float | None,
        Meta(
            description="The number that ends it: on the safe side of `above` or `below`, so that "
            "it does not come and go; left out, the same number ends it."
        ),
    ] = None
    windows: Annotated[
        Count, Meta(description="Windows in a row that raise it, and as many that end it.")
    ] = 3
    least_confidence: Annotated[
        float,
        Meta(
            ge=0.0,
            le=1.0,
            description="A class counts from this calibrated probability on; 0: always.",
        ),
    ] = 0.0
    repeat_seconds: Annotated[
        float,
        Meta(
            ge=0.0,
            le=31_536_000.0,
            description="Seconds until one that goes on is told again; 0: never.",
        ),
    ] = 3600.0
    per_hour: Annotated[
        int,
        Meta(
            ge=0,
            le=3600,
            description="How often it is told in an hour at most; what comes more often is "
            "counted; 0: no limit.",
        ),
    ] = 12
    severity: Annotated[
        Literal["info", "warning", "critical"],
        Meta(description="How much it matters; told with it."),
    ] = "warning"
    remedy: Annotated[
        str, Meta(max_length=500, description="What whoever reads it is to do; told with it.")
    ] = ""
