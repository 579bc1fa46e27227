# SPDX-License-Identifier: Apache-2.0
"""What an agent does about drift; each action is one call of another part, which may say no."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.drift.charts import Change, sigmas
from fedmill_shared.job import Job
from fedmill_shared.messages import Wish
from fedmill_shared.models.manifest import Manifest

Vector = NDArray[np.float32]
RECALIBRATED, PERSONAL = "recalibrated", "personal"
"""Origins of proposals."""


@dataclass(frozen=True, slots=True)
class Acting:
    """The parts of the agent that act.

    Attributes:
        wish: tells the coordinator what the agent wishes for.
        propose: offers a model of this agent, by origin, weights and reason; False: not now.
        roll_back: goes back to what served before, by reason and evidence; False: not possible.
        keep: keeps so many of the next windows for training.
        left: how many of them are still to come.
        model: layout and weights of what scores; None before the first version.
        own: weights that this agent has tuned to itself; None where there are none.
    """

    wish: Callable[[Wish], None]
    propose: Callable[[str, Vector, str], bool]
    roll_back: Callable[[str, dict[str, float]], bool]
    keep: Callable[[int], None]
    left: Callable[[], int]
    model: Callable[[], tuple[Manifest, Vector] | None]
    own: Callable[[], Vector | None]


def in_words(change: Change, column: str) -> str:
    """A change for people."""
    where = f" of {column}" if column else ""
    statistic, limit = sigmas(change.chart, change.statistic), sigmas(change.chart, change.limit)
    return (
        f"drift: {change.chart}{where} is {statistic:.3g}, the limit is {limit:.3g}, "
        f"after {change.windows} windows"
    )


def evidence(change: Change) -> dict[str, float]:
    """The same in numbers, for messages: they have no place for what is none, and would be lost."""
    told = {
        change.chart.replace("-", "_"): sigmas(change.chart, change.statistic),
        "limit": sigmas(change.chart, change.limit),
        "windows": float(change.windows),
    }
    return {name: value for name, value in told.items() if np.isfinite(value)}


def perform(action: str, job: Job, acting: Acting, change: Change, column: str) -> str:
    """Do ``collect``, ``round``, ``personal`` or ``rollback``; why not, or nothing if it is done.

    Raises:
        FedmillError: the part that acts fails.
    """
    reason = in_words(change, column)
    if action == "collect":
        acting.keep(job.drift.collect_windows)
        return ""
    if action == "round":
        wish = Wish(job=job.name, kind="round", reason=reason, evidence=evidence(change))
        acting.wish(wish)
        return ""
    if action == "rollback":
        done = acting.roll_back(reason, evidence(change))
        return "" if done else "there is no model before, or another one is on its way"
    vector = acting.own()
    if vector is None:
        return "this agent has not tuned a model to itself yet"
    return offered(acting, PERSONAL, vector, reason)


def offered(acting: Acting, origin: str, vector: Vector, reason: str) -> str:
    """Offer a model; why it was not taken on, or nothing."""
    done = acting.propose(origin, vector, reason)
    return "" if done else "another model is on its way, or this one serves or was refused"
