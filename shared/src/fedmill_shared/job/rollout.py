# SPDX-License-Identifier: Apache-2.0
"""Which model versions are served, to which agents first, and when that is given up."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from fedmill_shared.job.kinds import Count, Fraction, Seconds

Ring = Annotated[str, Meta(min_length=1, max_length=500)]
"""``canary``, a share as ``10 %``, ``fleet``, or a selector."""


class Rollout(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which model versions are served, to which agents first, and when that is given up."""

    release: Annotated[
        Literal["each", "better", "last", "manual"],
        Meta(
            description="Each version at once on every agent; each that is evaluated better than "
            "the one that is served; the job's last one; or only what "
            "`fedmill models promote` names. All but the first go from ring to ring."
        ),
    ] = "each"
    rings: Annotated[
        list[Ring],
        Meta(
            min_length=1,
            max_length=16,
            description='Agents that a release goes to, one ring after another: `"canary"` is one '
            'agent, `"10 %"` so many of the fleet, `"fleet"` all of them, anything else a selector '
            'such as `line == "A"`. Whoever comes later gets it with the last ring.',
        ),
    ] = msgspec.field(default_factory=lambda: ["fleet"])
    soak_seconds: Annotated[
        float,
        Meta(
            ge=0.0,
            le=31_536_000.0,
            description="Seconds between the end of one ring and the begin of the next.",
        ),
    ] = 0.0
    abort_share: Annotated[
        Fraction,
        Meta(
            description="A release is given up when more than this share of the agents that are "
            "done with it rejected it, rolled it back or timed out."
        ),
    ] = 0.2
    abort_after: Annotated[
        Count, Meta(description="Agents that must be done before a release may be given up.")
    ] = 1
    timeout_seconds: Annotated[
        Seconds,
        Meta(
            description="Seconds after its ring began in which an agent must have committed or "
            "rejected a release; after that it counts as timed out, and takes it when it can."
        ),
    ] = 3600.0
