# SPDX-License-Identifier: Apache-2.0
"""Principal components as a model version: moments that agents average, and all that follows.

The vector holds the moments of the standardised inputs (backbone) and what the coordinator reckons
from them (head): components, their weights in T2 and Q, limits. Agents multiply, and need no
eigen-decomposition. ``monitoring.version`` reads and writes the same tensors without torch.
"""

import torch
from torch import Tensor, nn

from fedmill_shared.job import Pca
from fedmill_shared.models.network import Network
from fedmill_shared.models.spec import ModelSpec
from fedmill_shared.monitoring.limits import t2_limit

_FIRST = 0.01  # false alarms of the first version, which knows no correlations yet


class Moments(nn.Module):
    """Means of x and of the upper triangle of x x^T, zero before the first round."""

    mean: Tensor
    second: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("second", torch.zeros(width * (width + 1) // 2))


class Distances(nn.Module):
    """(B, d) deviations -> (B, 2): T2 and Q, each over its limit.

    Buffers: ``loadings`` (d, d), a component in each row; ``weights`` (2, d) of the squared scores;
    and for people ``eigenvalues`` (d,), ``limits`` (2,) and how many components are ``kept`` (1,).
    Before the first round each input is a component, and all of them are Q's.
    """

    loadings: Tensor
    weights: Tensor
    eigenvalues: Tensor
    limits: Tensor
    kept: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        limit = t2_limit(width, _FIRST)
        self.register_buffer("loadings", torch.eye(width))
        self.register_buffer("weights", torch.tensor([[0.0] * width, [1.0 / limit] * width]))
        self.register_buffer("eigenvalues", torch.ones(width))
        self.register_buffer("limits", torch.tensor([0.0, limit]))
        self.register_buffer("kept", torch.zeros(1))

    def forward(self, scores: Tensor) -> Tensor:
        """See the class."""
        return scores.square() @ self.weights.T


class PcaNetwork(Network):
    """(B, S, L) -> inputs (B, d) -> scores -> (B, 1): the larger of T2 and Q over their limits."""

    backbone: Moments
    head: Distances

    def __init__(self, spec: ModelSpec, options: Pca) -> None:
        super().__init__(spec, dropout=0.0)
        self.averaged = options.inputs == "mean"
        width = len(spec.inputs) * (1 if self.averaged else spec.length)
        self.backbone = Moments(width)
        self.head = Distances(width)

    def inputs(self, windows: Tensor) -> Tensor:
        """(B, all signals, L) in canonical units -> standardised (B, d)."""
        return self._flat(self.standardise(windows))

    def features(self, standardised: Tensor) -> Tensor:
        """(B, S, L) -> (B, d), the scores."""
        scores: Tensor = (self._flat(standardised) - self.backbone.mean) @ self.head.loadings.T
        return scores

    def forward(self, windows: Tensor) -> Tensor:
        """(B, all signals, L) in canonical units -> (B, 1), 1.0 at the limit."""
        distances: Tensor = self.head(self.features(self.standardise(windows)))
        return distances.amax(1, keepdim=True)

    def _flat(self, standardised: Tensor) -> Tensor:
        return standardised.mean(2) if self.averaged else standardised.flatten(1)


def build(spec: ModelSpec, options: Pca) -> Network:
    """The network of ``[model] architecture = "pca"``."""
    return PcaNetwork(spec, options)
