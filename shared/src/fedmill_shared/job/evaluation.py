# SPDX-License-Identifier: Apache-2.0
"""How agents hold data out, and when they report on it."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from fedmill_shared.job.kinds import Count, Fraction, Seconds


class Evaluation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How agents hold data out, and when they report on it."""

    every: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="Rounds between evaluations; the last is always evaluated; 0 only it.",
        ),
    ] = 1
    split: Annotated[
        Literal["unit", "run", "block"],
        Meta(
            description="What is held out as a whole where the source names no split: machines, "
            "recordings, or blocks of time with a guard of one window."
        ),
    ] = "run"
    validation: Annotated[
        Fraction,
        Meta(
            description="Share of units, runs or blocks kept aside, for choices that are made "
            "later: neither trained on nor part of the test."
        ),
    ] = 0.0
    test: Annotated[
        Fraction, Meta(description="Share of units, runs or blocks held out for the test.")
    ] = 0.2


class Serving(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which model an agent scores its windows with, and what a new one must show first."""

    candidates: Annotated[
        Literal["global", "best"],
        Meta(
            description="The common model; or whichever of the common one, one tuned to the agent "
            "and one made by the agent alone does best on its validation windows."
        ),
    ] = "global"
    every: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="Rounds between choices of the best; the last is always one; 0 only it.",
        ),
    ] = 10
    shadow_windows: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="Live windows that a new model scores beside the one that serves before it "
            "takes its place; 0: none.",
        ),
    ] = 0
    shadow_seconds: Annotated[
        Seconds,
        Meta(description="Seconds in which these windows must have come, or it is rejected."),
    ] = 86_400.0
    least_agreement: Annotated[
        float,
        Meta(
            ge=0.0,
            le=1.0,
            description="Shadow: share of the windows on which both must name the same class; of "
            "a number, 1 less the root mean square of their difference over the spread of what "
            "the serving one says; 0: any.",
        ),
    ] = 0.0
    error_slack: Annotated[
        float,
        Meta(
            ge=0.0,
            le=100.0,
            description="Where the truth is known, how many standard errors a new model may be "
            "worse than the one that serves.",
        ),
    ] = 1.0
    min_labels: Annotated[
        Count,
        Meta(
            description="Labelled windows held out on the agent that this is decided by; with "
            "fewer it is not asked."
        ),
    ] = 20
    budget_ms: Annotated[
        float,
        Meta(
            ge=0.0,
            le=3_600_000.0,
            description="Milliseconds that a window may take on the agent's machine (99 of 100); "
            "0: any.",
        ),
    ] = 0.0
    budget_mib: Annotated[
        float,
        Meta(ge=0.0, le=1_048_576.0, description="Memory (MiB) that a model may add; 0: any."),
    ] = 0.0
    soak_windows: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="Windows after a swap in which the model before stays at hand and is gone "
            "back to when the new one fails; 0: none.",
        ),
    ] = 0
