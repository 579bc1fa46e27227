# SPDX-License-Identifier: Apache-2.0
"""Autoencoder: what it cannot give back is not as it was in training.

Hinton & Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks", Science 313
(2006) 504; the error of the reconstruction as a measure of novelty: Japkowicz, Myers & Gluck, "A
Novelty Detection Approach to Classification", IJCAI 1995. Inputs that are hidden while it learns:
Vincent, Larochelle, Bengio & Manzagol, "Extracting and Composing Robust Features with Denoising
Autoencoders", ICML 2008. The narrowest layer is linear, so that without hidden layers the model is
a principal component analysis (Baldi & Hornik, Neural Networks 2 (1989) 53).
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from fedmill_shared.job import Autoencoder
from fedmill_shared.models.network import Network
from fedmill_shared.models.spec import ModelSpec


class AutoencoderNetwork(Network):
    """(B, S, L) -> S * L -> hidden layers with ReLU -> bottleneck, and the same way back.

    The output (B, 1) is the mean over the S * L inputs of the squared error, in standardised units:
    the square of a window's own deviation. The way in is the backbone, the way back the head.
    """

    def __init__(self, spec: ModelSpec, options: Autoencoder) -> None:
        super().__init__(spec, dropout=0.0)
        widths = [len(spec.inputs) * spec.length, *options.hidden, options.bottleneck]
        self.masked = options.masked
        self.backbone = _layers(widths)
        self.head = _layers(widths[::-1])

    def features(self, standardised: Tensor) -> Tensor:
        """(B, S, L) -> (B, bottleneck)."""
        features: Tensor = self.backbone(standardised.flatten(1))
        return features

    def forward(self, windows: Tensor) -> Tensor:
        """(B, all signals, L) in canonical units -> (B, 1), each window's mean squared error."""
        values = self.standardise(windows)
        seen = values
        if self.training and self.masked:
            seen = values * (torch.rand_like(values) >= self.masked)
        rebuilt: Tensor = self.head(self.features(seen))
        errors: Tensor = (rebuilt - values.flatten(1)).square().mean(1, keepdim=True)
        return errors


def build(spec: ModelSpec, options: Autoencoder) -> Network:
    """The network of ``[model] architecture = "autoencoder"``."""
    return AutoencoderNetwork(spec, options)


def _layers(widths: Sequence[int]) -> nn.Sequential:
    """Linear maps from each width to the next, with ReLU between them."""
    layers: list[nn.Module] = []
    for width, following in pairwise(widths):
        layers += [nn.Linear(width, following), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
