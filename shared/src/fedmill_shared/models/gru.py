# SPDX-License-Identifier: Apache-2.0
"""Gated recurrent unit over the window (Cho et al. 2014), head on the last state."""

from torch import Tensor, nn

from fedmill_shared.job import Gru
from fedmill_shared.models.network import Network
from fedmill_shared.models.spec import ModelSpec


class GruNetwork(Network):
    """(B, S, L) -> stacked GRU along time -> last state of the last layer -> head."""

    def __init__(self, spec: ModelSpec, options: Gru) -> None:
        super().__init__(spec, options.dropout)
        self.backbone = nn.GRU(len(spec.inputs), options.hidden, options.layers, batch_first=True)
        self.head = nn.Linear(options.hidden, spec.outputs)

    def features(self, standardised: Tensor) -> Tensor:
        """(B, S, L) -> (B, hidden)."""
        states: Tensor = self.backbone(standardised.transpose(1, 2))[1]  # (layers, B, hidden)
        return states[-1]


def build(spec: ModelSpec, options: Gru) -> Network:
    """The network of ``[model] architecture = "gru"``."""
    return GruNetwork(spec, options)
