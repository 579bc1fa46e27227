# SPDX-License-Identifier: Apache-2.0
"""What a robust rule is: a pure function from inner products of the updates to coefficients.

Krum, the geometric median, centred clipping and trust need to know how the updates lie to each
other, and not what is in them: every point they can name is a sum ``c_1 x_1 + ... + c_n x_n``, and
its distance to any update follows from the inner products (``gram.py``). So such a rule is a few
operations on numbers (n, n), and one weighted sum ends the round.

What an agent claims about its examples buys no votes: to these rules every update is worth the
same but for its staleness, and nothing while its agent is in quarantine.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fedmill_shared.errors import ModelError

Numbers = NDArray[np.float64]
Block = NDArray[np.float32]

_ROUNDING = 4e-6
"""Share of |x|^2 + |y|^2 below which |x - y|^2 is rounding of float32 products."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """How the updates of a round lie to each other; n updates, already shortened by the clip.

    Attributes:
        gram: (n, n) inner products of the updates.
        weights: (n,) what each counts: ``(1 + staleness) ** -exponent`` over the number of updates
            that count, so that they sum to 1 where all are fresh and to less where some are late
            (decision 0002: late updates make short steps). 0: judged, but counts for nothing.
        byzantine: share of the updates that may be wrong, below 1/2.
        anchor: (n + 1,) inner products of one more vector with each update, and last with itself:
            the previous aggregate for ``centred_clipping``, the golden update for ``trust``.
    """

    gram: Numbers
    weights: Numbers
    byzantine: float
    anchor: Numbers | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """What a rule makes of a scene: the round's delta is ``coefficients @ x + anchor * vector``.

    Attributes:
        coefficients: (n,).
        scores: (n,) what the rule found for each update.
        statistic: what a score is.
        anchor: coefficient of the scene's extra vector.
        likeness: (n,) cosine of each update to what the others came to, NaN where they came to
            nothing; to the golden update for ``trust``.
        trust: (n,) 1: the update fits; 0: it stands apart.
        others: what ``likeness`` compares with.
    """

    coefficients: Numbers
    scores: Numbers
    statistic: str
    anchor: float = 0.0
    likeness: Numbers | None = None
    trust: Numbers | None = None
    others: str = "the others"


class Verdict(Struct, frozen=True, omit_defaults=True):
    """What a round found about one update; part of the round's report.

    Attributes:
        trust: 1: it fits the others; 0: it stands apart; None: nobody looked.
        score: what the rule found.
        statistic: how it lies to the others, for an engineer: what it "is" or "does".
        factor: what its length was multiplied with by the clip; 1: not clipped.
        agreement: median of its cosines to the others; None: nobody looked, or too few were there.
    """

    trust: float | None = None
    score: float = 0.0
    statistic: str = ""
    factor: float = 1.0
    agreement: float | None = None


GramRule = Callable[[Scene], Judgement]
"""Raises ModelError where no update counts, or the anchor is missing that the rule needs."""

ColumnRule = Callable[[Block, Numbers, float], Block]
"""``(float32 (n, width), weights (n,) as of a scene, byzantine) -> float32 (width,)``.

Raises ModelError where no update counts.
"""


def counted(weights: Numbers) -> NDArray[np.bool_]:
    """Which of the updates (n,) count.

    Raises:
        ModelError: none does.
    """
    counts = weights > 0
    if not counts.any():
        raise ModelError(
            f"aggregation: none of {weights.size} updates counts",
            remedy="lower robustness.quarantine_rounds or federation.staleness_exponent",
        )
    return counts


def tolerated(updates: int, byzantine: float, most: int) -> int:
    """How many of ``updates`` may be wrong: at least one where any may be, and at most ``most``."""
    if byzantine <= 0:
        return 0
    # 0.29 * 100 is 28.999999999999996
    return max(0, min(most, max(1, math.floor(byzantine * updates + 1e-9))))


def squared_distances(gram: Numbers) -> Numbers:
    """(n, n) squares of the distances between n vectors with inner products ``gram`` (n, n)."""
    squares = np.diagonal(gram)
    sums = squares[:, np.newaxis] + squares
    distances = sums - 2 * gram
    # What is left of two equal vectors would decide whom Krum prefers.
    distances[distances <= _ROUNDING * sums] = 0.0
    return distances


def distances_from(point: Numbers, squared: Numbers) -> Numbers:
    """(n,) distances of n vectors from their mean with weights ``point`` (n,), which sum to 1.

    ``squared`` (n, n) are the squares of the distances between them.
    """
    products = einsum("ij,j->i", squared, point)
    squares = products - 0.5 * einsum("i,i->", point, products)
    return np.asarray(np.sqrt(np.maximum(squares, 0.0)))


def einsum(formula: str, *operands: Numbers) -> Numbers:
    """``numpy.einsum`` of float64, for sums that BLAS would split among its threads.

    Their number must not decide the last digits of a coefficient, and so of a model.
    """
    return np.asarray(np.einsum(formula, *operands, optimize=False))
