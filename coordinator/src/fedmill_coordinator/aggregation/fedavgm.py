# SPDX-License-Identifier: Apache-2.0
"""FederatedAveraging with server momentum: rounds that agree gather speed, noise averages out.

Hsu, Qi and Brown 2019, "Measuring the effects of non-identical data distribution for federated
visual classification" (arXiv:1909.06335): with the weighted mean delta d of a round,
v <- momentum * v + d, and the model moves by v, here times ``server_learning_rate``. A steady d
moves the model by d / (1 - momentum) per round in the long run.
"""

from collections.abc import Iterable

import numpy as np

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
from fedmill_shared.errors import ModelError
from fedmill_shared.job import Federation


def _init(elements: int) -> State:
    return State(elements, bytes(4 * elements))


def _step(
    state: State, updates: Iterable[Update], settings: Federation
) -> tuple[Vector, State, Report]:
    if len(state.momentum) != 4 * state.elements:
        raise ModelError(
            f"aggregation: {len(state.momentum)} bytes of momentum do not fit a model of "
            f"{state.elements} elements",
            remedy="start the job anew: its rule or its model was changed",
        )
    mean = weighted_mean(state.elements, updates, settings.staleness_exponent)
    previous = np.frombuffer(state.momentum, "<f4").astype(np.float64)
    velocity = mean.delta
    velocity += settings.server_momentum * previous
    stored = narrow(velocity).astype("<f4", copy=False).tobytes()
    velocity *= settings.server_learning_rate
    state = State(state.elements, stored)
    return narrow(velocity), state, report(mean, velocity)


FEDAVGM = Rule(name="fedavgm", init=_init, step=_step)
