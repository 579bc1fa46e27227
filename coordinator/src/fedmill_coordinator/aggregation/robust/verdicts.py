# SPDX-License-Identifier: Apache-2.0
"""What a round says about each agent, in numbers and in words for an engineer."""

import math
from collections.abc import Sequence

import numpy as np

from fedmill_coordinator.aggregation.robust.base import Judgement, Numbers, Verdict

APART = 0.1
"""Trust below which an update stands apart."""
CONTRARY = 0.05
"""Agreement from which on, below zero, an update is said to pull against most others."""
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
    """Verdict on each agent: of one with several updates, on that which fits least.

    A good one beside it hides nothing; of equal ones the newest counts.

    Args:
        agents: (n,) of the updates, those of one agent by round.
        norms: (n,) lengths before the clip.
        factors: (n,) of the clip.
        weights: (n,) as of a scene.
        judgement: of the round; None: nobody looked at single directions.
        agreements: (n,) as ``agreement.agreement`` gives them; None: nobody looked.
    """
    told = norms[(weights > 0) & (norms > 0)]
    ratios = norms / np.median(told) if told.size else np.zeros_like(norms)
    found: dict[str, Verdict] = {}
    for number, agent in enumerate(agents):
        agreed = None if agreements is None else _known(agreements[number])
        words = _length(float(ratios[number]))
        trust, score = None, 0.0
        if judgement is not None:
            score = float(judgement.scores[number])
            if judgement.trust is not None and judgement.likeness is not None:
                trust = float(judgement.trust[number])
                words += _direction(float(judgement.likeness[number]), trust, judgement.others)
            if weights[number] > 0 and judgement.coefficients[number] == 0:
                words.append("was left out")
        if ratios[number] > 0:
            words += _agreement(agreed, alone=trust is None)
        verdict = Verdict(trust, score, ", ".join(words), float(factors[number]), agreed)
        found[agent] = min(verdict, found.get(agent, verdict), key=_fit)
    return found


def _fit(verdict: Verdict) -> tuple[float, float]:
    trust, agreed = verdict.trust, verdict.agreement
    return (1.0 if trust is None else trust, 1.0 if agreed is None else agreed)


def _known(agreed: float) -> float | None:
    return None if math.isnan(agreed) else float(agreed)


def stands_apart(verdict: Verdict) -> bool:
    """Whether an update does not belong to the others, by its direction."""
    return verdict.trust is not None and verdict.trust < APART


def is_against(agreement: float) -> bool:
    """Whether an update with this agreement clearly pulls against most others."""
    return agreement <= -CONTRARY


def _agreement(cosine: float | None, *, alone: bool) -> list[str]:
    """Against most others is always told, the rest where nothing else is."""
    if cosine is None:
        return []
    if is_against(cosine):
        how = "pulls against"
    elif not alone:
        return []
    else:
        how = "agrees with" if cosine > CONTRARY else "has little in common with"
    return [f"{how} most others (cosine {cosine:.2f})"]


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
