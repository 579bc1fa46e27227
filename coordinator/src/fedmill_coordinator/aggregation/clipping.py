# SPDX-License-Identifier: Apache-2.0
"""Clipping: an update that is much longer than is usual is shortened to a usual length.

Sun et al. 2019, "Can you really backdoor federated learning?" (arXiv:1911.07963), section 4: what
one agent can do to the model is bounded by the length of its update. Here the bound follows the
fleet, and ``robustness.clip`` says how many times the usual length it is.

What is usual is the median of a pool: the lengths of this round and, where they are fewer than
``POOL``, the medians of as many rounds before. So a large round goes by itself, and follows a
fleet whose updates grow or shrink; a round of one, two or three, where one agent would be its own
measure, goes by those before. But never by less than the longest median so far, less one per cent
a round: once most plants agree, what they still learn is short, and the one that alone knows a
fault has the longest updates of all. Lengths are per learning rate, so that a schedule makes nobody
look long. Four details keep it from being led:

- of an even number, the median is the geometric mean of the two in the middle: a gigantic one of
  two counts by its root;
- zeros are left out: agents that learned nothing do not shorten the others to nothing;
- what is remembered of a round is the median after clipping: one of two agents that makes its
  updates ever longer brings what is usual to ``clip`` times the other's, and no further;
- the longest median is that of a pool: a round in which wrong agents are most raises it by nothing.

The first round of a job, with one update, has nothing to go by.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

POOL = 8
"""Lengths of which the median is reckoned at least, if so many are known."""

FADING = 0.99
"""What is left of the longest median after a round."""


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """How a round's updates are shortened.

    Attributes:
        bound: length of the longest that is left; 0 where all that count are zero.
        factors: float64 (n,), what each update is multiplied with, at most 1.
        remembered: the medians for the next round, the newest last.
        peak: the longest median, less what time has taken of it.
    """

    bound: float
    factors: NDArray[np.float64]
    remembered: tuple[float, ...]
    peak: float


def clip(
    lengths: NDArray[np.float64],
    counts: NDArray[np.bool_],
    remembered: Sequence[float],
    multiple: float,
    *,
    peak: float = 0.0,
) -> Clip:
    """Shorten updates of ``lengths`` (n,) to ``multiple`` times what is usual.

    Those that do not count, by ``counts`` (n,), do not say what is usual either. ``remembered`` and
    ``peak`` are those of the last :class:`Clip`.
    """
    told = lengths[counts & (lengths > 0)]
    if told.size == 0:
        return Clip(0.0, np.ones_like(lengths), tuple(remembered), peak)
    before = remembered[-max(0, POOL - told.size) :] if told.size < POOL else ()
    peak *= FADING
    pooled = _middle(np.append(told, before))
    bound = multiple * max(peak, pooled)
    factors = np.minimum(1.0, bound / np.maximum(lengths, bound))
    usual = _middle(np.minimum(told, bound))
    return Clip(bound, factors, (*remembered, usual)[-POOL:], max(peak, min(usual, pooled)))


def _middle(lengths: NDArray[np.float64]) -> float:
    """Median of positive ``lengths`` (n,); of two in the middle, their geometric mean."""
    ordered = np.sort(lengths)
    lower, upper = ordered[(ordered.size - 1) // 2], ordered[ordered.size // 2]
    return float(lower if lower == upper else np.sqrt(lower) * np.sqrt(upper))
