# SPDX-License-Identifier: Apache-2.0
"""What an aggregation rule is: pure functions from a stream of updates to one delta.

The stream is consumed once; memory is one float64 vector of the model's size and one update. The
updates must come sorted by agent id: floating-point sums depend on their order, and a fixed order
makes the result the same bits whenever, and in whatever order, the updates arrived. A stream that
is not sorted is refused, never sorted: that would mean to hold it.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fedmill_shared.errors import ModelError
from fedmill_shared.job import Federation

Vector = NDArray[np.float32]

_BLOCK = 16_384  # elements whose float64 copy stays in the processor's cache


@dataclass(frozen=True, slots=True)
class Update:
    """One agent's contribution to a round.

    Attributes:
        agent: agent id.
        examples: training windows behind it: its weight.
        delta: float32 (n,), the trained model minus its base.
    """

    agent: str
    examples: int
    delta: Vector


class State(Struct, frozen=True):
    """What a rule remembers between rounds; the same type for every rule, stored as MessagePack.

    Attributes:
        elements: length of the model's vector.
        momentum: float32 (elements,), little-endian, of rules with momentum; else empty.
    """

    elements: int
    momentum: bytes = b""


class Report(Struct, frozen=True):
    """What a round consisted of.

    Attributes:
        agents: number of updates.
        examples: training windows behind them.
        norms: agent id -> Euclidean norm of its delta.
        norm: Euclidean norm of the resulting delta.
    """

    agents: int
    examples: int
    norms: dict[str, float]
    norm: float


Step = Callable[[State, Iterable[Update], Federation], tuple[Vector, State, Report]]


@dataclass(frozen=True, slots=True)
class Rule:
    """An aggregation rule.

    Attributes:
        name: what the job file calls it.
        init: ``elements -> state`` before the first round.
        step: ``(state, updates sorted by agent, settings) -> (delta (n,), next state, report)``,
            where the new model is the old one plus ``delta``. Raises ModelError where there are
            no updates or no examples, where an update is a duplicate, out of order, of another
            length or not finite, or where the result overflows float32.
    """

    name: str
    init: Callable[[int], State]
    step: Step


def weighted_mean(
    elements: int, updates: Iterable[Update]
) -> tuple[NDArray[np.float64], int, dict[str, float]]:
    """Mean (elements,) weighted by examples, sum of the examples, and norm of each agent's delta.

    Raises:
        ModelError: as ``Rule.step``.
    """
    total = np.zeros(elements, np.float64)
    examples = 0
    norms: dict[str, float] = {}
    for update in _checked(elements, updates):
        norms[update.agent] = _add(total, update)
        examples += update.examples
    if examples == 0:
        raise ModelError(
            f"aggregation: {len(norms)} updates with no training windows behind them",
            remedy="wait until the agents have labelled windows, or lower federation.minimum",
        )
    total /= examples
    return total, examples, norms


def narrow(vector: NDArray[np.float64]) -> Vector:
    """``vector`` (n,) as float32.

    Raises:
        ModelError: an element overflows float32.
    """
    with np.errstate(over="ignore"):
        result = vector.astype(np.float32)
    if not np.isfinite(result).all():
        raise ModelError(
            "aggregation: the round's delta overflows float32",
            remedy="lower federation.server_learning_rate or the learning rate of the agents",
        )
    return result


def report(delta: NDArray[np.float64], examples: int, norms: dict[str, float]) -> Report:
    """Report of a round with the resulting ``delta`` (n,)."""
    return Report(len(norms), examples, norms, math.sqrt(_squares(delta)))


def _checked(elements: int, updates: Iterable[Update]) -> Iterator[Update]:
    previous = ""
    for update in updates:
        if update.agent == previous:
            raise ModelError(f"aggregation: agent {update.agent!r} has two updates in one round")
        if update.agent < previous:
            raise ModelError(
                f"aggregation: update of {update.agent!r} after {previous!r}; updates come "
                "sorted by agent id"
            )
        if update.delta.dtype != np.float32 or update.delta.shape != (elements,):
            raise ModelError(
                f"aggregation: delta of {update.agent!r} is {update.delta.dtype} "
                f"{update.delta.shape}, the model is float32 ({elements},)",
                remedy="the agent and the coordinator disagree on the architecture",
            )
        if update.examples < 0:
            raise ModelError(
                f"aggregation: update of {update.agent!r} has {update.examples} training windows"
            )
        previous = update.agent
        yield update


def _add(total: NDArray[np.float64], update: Update) -> float:
    """Add examples times delta to ``total`` (n,) in place; the norm of the delta."""
    block = np.empty(_BLOCK, np.float64)
    squares = 0.0
    for start in range(0, total.size, _BLOCK):
        part = total[start : start + _BLOCK]
        scaled = block[: part.size]
        scaled[:] = update.delta[start : start + _BLOCK]
        # Squares of float32 fit float64, so only a NaN or an infinity spoils the sum.
        squares += _squares(scaled)
        if not math.isfinite(squares):
            raise ModelError(
                f"aggregation: delta of agent {update.agent!r} holds NaN or infinity",
                remedy="training diverged on that agent; look at its data and its learning rate",
            )
        scaled *= update.examples
        part += scaled
    return math.sqrt(squares)


def _squares(vector: NDArray[np.float64]) -> float:
    # Not a BLAS dot product: its threads cost more than they save, and their number would decide
    # the last digits.
    return float(np.einsum("i,i->", vector, vector))
