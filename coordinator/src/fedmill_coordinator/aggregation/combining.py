# SPDX-License-Identifier: Apache-2.0
"""How updates become one: by the mean, or by a robust rule that says what counts.

The rules of ``robust.GRAM_RULES`` see how the updates lie to each other and give coefficients; with
those the sum is taken as the mean is. The rules of ``robust.COLUMN_RULES`` see the updates
themselves, some columns at a time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmill_coordinator.aggregation.base import Update, Vector
from fedmill_coordinator.aggregation.columns import by_columns
from fedmill_coordinator.aggregation.robust import COLUMN_RULES, GRAM_RULES
from fedmill_coordinator.aggregation.robust.base import Judgement, Scene
from fedmill_coordinator.aggregation.robust.bucketing import (
    buckets,
    judge_in_buckets,
    middle_in_buckets,
)
from fedmill_coordinator.aggregation.robust.gram import gram, products
from fedmill_coordinator.aggregation.robust.likeness import compared, with_likeness
from fedmill_coordinator.aggregation.summing import Term, weighted_sum
from fedmill_shared.codec.base import Dense, Payload
from fedmill_shared.job import Robustness

Numbers = NDArray[np.float64]

FEW = 12
"""Updates up to which the mean looks at every single direction. Quarantine goes by it in fleets of
fewer than ``rounds.contrary.LEAST_AGENTS``, of which each may have ``rounds.harvest.TURNS``."""

_LEAST = 1e-6  # of the golden update's length, below which an update counts as zero


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What is combined.

    Attributes:
        updates: n of them, in order.
        shares: float64 (n,), what each weighs by its examples, together 1; 0: counts for nothing.
        factors: float64 (n,), what its length is multiplied with.
        late: float64 (n,), what its lateness leaves of its weight; 1: nothing is lost.
        reference: one more vector (elements,) that a rule goes by: the golden update, or the
            aggregate of the round before.
    """

    updates: Sequence[Update]
    shares: Numbers
    factors: Numbers
    late: Numbers
    reference: Payload | None = None

    @property
    def votes(self) -> Numbers:
        """What each counts where examples do not (n,): its lateness over those that count."""
        counts = self.shares > 0
        return np.where(counts, self.late, 0.0) / np.count_nonzero(counts)

    @property
    def openers(self) -> list[Callable[[], Payload]]:
        """What opens each update."""
        return [update.open for update in self.updates]

    @property
    def lengths(self) -> Numbers:
        """Norms (n,) of the updates times their factors."""
        return np.array([update.norm for update in self.updates]) * self.factors

    def terms(self, coefficients: Numbers) -> list[Term]:
        """The updates times ``coefficients`` (n,)."""
        pairs = zip(self.updates, coefficients, strict=True)
        return [Term(update.agent, update.open, float(factor)) for update, factor in pairs]


def combine(
    elements: int, material: Material, robustness: Robustness, *, seed: int, workers: int = 1
) -> tuple[Vector, Judgement | None]:
    """The combined update (elements,), and what is to be said of each one that went into it.

    Nothing is said where the rule is ``mean`` and nobody can come into quarantine, or more than
    ``FEW`` updates make agreement the better measure: it would take a second pass over them.

    Raises:
        ModelError: an update has another length, the rule lacks its reference, or a number
            overflows.
    """
    if robustness.rule in COLUMN_RULES:
        result = _by_columns(elements, material, robustness, seed, workers)
        return result, _compared(material, result)
    if robustness.rule in GRAM_RULES:
        judged = _judged(material, robustness, seed)
        return _summed(elements, material, judged, workers), judged
    coefficients = material.shares * material.late
    result = weighted_sum(
        elements, material.terms(coefficients * material.factors), workers=workers
    )
    watched = robustness.quarantine_rounds > 0 and len(material.updates) <= FEW
    return result, _among_few(material, robustness) if watched else None


def _summed(elements: int, material: Material, judged: Judgement, workers: int) -> Vector:
    terms = material.terms(judged.coefficients * material.factors)
    reference = material.reference
    if reference is not None:
        terms.append(Term("the reference", lambda: reference, judged.anchor))
    return weighted_sum(elements, terms, workers=workers)


def _among_few(material: Material, robustness: Robustness) -> Judgement:
    """What the updates are like to each other, where each has a vote.

    The mean itself is no measure: by what it claims of its examples one of few may be most of it.
    """
    scene, votes = _scene(material, robustness.byzantine), material.votes
    return with_likeness(scene, Judgement(votes, np.zeros_like(votes), ""))


def _compared(material: Material, result: Vector) -> Judgement:
    """What the updates are like beside the ``result`` (elements,) of a rule that does not tell."""
    inner = products(material.openers, material.factors, Dense(result))
    return compared(inner, material.lengths**2, material.votes)


def _judged(material: Material, robustness: Robustness, seed: int) -> Judgement:
    find = _trust_scene if robustness.rule == "trust" else _scene
    scene = find(material, robustness.byzantine)
    dealt = buckets(scene.weights, robustness.bucket, seed)
    judged = judge_in_buckets(GRAM_RULES[robustness.rule], scene, dealt)
    return with_likeness(scene, judged)


def _scene(material: Material, byzantine: float) -> Scene:
    inner = gram(material.openers, material.factors, material.reference)
    if material.reference is None:
        return Scene(inner, material.votes, byzantine)
    return Scene(inner[:-1, :-1], material.votes, byzantine, inner[-1])


def _trust_scene(material: Material, byzantine: float) -> Scene:
    """Every update is compared with the golden one, and none with another."""
    anchor, lengths = None, material.lengths
    if material.reference is not None:
        anchor = products(material.openers, material.factors, material.reference)
        # Drawn out to the golden one's length, what is next to nothing would overflow.
        norms = np.array([update.norm for update in material.updates])
        lengths = np.where(norms > _LEAST * np.sqrt(anchor[-1]), lengths, 0.0)
    return Scene(np.diag(lengths**2), material.votes, byzantine, anchor)


def _by_columns(
    elements: int, material: Material, robustness: Robustness, seed: int, workers: int
) -> Vector:
    counts = material.shares > 0
    pairs = zip(material.terms(material.factors), counts, strict=True)
    terms = [term for term, used in pairs if used]
    dealt = buckets(material.votes[counts], robustness.bucket, seed)
    rule = COLUMN_RULES[robustness.rule]

    def of_block(block: Vector) -> Vector:
        return middle_in_buckets(rule, block, robustness.byzantine, dealt)

    return by_columns(elements, terms, of_block, workers=workers)
