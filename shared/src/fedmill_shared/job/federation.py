# SPDX-License-Identifier: Apache-2.0
"""How rounds open, close and combine."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from fedmill_shared.job.kinds import Count, Positive, Seconds

Cluster = (
    Annotated[str, Meta(min_length=1, max_length=200)]
    | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
)
"""A value of the label that a job is clustered by."""


class Federation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How rounds open, close and combine."""

    rounds: Annotated[Count, Meta(description="Rounds of the job.")] = 20
    minimum: Annotated[
        Count, Meta(description="A round with fewer updates at its deadline gets another deadline.")
    ] = 2
    goal: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="With this many agents the statistics are agreed, and a round closes, at "
            "once; 0: with every agent online.",
        ),
    ] = 0
    earliest_seconds: Annotated[
        float,
        Meta(
            ge=0.0,
            le=31_536_000.0,
            description="Seconds that a round stays open even if the goal is reached.",
        ),
    ] = 0.0
    deadline_seconds: Annotated[
        Seconds, Meta(description="Seconds until a round closes with at least `minimum` updates.")
    ] = 120.0
    patience: Annotated[
        float,
        Meta(
            ge=0.0,
            le=1000.0,
            description="A round waits at most this many times as long as the slowest of its "
            "agents usually takes, never under 10 s; 0: always until `deadline_seconds`.",
        ),
    ] = 4.0
    select: Annotated[
        str,
        Meta(
            max_length=500,
            description="Which agents take part, by the labels in their configuration: "
            '`line == "A" and "press" in tags`; empty: all.',
        ),
    ] = ""
    cluster_by: Annotated[
        str,
        Meta(
            max_length=32,
            description="Name of a label: each of its values in `clusters` gets a job of its own, "
            "for the agents that have it; empty: one job for all.",
        ),
    ] = ""
    clusters: Annotated[
        list[Cluster],
        Meta(
            max_length=64,
            description="Values of the label `cluster_by`; the job of a value is called by this "
            "job's name, a hyphen and the value.",
        ),
    ] = []
    start: Annotated[
        str,
        Meta(
            pattern=r"^[a-z0-9_-]{0,32}$",
            description="Another job of the coordinator: its newest version and its "
            "standardisation are the first of this job; empty: fresh weights.",
        ),
    ] = ""
    min_examples: Annotated[
        Count,
        Meta(
            description="Training windows an agent needs to take part; only labelled ones count, "
            "where the job needs labels."
        ),
    ] = 1
    over_selection: Annotated[
        float,
        Meta(
            ge=0.0,
            le=100.0,
            description="Agents asked in a round: this many times `goal`, those first that were "
            "asked least; 0: all of them.",
        ),
    ] = 0.0
    max_staleness: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="Rounds by which an update may be late and is still used; 0: none is.",
        ),
    ] = 2
    staleness_exponent: Annotated[
        float,
        Meta(
            ge=0.0,
            le=16.0,
            description="An update that is s rounds late weighs (1 + s) ** -exponent (FedBuff).",
        ),
    ] = 0.5
    rule: Annotated[
        Literal[
            "fedavg",
            "fedsgd",
            "fednova",
            "scaffold",
            "fedavgm",
            "fedadam",
            "fedyogi",
            "fedadagrad",
        ],
        Meta(
            description="Weighted mean of deltas; one gradient step per round; mean by local "
            "steps; control variates, for few agents that are always there; or the weighted mean "
            "with an optimiser on the coordinator: momentum, Adam, Yogi, Adagrad."
        ),
    ] = "fedavg"
    server_learning_rate: Annotated[
        Positive, Meta(description="Factor on the aggregated delta (`fedsgd`: the step size).")
    ] = 1.0
    server_momentum: Annotated[
        float,
        Meta(
            ge=0.0,
            lt=1.0,
            description="Momentum of `fedavgm`; first decay of `fedadam` and `fedyogi`.",
        ),
    ] = 0.9
    server_decay: Annotated[
        float,
        Meta(ge=0.0, lt=1.0, description="Second decay of `fedadam` and `fedyogi`."),
    ] = 0.99
    server_adaptivity: Annotated[
        Positive,
        Meta(
            description="Added to the root of the second moment by `fedadam`, `fedyogi` and "
            "`fedadagrad`; larger means closer to `fedavgm`."
        ),
    ] = 0.001
    rounds_on_wish: Annotated[
        int,
        Meta(
            ge=0,
            le=1000,
            description="Further rounds of a finished job when an agent wishes for one, because "
            "its data has changed; 0: none.",
        ),
    ] = 0
    wish_seconds: Annotated[
        Seconds,
        Meta(description="Least seconds between the end of a job and further rounds on a wish."),
    ] = 3600.0
    wish_rounds_a_day: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Rounds on wishes in 24 hours, all wishes together: agents whose data "
            "never settles do not train for ever.",
        ),
    ] = 100


class Robustness(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the coordinator does against updates that are wrong, by accident or on purpose.

    Longer updates than ``clip`` allows are always shortened.
    """

    rule: Annotated[
        Literal[
            "mean",
            "median",
            "trimmed_mean",
            "krum",
            "multi_krum",
            "geometric_median",
            "centred_clipping",
            "trust",
        ],
        Meta(
            description="How updates become one: by the mean; coordinate by coordinate, for dense "
            "codecs; by the nearest neighbours; by the point nearest to all; near the round "
            "before; or by likeness to the coordinator's own golden update."
        ),
    ] = "mean"
    clip: Annotated[
        float,
        Meta(
            ge=1.0,
            le=1e6,
            description="An update is shortened to this many times the median length of this "
            "round and of those before, or of the longest so far, which fades by 1 % a round.",
        ),
    ] = 1.5
    byzantine: Annotated[
        float,
        Meta(
            ge=0.0,
            lt=0.5,
            description="Share of the agents that may be wrong: what `trimmed_mean` cuts off on "
            "either side, and what `krum` and `multi_krum` reckon with.",
        ),
    ] = 0.2
    bucket: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="Updates that are averaged at random before the rule sees them, so that "
            "plants which merely differ are not taken for wrong.",
        ),
    ] = 1
    quarantine_rounds: Annotated[
        int,
        Meta(
            ge=0,
            le=1000,
            description="An agent whose updates pull against most others over this many rounds, or "
            "blatantly over fewer, counts for nothing until they fit again; 0: never.",
        ),
    ] = 5
    claim: Annotated[
        float,
        Meta(
            ge=1.0,
            le=1e6,
            description="The training windows that one agent claims count at most this many times "
            "the median of the round.",
        ),
    ] = 5.0
