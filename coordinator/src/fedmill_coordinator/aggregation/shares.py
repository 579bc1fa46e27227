# SPDX-License-Identifier: Apache-2.0
"""What each update weighs: by the examples behind it, within reason.

An agent says itself how many training windows are behind its update, and nobody can check it. So
that no single claim owns a round, the windows of one agent count at most ``robustness.claim`` times
the median over the agents of the round (of an even number of agents, the lower one of the two in
the middle: by default, of two agents, one can be worth five sixths at most).
"""

from collections import Counter
from collections.abc import Collection, Sequence
from statistics import median_low
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.errors import ModelError

MOST = 5.0
"""``robustness.claim`` where a job leaves it out."""


class Claim(Protocol):
    """What an agent says is behind one update of its."""

    @property
    def agent(self) -> str:
        """Agent id."""

    @property
    def examples(self) -> int:
        """Training windows."""


def shares_of(
    updates: Sequence[Claim], *, excluded: Collection[str] = (), most: float = MOST
) -> NDArray[np.float64]:
    """Share of each of ``updates`` in the round, float64 (n,), together 1.

    Agents of ``excluded``, and those without examples, have none. The examples of one agent count
    at most ``most`` times the median.

    Raises:
        ModelError: nobody is left.
    """
    claimed = [0 if each.agent in excluded else each.examples for each in updates]
    totals: Counter[str] = Counter()
    for update, examples in zip(updates, claimed, strict=True):
        totals[update.agent] += examples
    told = [total for total in totals.values() if total > 0]
    if not told:
        put_aside = f" or from {len(excluded)} excluded agents" if excluded else ""
        raise ModelError(
            f"aggregation: {len(updates)} updates with no training windows behind them{put_aside}",
            remedy="wait until the agents have labelled windows, or lower federation.minimum",
        )
    bound = most * median_low(told)
    counted = [
        examples * min(bound, totals[update.agent]) / max(1, totals[update.agent])
        for update, examples in zip(updates, claimed, strict=True)
    ]
    return np.array(counted, np.float64) / sum(counted)


def staleness_weight(staleness: int, exponent: float) -> float:
    """Share of its length that an update keeps which is ``staleness`` rounds late, 0 < w <= 1.

    Nguyen et al., "Federated Learning with Buffered Asynchronous Aggregation", AISTATS 2022,
    section 5: ``(1 + s) ** -0.5``. The update itself becomes shorter, and the others gain nothing
    by it: a buffer of stale updates makes a short step, as in the paper. With steps of full length
    such a buffer threw a good model back.
    """
    return float((1.0 + staleness) ** -exponent)
