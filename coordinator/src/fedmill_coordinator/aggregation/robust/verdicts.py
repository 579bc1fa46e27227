# SPDX-License-Identifier: Apache-2.0
"""What a round says about each agent, in numbers and in words for an engineer."""

import math
from collections.abc import Sequence

import numpy as np

from fedmill_coordinator.aggregation.robust.base import Judgement, Numbers, Verdict

APART = 0.1
"""Trust below which an update stands apart."""
_LONG = 2.0  # times the median length from which on the length is told


def verdicts(
    agents: Sequence[str],
    norms: Numbers,
    factors: Numbers,
    weights: Numbers,
    judgement: Judgement | None = None,
    *,
    agreements: Numbers | None = None,
) -> dict[str, Verdict]:
    """Verdict on each agent, on the newest update of one that has several.

    Its agreement is that of its worst one, so that a good one beside it hides nothing.

    Args:
        agents: (n,) of the updates, those of one agent by round.
        norms: (n,) lengths before the clip.
        factors: (n,) of the clip.
        weights: (n,) as of a scene.
        judgement: of the round; None: nothing is told of directions but what follows from
            ``agreements``.
        agreements: (n,) as ``agreement.agreement`` gives them; None: nobody looked.
    """
    told = norms[(weights > 0) & (norms > 0)]
    ratios = norms / np.median(told) if told.size else np.zeros_like(norms)
    agreed = _worst(agents, agreements)
    found = {}
    for number, agent in enumerate(agents):
        words = _length(float(ratios[number]))
        trust, score = 1.0, 0.0
        if judgement is not None:
            score = float(judgement.scores[number])
            if judgement.trust is not None and judgement.likeness is not None:
                trust = float(judgement.trust[number])
                words += _direction(float(judgement.likeness[number]), trust, judgement.others)
            if weights[number] > 0 and judgement.coefficients[number] == 0:
                words.append("was left out")
        elif agent in agreed:
            words.append(_agreement(agreed[agent]))
        factor = float(factors[number])
        found[agent] = Verdict(trust, score, ", ".join(words), factor, agreed.get(agent))
    return found


def stands_apart(verdict: Verdict) -> bool:
    """Whether an update does not belong to the others, by its direction."""
    return verdict.trust < APART


def _worst(agents: Sequence[str], agreements: Numbers | None) -> dict[str, float]:
    """Agent -> least agreement of its updates; without agents of which none is told."""
    worst: dict[str, float] = {}
    told = np.full(len(agents), np.nan) if agreements is None else agreements
    for agent, each in zip(agents, told.tolist(), strict=True):
        if not math.isnan(each):
            worst[agent] = min(each, worst.get(agent, each))
    return worst


def _agreement(cosine: float) -> str:
    how = "agrees with" if cosine >= 0 else "pulls against"
    return f"{how} most others (cosine {cosine:.2f})"


def _length(ratio: float) -> list[str]:
    if ratio == 0:
        return ["is zero"]
    if ratio < _LONG:
        return []
    return [f"is {ratio:.{0 if ratio >= 100 else 1}f} times as long as the median"]


def _direction(cosine: float, trust: float, others: str) -> list[str]:
    if np.isnan(cosine):
        return []
    if trust >= 0.9 and cosine >= 0:
        how = f"fits {others}"
    elif trust >= 0.9:
        how = f"is no less like {others} than most are"
    elif trust >= APART:
        how = f"differs from {others}"
    elif cosine < 0:
        how = f"points away from {others}"
    else:
        how = f"hardly resembles {others}"
    return [f"{how} (cosine {cosine:.2f})"]
