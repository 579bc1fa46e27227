# SPDX-License-Identifier: Apache-2.0
"""How labels of an agent's own windows move the model that it serves, between rounds."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from fedmill_shared.job.kinds import Count


class Feedback(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How labels of an agent's own windows move the model that it serves, between rounds."""

    method: Annotated[
        Literal["off", "ridge", "prototypes"],
        Meta(
            description="`ridge` fits the model's last layer to the labels and pulls it towards "
            "the federation's; `prototypes` gives classes that the model misses the mean of their "
            "windows, and leaves all others alone."
        ),
    ] = "off"
    min_labels: Annotated[
        Count, Meta(description="Labelled training windows from which on anything is fitted.")
    ] = 5
    every_labels: Annotated[
        Count, Meta(description="Labels that are new or changed after which it is fitted again.")
    ] = 5
    forgetting: Annotated[
        float,
        Meta(
            ge=0.5,
            le=1.0,
            description="What each labelled window counts for of what the next one counts; 1: all "
            "count the same. 0.99 forgets in some hundred labels.",
        ),
    ] = 1.0
    strength: Annotated[
        float,
        Meta(
            ge=0.01,
            le=1000.0,
            description="Of the pull towards the federation's last layer (`ridge`).",
        ),
    ] = 1.0
