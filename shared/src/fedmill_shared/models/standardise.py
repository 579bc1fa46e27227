# SPDX-License-Identifier: Apache-2.0
"""The model's first layer: from canonical units to zero mean and unit deviation.

It is part of the network, so that training, ONNX and every other tool see the same numbers.
"""

import torch
from torch import Tensor, nn

from fedmill_shared.models.spec import ModelSpec
from fedmill_shared.models.standardisation import LIMIT


class Standardise(nn.Module):
    """Select the input signals, standardise each sample by its operating condition, and limit it.

    The condition of a sample is the nearest centroid of its regime signals, distances counted in
    units of ``resolution``; a window may pass through several. Buffers: ``mean`` and
    ``inverse_scale`` (R, S), with regimes also ``centroids`` (R, K) and ``inverse_resolution``
    (K,).
    """

    inputs: Tensor
    regime_signals: Tensor
    mean: Tensor
    inverse_scale: Tensor
    centroids: Tensor
    inverse_resolution: Tensor

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        shape = (spec.regimes, len(spec.inputs))
        self.by_regime = bool(spec.regime_signals)
        self.register_buffer("inputs", torch.tensor(spec.inputs), persistent=False)
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("inverse_scale", torch.ones(shape))
        if self.by_regime:
            regime_signals = len(spec.regime_signals)
            self.register_buffer(
                "regime_signals", torch.tensor(spec.regime_signals), persistent=False
            )
            self.register_buffer("centroids", torch.zeros(spec.regimes, regime_signals))
            self.register_buffer("inverse_resolution", torch.ones(regime_signals))

    def forward(self, windows: Tensor) -> Tensor:
        """(B, all signals, L) in canonical units -> (B, S, L)."""
        values = torch.index_select(windows, 1, self.inputs)  # (B, S, L)
        if self.by_regime:
            regime = self.regime_of(windows)
            mean = nn.functional.embedding(regime, self.mean).transpose(1, 2)  # (B, S, L)
            inverse = nn.functional.embedding(regime, self.inverse_scale).transpose(1, 2)
        else:
            mean, inverse = self.mean.unsqueeze(2), self.inverse_scale.unsqueeze(2)  # (1, S, 1)
        # Never values * inverse - mean * inverse: that cancels all digits of a large mean.
        return torch.clamp((values - mean) * inverse, -LIMIT, LIMIT)

    def regime_of(self, windows: Tensor) -> Tensor:
        """(B, all signals, L) -> (B, L) index of the nearest centroid."""
        values = torch.index_select(windows, 1, self.regime_signals).unsqueeze(1)  # (B, 1, K, L)
        steps = (values - self.centroids.unsqueeze(2)) * self.inverse_resolution.unsqueeze(1)
        return (steps * steps).sum(2).argmin(1)  # (B, R, K, L) -> (B, R, L) -> (B, L)
