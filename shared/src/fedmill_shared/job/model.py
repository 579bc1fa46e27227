# SPDX-License-Identifier: Apache-2.0
"""What a job may ask for as its model: one struct for each architecture."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

Hidden = Annotated[int, Meta(ge=1, le=4096)]
Dropout = Annotated[
    float,
    Meta(
        ge=0.0,
        lt=1.0,
        description="Share of activations dropped while training: before the head, and between "
        "fully connected layers.",
    ),
]
Norm = Annotated[
    Literal["group", "batch", "none"],
    Meta(
        description="Normalisation between layers: by groups of channels, by batch (for "
        '`learning.personal = "norm"`), or none.'
    ),
]


class Mlp(
    Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="mlp",
    tag_field="architecture",
):
    """Three fully connected layers over the flattened window."""

    hidden: Annotated[
        list[Hidden],
        Meta(min_length=2, max_length=2, description="Widths of the two hidden layers."),
    ] = msgspec.field(default_factory=lambda: [128, 64])
    dropout: Dropout = 0.0


class Wdcnn(
    Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="wdcnn",
    tag_field="architecture",
):
    """1D-CNN with a wide first kernel (Zhang et al. 2017), for vibration and current."""

    channels: Annotated[
        list[Hidden],
        Meta(min_length=1, max_length=8, description="Output channels of each block."),
    ] = msgspec.field(default_factory=lambda: [16, 32, 64, 64, 64])
    kernel: Annotated[int, Meta(ge=1, le=1024, description="Width of the first kernel.")] = 64
    stride: Annotated[int, Meta(ge=1, le=256, description="Stride of the first kernel.")] = 16
    pool: Annotated[
        Literal["mean", "flatten"],
        Meta(description="What feeds the head: the mean over time, or every position."),
    ] = "mean"
    hidden: Annotated[
        int, Meta(ge=0, le=4096, description="Width of a hidden head layer, 0 none.")
    ] = 0
    max_pool: Annotated[
        bool, Meta(description="Halve the length after each block; off for short windows.")
    ] = True
    norm: Norm = "group"
    stem_norm: Annotated[
        bool,
        Meta(description="Normalise after the first kernel too; off keeps the signal's level."),
    ] = False
    dropout: Dropout = 0.0


class Gru(
    Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="gru",
    tag_field="architecture",
):
    """Gated recurrent unit over the window, head on the last state."""

    hidden: Annotated[int, Meta(ge=1, le=1024, description="Width of the recurrent state.")] = 64
    layers: Annotated[int, Meta(ge=1, le=4, description="Stacked recurrent layers.")] = 2
    dropout: Dropout = 0.0


class Autoencoder(
    Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="autoencoder",
    tag_field="architecture",
):
    """Squeezes a window, or its features, into a few numbers and gives it back from them."""

    hidden: Annotated[
        list[Hidden],
        Meta(
            max_length=4,
            description="Widths of the layers from the input to the narrowest one; the way back "
            "has the same. Empty: one linear map each way, as principal components.",
        ),
    ] = msgspec.field(default_factory=lambda: [64])
    bottleneck: Annotated[
        int,
        Meta(
            ge=1,
            le=4096,
            description="Width of the narrowest layer; fewer than the model has inputs.",
        ),
    ] = 8
    masked: Annotated[
        float,
        Meta(
            ge=0.0,
            le=0.9,
            description="Share of the inputs that are hidden from the model while it learns to "
            "give all of them back (denoising); 0: none.",
        ),
    ] = 0.0


class Pca(
    Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="pca",
    tag_field="architecture",
):
    """Principal components, and how far a window lies from them: T2 within, Q beside (MSPC)."""

    inputs: Annotated[
        Literal["samples", "mean"],
        Meta(
            description="What a window is to the model: each of its values (dynamic PCA), or the "
            "mean of each signal over the window."
        ),
    ] = "samples"
    explained: Annotated[
        float,
        Meta(gt=0.0, le=1.0, description="Share of the variance that the kept components explain."),
    ] = 0.9
    components: Annotated[
        int, Meta(ge=0, le=512, description="So many are kept; 0: by `explained`.")
    ] = 0
    statistic: Annotated[
        Literal["larger", "combined", "t2", "q"],
        Meta(
            description="What is told of a window, each over its limit: the larger of T2 and Q, "
            "their sum (Yue and Qin 2001), or one of them."
        ),
    ] = "larger"


Model = Mlp | Wdcnn | Gru | Autoencoder | Pca
