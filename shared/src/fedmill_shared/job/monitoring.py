# SPDX-License-Identifier: Apache-2.0
"""From which score on a window is told as abnormal, where nobody says what is."""

from typing import Annotated

from msgspec import Meta, Struct

from fedmill_shared.job.kinds import Count


class Monitoring(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From which score on a window is abnormal; for `task = "reconstruction"`."""

    false_alarms: Annotated[
        float,
        Meta(
            ge=1e-6,
            le=0.5,
            description="Share of normal windows that may lie above the limit. An agent with "
            "validation windows takes the limit from them, and tells every score over it: 1 is "
            "the limit.",
        ),
    ] = 0.01
    margin: Annotated[
        float,
        Meta(
            ge=1.0,
            le=1000.0,
            description="How many times the limit of the validation windows counts as the limit.",
        ),
    ] = 1.0
    least_windows: Annotated[
        Count,
        Meta(
            description="Validation windows that such a limit takes; with fewer the score is told "
            "over the limit that the model brings, if it brings one."
        ),
    ] = 30
    smooth: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="Windows of a run, until now, that a score is the mean of.",
        ),
    ] = 1
