# SPDX-License-Identifier: Apache-2.0
"""Three fully connected layers over the flattened window."""

from torch import Tensor, nn

from fedmill_shared.job import Mlp
from fedmill_shared.models.network import Network
from fedmill_shared.models.spec import ModelSpec


class MlpNetwork(Network):
    """(B, S, L) -> S * L -> two hidden layers with ReLU -> head."""

    def __init__(self, spec: ModelSpec, options: Mlp) -> None:
        super().__init__(spec, options.dropout)
        first, second = options.hidden
        self.backbone = nn.Sequential(
            nn.Linear(len(spec.inputs) * spec.length, first),
            nn.ReLU(),
            nn.Dropout(options.dropout),
            nn.Linear(first, second),
            nn.ReLU(),
        )
        self.head = nn.Linear(second, spec.outputs)

    def features(self, standardised: Tensor) -> Tensor:
        """(B, S, L) -> (B, second hidden width)."""
        features: Tensor = self.backbone(standardised.flatten(1))
        return features


def build(spec: ModelSpec, options: Mlp) -> Network:
    """The network of ``[model] architecture = "mlp"``."""
    return MlpNetwork(spec, options)
