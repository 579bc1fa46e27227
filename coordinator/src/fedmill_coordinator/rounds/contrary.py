# SPDX-License-Identifier: Apache-2.0
"""Which agents pull against most of the others, round after round.

In one round honest agents that know different faults look as contrary as wrong ones. Averaged over
rounds what they have in common remains. An agent is contrary if its average agreement is negative
and lies far below the middle of the fleet, counted in robust spreads (1.4826 times the median
absolute deviation: the standard deviation of a normal distribution). What is blatant is seen in
fewer rounds, before it has turned the model; the fewer they are, the further it must lie, as the
error of an average grows with the root.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from statistics import fmean, median

from fedmill_coordinator.aggregation.robust.base import Verdict

LEAST_AGENTS = 6
"""With fewer of them, in quarantine or not, the middle and the spread say nothing."""
FAR = 3.5
"""Spreads below the middle from which on an average over all rounds is contrary."""
NEAR = 1.0
"""Spreads below the middle up to which an average fits."""
LEAST_COMMON = 0.02
"""Middle agreement below which agents have too little in common to judge anybody who is not
blatant: at the end of a training, and of updates that are nearly all zeros. Nobody goes out."""
BLATANT = -0.3
"""Agreement below which fewer rounds may do, and nothing need be common to the others: agents that
all send the same backwards leave them little."""
_LEAST_SPREAD = 0.02


def contrary(
    told: Mapping[str, Sequence[Verdict]], rounds: int, inside: Collection[str]
) -> dict[str, float]:
    """Agents that are contrary over some of their last rounds, with their average agreement.

    Args:
        told: agent -> verdicts of the rounds it was in, the oldest first.
        rounds: how many of them are averaged at most, of those in which somebody looked at
            agreement. Over k of them ``FAR * sqrt(rounds / k)`` spreads are far.
        inside: agents in quarantine, which are no measure for the others.
    """
    found: dict[str, float] = {}
    for count in range(1, rounds + 1):
        averages = _averages(told, count)
        middle, below = _below(averages, inside)
        limit = FAR * math.sqrt(rounds / count)
        most = 0.0 if count == rounds and middle >= LEAST_COMMON else BLATANT
        found |= {a: averages[a] for a, far in below.items() if averages[a] < most and far >= limit}
    return found


def agreeing(
    told: Mapping[str, Sequence[Verdict]], rounds: int, inside: Collection[str]
) -> set[str]:
    """Agents whose average agreement over their last ``rounds`` rounds is near the middle."""
    middle, below = _below(_averages(told, rounds), inside)
    return {agent for agent, far in below.items() if far < NEAR and middle >= LEAST_COMMON}


def _averages(told: Mapping[str, Sequence[Verdict]], rounds: int) -> dict[str, float]:
    averages = {}
    for agent, verdicts in told.items():
        agreed = [each.agreement for each in verdicts if each.agreement is not None][-rounds:]
        if len(agreed) == rounds:
            averages[agent] = fmean(agreed)
    return averages


def _below(values: Mapping[str, float], inside: Collection[str]) -> tuple[float, dict[str, float]]:
    """The middle, and how many spreads each value lies below; of nobody where they are too few."""
    outside = [value for agent, value in values.items() if agent not in inside]
    if len(values) < LEAST_AGENTS or not outside:
        return 0.0, {}
    middle = median(outside)
    spread = max(_LEAST_SPREAD, 1.4826 * median(abs(value - middle) for value in outside))
    return middle, {agent: (middle - value) / spread for agent, value in values.items()}
