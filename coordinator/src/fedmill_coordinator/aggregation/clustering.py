# SPDX-License-Identifier: Apache-2.0
"""Do the agents of a job learn one task or several?

Sattler, Müller & Samek, "Clustered Federated Learning: Model-Agnostic Distributed Multi-Task
Optimization Under Privacy Constraints", IEEE TNNLS 2020, arXiv:1910.01991: agents of one task pull
a model into one direction, agents of tasks that no model serves at the same time pull against each
other. So the cosines between their updates tell them apart, once the rounds lead nowhere any more
while the updates are as long as ever.

The paper splits a cluster in two so that the largest similarity across is as small as possible, and
the parts again. That is single linkage: each split cuts the weakest edge of a maximum spanning
tree. How often to split is decided here by its separation gap: the smallest similarity within the
clusters minus the largest across. The paper's thresholds are lengths, which differ from model to
model; ours are ratios. Plants whose labels merely differ in their mix also pull apart at first, but
their loss falls: hence ``standstill``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedmill_coordinator.aggregation.robust.base import Numbers, einsum
from fedmill_shared.errors import ModelError

MOST_BALANCE = 0.4
LEAST_PACE = 0.5
LEAST_STANDSTILL = 0.95
LEAST_GAP = 0.2
LOSS_ROUNDS = 5
"""Rounds whose mean loss is compared with that of as many before."""
FEWEST = 3
"""Agents of which at least two are in one cluster, so that there is a similarity within."""


@dataclass(frozen=True, slots=True)
class Split:
    """Clusters of vectors.

    Attributes:
        clusters: positions of the vectors of each cluster; all sorted.
        within: smallest cosine of two vectors of one cluster; 1 if every cluster has but one.
        across: largest cosine of two vectors of different clusters; -1 if there is one cluster.
    """

    clusters: tuple[tuple[int, ...], ...]
    within: float
    across: float

    @property
    def gap(self) -> float:
        """How far the clusters are apart; at 0 or less some vector is as near to another's."""
        return self.within - self.across


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for several tasks.

    Attributes:
        balance: length of the mean update over that of the longest.
        pace: length of the longest update over that of the longest of earlier rounds.
        standstill: mean loss of the last rounds over that of as many before; None with too few.
        split: the clusters that there would be; None with too few agents.
    """

    balance: float
    pace: float
    standstill: float | None
    split: Split | None

    @property
    def balanced(self) -> bool:
        """Whether the updates cancel each other out."""
        return self.balance <= MOST_BALANCE

    @property
    def moving(self) -> bool:
        """Whether single agents still want to move the model as far as ever."""
        return self.pace >= LEAST_PACE

    @property
    def stalled(self) -> bool:
        """Whether the loss no longer falls."""
        return self.standstill is not None and self.standstill >= LEAST_STANDSTILL

    @property
    def apart(self) -> bool:
        """Whether updates of one cluster are more alike than updates of two."""
        return self.split is not None and self.split.gap >= LEAST_GAP

    @property
    def says_split(self) -> bool:
        """Whether everything speaks for it."""
        return self.balanced and self.moving and self.stalled and self.apart


def evidence(
    gram: Numbers, weights: Numbers, *, longest: Sequence[float], losses: Sequence[float]
) -> Evidence:
    """What the updates of a round say.

    Args:
        gram: inner products (n, n) of the updates, of which none is zero.
        weights: (n,) of the updates in the mean, such as their examples.
        longest: length of the longest update of each round up to this one, over the round's
            learning rate.
        losses: mean training loss of the rounds up to this one.

    Raises:
        ModelError: there is no update, or one is zero.
    """
    cosine = cosines(gram)
    peak = max(longest, default=0.0)
    shares = weights / float(weights.sum())
    mean = math.sqrt(max(0.0, float(einsum("i,ij,j->", shares, gram, shares))))
    return Evidence(
        balance=mean / math.sqrt(float(np.diagonal(gram).max())),
        pace=longest[-1] / peak if peak > 0 else 1.0,
        standstill=standstill(losses),
        split=best_split(cosine),
    )


def standstill(losses: Sequence[float]) -> float | None:
    """Mean of the last ``LOSS_ROUNDS`` of ``losses`` over the mean of as many before.

    None where there are too few of them, or the loss is zero and nobody wants to go anywhere.
    """
    before = sum(losses[-2 * LOSS_ROUNDS : -LOSS_ROUNDS])
    if len(losses) < 2 * LOSS_ROUNDS or before <= 0:
        return None
    return sum(losses[-LOSS_ROUNDS:]) / before


def cosines(gram: Numbers) -> Numbers:
    """Cosines (n, n) between vectors with the inner products ``gram`` (n, n).

    Raises:
        ModelError: there is no vector, or one is zero and points nowhere.
    """
    lengths = np.sqrt(np.diagonal(gram))
    if not (lengths > 0).all() or lengths.size == 0:
        raise ModelError(
            "clustering: an update is zero, or there is none",
            remedy="leave agents out that learned nothing",
        )
    return np.asarray(np.clip(gram / lengths / lengths[:, np.newaxis], -1.0, 1.0))


def splits(similarity: Numbers) -> list[Split]:
    """Clusters of vectors with this ``similarity`` (n, n): two, then three, up to n.

    Each next one splits that cluster of the one before in two where the largest similarity across
    becomes smallest.
    """
    clusters: dict[int, tuple[int, ...]] = {place: (place,) for place in range(len(similarity))}
    within = dict.fromkeys(clusters, 1.0)
    found: list[Split] = []
    for across, *ends in _edges(similarity):
        found.append(Split(tuple(sorted(clusters.values())), min(within.values()), across))
        left, right = (next(k for k, v in clusters.items() if end in v) for end in ends)
        between = float(similarity[np.ix_(clusters[left], clusters[right])].min())
        clusters[left] = tuple(sorted(clusters[left] + clusters.pop(right)))
        within[left] = min(within[left], within.pop(right), between)
    return found[::-1]


def best_split(similarity: Numbers) -> Split | None:
    """The fewest clusters that are apart, or if none are, those that are nearest to it.

    Not more than half as many clusters as vectors: of two vectors at random one pair is always the
    nearest. None with fewer than three vectors.
    """
    if len(similarity) < FEWEST:
        return None
    found = splits(similarity)[: max(1, len(similarity) // 2 - 1)]
    apart = (split for split in found if split.gap >= LEAST_GAP)
    return next(apart, None) or max(found, key=lambda split: split.gap)


def _edges(similarity: Numbers) -> list[tuple[float, int, int]]:
    """Edges of a maximum spanning tree (Prim 1957), the strongest first, each with its two ends."""
    count = len(similarity)
    nearest, parent = similarity[0].copy(), np.zeros(count, np.intp)
    outside = np.ones(count, np.bool_)
    outside[0] = False
    edges: list[tuple[float, int, int]] = []
    for _ in range(count - 1):
        place = int(np.argmax(np.where(outside, nearest, -np.inf)))
        edges.append((float(nearest[place]), int(parent[place]), place))
        outside[place] = False
        closer = outside & (similarity[place] > nearest)
        nearest[closer], parent[closer] = similarity[place][closer], place
    return sorted(edges, key=lambda edge: -edge[0])
