# SPDX-License-Identifier: Apache-2.0
"""What an aggregation rule is: pure functions from a stream of updates to one delta.

The stream is consumed once; memory is one float64 vector of the model's size and one update. The
updates must come sorted by agent id and round: floating-point sums depend on their order, and a
fixed order makes the result the same bits whenever, and in whatever order, the updates arrived. A
stream that is not sorted is refused, never sorted: that would mean to hold it.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from msgspec import Struct, structs
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
        examples: training windows behind it.
        delta: float32 (n,), the trained model minus its base.
        round: the round it was made for.
        staleness: rounds by which it is late.
    """

    agent: str
    examples: int
    delta: Vector
    round: int = 0
    staleness: int = 0


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
        norms: agent id -> Euclidean norm of its delta, the newest if it has several.
        norm: Euclidean norm of the resulting delta.
        stale: number of updates that were made for an earlier round.
    """

    agents: int
    examples: int
    norms: dict[str, float]
    norm: float
    stale: int = 0


Step = Callable[[State, Iterable[Update], Federation], tuple[Vector, State, Report]]


@dataclass(frozen=True, slots=True)
class Rule:
    """An aggregation rule.

    Attributes:
        name: what the job file calls it.
        init: ``elements -> state`` before the first round.
        step: ``(state, sorted updates, settings) -> (delta (n,), next state, report)``,
            where the new model is the old one plus ``delta``. Raises ModelError where there are
            no updates or no examples, where an update is a duplicate, out of order, of another
            length or not finite, or where the result overflows float32.
    """

    name: str
    init: Callable[[int], State]
    step: Step


@dataclass(frozen=True, slots=True)
class Mean:
    """A weighted mean float64 (n,), and the report of what went into it but for ``norm``."""

    delta: NDArray[np.float64]
    report: Report


def staleness_weight(staleness: int, exponent: float) -> float:
    """Share of its weight that an update keeps which is ``staleness`` rounds late, 0 < w <= 1.

    Nguyen et al., "Federated Learning with Buffered Asynchronous Aggregation", AISTATS 2022,
    section 5: ``(1 + s) ** -0.5``.
    """
    return float((1.0 + staleness) ** -exponent)


def weighted_mean(elements: int, updates: Iterable[Update], exponent: float) -> Mean:
    """Mean of the deltas (elements,) by examples, each shortened by its ``staleness_weight``.

    The sum is divided by the examples, not by the weights: a buffer of stale updates makes a short
    step, as in the paper. With steps of full length such a buffer threw a good model back.

    Raises:
        ModelError: as ``Rule.step``.
    """
    total = np.zeros(elements, np.float64)
    examples = count = stale = 0
    norms: dict[str, float] = {}
    for update in _checked(elements, updates):
        weight = update.examples * staleness_weight(update.staleness, exponent)
        norms[update.agent] = _add(total, update, weight)
        examples += update.examples
        count += 1
        stale += update.staleness > 0
    if examples == 0:
        raise ModelError(
            f"aggregation: {count} updates with no training windows behind them",
            remedy="wait until the agents have labelled windows, or lower federation.minimum",
        )
    total /= examples
    return Mean(total, Report(count, examples, norms, 0.0, stale))


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


def report(mean: Mean, delta: NDArray[np.float64]) -> Report:
    """Report of a round that turned ``mean`` into ``delta`` (n,)."""
    return structs.replace(mean.report, norm=math.sqrt(_squares(delta)))


def _checked(elements: int, updates: Iterable[Update]) -> Iterator[Update]:
    previous = ("", 0)
    for update in updates:
        key = (update.agent, update.round)
        if key == previous:
            raise ModelError(f"aggregation: agent {update.agent!r} has two updates in one round")
        if key < previous:
            raise ModelError(
                f"aggregation: update of {update.agent!r} after {previous[0]!r}; updates come "
                "sorted by agent id and round"
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
        previous = key
        yield update


def _add(total: NDArray[np.float64], update: Update, weight: float) -> float:
    """Add ``weight`` times delta to ``total`` (n,) in place; the norm of the delta."""
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
        scaled *= weight
        part += scaled
    return math.sqrt(squares)


def _squares(vector: NDArray[np.float64]) -> float:
    # Not a BLAS dot product: its threads cost more than they save, and their number would decide
    # the last digits.
    return float(np.einsum("i,i->", vector, vector))
