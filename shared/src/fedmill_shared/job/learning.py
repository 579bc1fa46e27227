# SPDX-License-Identifier: Apache-2.0
"""What an agent does with its own windows in one round."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from fedmill_shared.job.kinds import Positive


class Learning(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an agent does with its own windows in one round."""

    loss: Annotated[
        Literal["auto", "cross_entropy", "logit_adjusted", "focal", "mse", "huber"],
        Meta(
            description="`auto` is cross_entropy for classes and mse for all else. Rare classes: "
            "`logit_adjusted` by the agent's own label counts, or `focal`."
        ),
    ] = "auto"
    adjustment: Annotated[
        Positive, Meta(description="Strength of `logit_adjusted`; 1 is the balanced error's.")
    ] = 1.0
    focal_gamma: Annotated[
        float, Meta(ge=0.0, le=10.0, description="How far `focal` discounts easy windows.")
    ] = 2.0
    resample: Annotated[
        Literal["none", "balanced"],
        Meta(description="Draw windows as they are, or every known class equally often."),
    ] = "none"
    optimiser: Annotated[
        Literal["sgd", "adam", "adamw"], Meta(description="Optimiser, with fresh state each round.")
    ] = "adam"
    learning_rate: Annotated[Positive, Meta(description="Step size in the first round.")] = 0.001
    schedule: Annotated[
        Literal["constant", "linear", "cosine"],
        Meta(description="How the learning rate falls over the rounds of the job."),
    ] = "constant"
    final_factor: Annotated[
        float, Meta(ge=0.0, le=1.0, description="Learning rate of the last round / of the first.")
    ] = 0.1
    momentum: Annotated[float, Meta(ge=0.0, lt=1.0, description="Momentum of `sgd`.")] = 0.9
    weight_decay: Annotated[
        float, Meta(ge=0.0, description="L2 penalty (`sgd`, `adam`) or decoupled decay (`adamw`).")
    ] = 0.0
    batch_size: Annotated[int, Meta(ge=1, le=65536, description="Windows in one step.")] = 32
    epochs: Annotated[
        int, Meta(ge=1, le=1000, description="Passes over the local training windows per round.")
    ] = 1
    steps: Annotated[
        int,
        Meta(ge=0, le=1_000_000, description="Steps per round instead of epochs; 0 for epochs."),
    ] = 0
    known_classes_only: Annotated[
        bool,
        Meta(
            description="Train the logits of classes the agent has labels for, and leave the "
            "others alone (restricted softmax, FedRS). Alone it loses accuracy where plants know "
            'few classes each; it belongs to `personal = "head"`.'
        ),
    ] = False
    proximal: Annotated[
        float,
        Meta(ge=0.0, le=1e6, description="Pull towards the round's version (FedProx, mu); 0 none."),
    ] = 0.0
    personal: Annotated[
        Literal["none", "norm", "head"],
        Meta(
            description="What stays on each agent and is never sent: nothing, the normalisation "
            "layers (FedBN), or the head (FedPer; FedRep with `head_epochs`)."
        ),
    ] = "none"
    head_epochs: Annotated[
        int,
        Meta(
            ge=0,
            le=1000,
            description='With `personal = "head"`: passes that train the head alone before the '
            "rest is trained alone (FedRep); 0 trains both at once (FedPer).",
        ),
    ] = 0
    ditto: Annotated[
        float,
        Meta(
            ge=0.0,
            le=1e6,
            description="Each agent also trains a model of its own that this pulls towards the "
            "common one (Ditto, lambda); 0: none.",
        ),
    ] = 0.0
