# SPDX-License-Identifier: Apache-2.0
"""FederatedAveraging: the mean of the agents' deltas, weighted by their examples.

McMahan et al. 2017, "Communication-efficient learning of deep networks from decentralized data"
(arXiv:1602.05629), algorithm 1. Written with deltas, the mean of the agents' models is the old
model plus the mean of their deltas; ``server_learning_rate`` scales it, 1 being the paper's.
"""

from collections.abc import Iterable

from fedmill_coordinator.aggregation.base import (
    Report,
    Rule,
    State,
    Update,
    Vector,
    narrow,
    report,
    weighted_mean,
)
from fedmill_shared.job import Federation


def _step(
    state: State, updates: Iterable[Update], settings: Federation
) -> tuple[Vector, State, Report]:
    mean = weighted_mean(state.elements, updates, settings.staleness_exponent)
    delta = mean.delta
    delta *= settings.server_learning_rate
    return narrow(delta), state, report(mean, delta)


FEDAVG = Rule(name="fedavg", init=State, step=_step)
