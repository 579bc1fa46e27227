# SPDX-License-Identifier: Apache-2.0
"""Clustering by updates: against all partitions, by hand, and on federations of known tasks."""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_coordinator.aggregation.clustering import (
    LEAST_GAP,
    LOSS_ROUNDS,
    Evidence,
    Split,
    best_split,
    cosines,
    evidence,
    splits,
    standstill,
)
from fedmill_shared.errors import ModelError

Numbers = np.ndarray


@st.composite
def similarities(draw: st.DrawFn, least: int = 2, most: int = 7) -> Numbers:
    """A symmetric matrix with ones on its diagonal; ties are likely."""
    count = draw(st.integers(least, most))
    pairs = count * (count - 1) // 2
    values = draw(st.lists(st.integers(-9, 9), min_size=pairs, max_size=pairs))
    matrix = np.eye(count)
    matrix[np.triu_indices(count, 1)] = np.array(values) / 10
    return np.triu(matrix) + np.triu(matrix, 1).T


def partitions(items: Sequence[int], parts: int) -> Iterator[tuple[tuple[int, ...], ...]]:
    """All ways to put ``items`` into so many parts, none of them empty."""
    for places in itertools.product(range(parts), repeat=len(items)):
        if list(dict.fromkeys(places)) == list(range(parts)):  # each partition once
            yield tuple(
                tuple(i for i, p in zip(items, places, strict=True) if p == part)
                for part in range(parts)
            )


def largest_across(similarity: Numbers, clusters: Sequence[Sequence[int]]) -> float:
    """By its definition."""
    pairs = itertools.combinations(clusters, 2)
    return max(float(similarity[np.ix_(a, b)].max()) for a, b in pairs)


def smallest_within(similarity: Numbers, clusters: Sequence[Sequence[int]]) -> float:
    """By its definition; 1 without a pair."""
    return min(float(similarity[np.ix_(each, each)].min()) for each in clusters)


def wanted(gaps: Sequence[Split]) -> Split:
    """What ``best_split`` is to find among these."""
    return next((s for s in gaps if s.gap >= LEAST_GAP), max(gaps, key=lambda split: split.gap))


class TestCosines:
    def test_by_hand(self) -> None:
        """(3, 4), (4, 3) and (-3, -4)."""
        rows = np.array([[3.0, 4.0], [4.0, 3.0], [-3.0, -4.0]])
        expected = [[1, 0.96, -1], [0.96, 1, -0.96], [-1, -0.96, 1]]
        np.testing.assert_allclose(cosines(rows @ rows.T), expected)

    def test_rounding_leads_nowhere_beyond_one(self) -> None:
        """An inner product that is too large by rounding."""
        assert cosines(np.array([[1.0, 1.0000004], [1.0000004, 1.0]])).max() == 1.0

    @pytest.mark.parametrize("gram", [np.diag([1.0, 0.0]), np.zeros((0, 0))])
    def test_what_points_nowhere(self, gram: Numbers) -> None:
        """It has no cosine."""
        with pytest.raises(ModelError, match="an update is zero, or there is none"):
            cosines(gram)


class TestSplits:
    def test_by_hand(self) -> None:
        """0 and 2 belong together, 1 and 3 do, and 3 is the odd one there."""
        similarity = np.array(
            [
                [1.0, -0.5, 0.9, -0.6],
                [-0.5, 1.0, -0.4, 0.3],
                [0.9, -0.4, 1.0, -0.7],
                [-0.6, 0.3, -0.7, 1.0],
            ]
        )
        assert splits(similarity) == [
            Split(((0, 2), (1, 3)), 0.3, -0.4),
            Split(((0, 2), (1,), (3,)), 0.9, 0.3),
            Split(((0,), (1,), (2,), (3,)), 1.0, 0.9),
        ]
        assert splits(similarity)[0].gap == pytest.approx(0.7)

    @given(similarities())
    def test_two_clusters_are_the_best_two(self, similarity: Numbers) -> None:
        """No other split has a smaller largest similarity across: all are tried."""
        found = splits(similarity)[0]
        every = partitions(range(len(similarity)), 2)
        assert found.across == min(largest_across(similarity, each) for each in every)

    @given(similarities(most=6))
    def test_so_are_more(self, similarity: Numbers) -> None:
        """Splitting again and again finds the best partition into any number of clusters."""
        for parts, found in enumerate(splits(similarity), start=2):
            every = partitions(range(len(similarity)), parts)
            assert found.across == min(largest_across(similarity, each) for each in every)

    @given(similarities(most=12))
    def test_numbers_are_those_of_the_clusters(self, similarity: Numbers) -> None:
        """Clusters are a partition, and both similarities are what their names say."""
        found = splits(similarity)
        assert [len(split.clusters) for split in found] == list(range(2, len(similarity) + 1))
        for split in found:
            assert sorted(i for each in split.clusters for i in each) == list(
                range(len(similarity))
            )
            assert split.clusters == tuple(sorted(tuple(sorted(each)) for each in split.clusters))
            assert split.across == largest_across(similarity, split.clusters)
            assert split.within == smallest_within(similarity, split.clusters)

    @given(similarities(most=12))
    def test_each_splits_one_cluster_of_the_one_before(self, similarity: Numbers) -> None:
        """A recursion: the others stay."""
        for before, after in itertools.pairwise(splits(similarity)):
            assert len(set(before.clusters) - set(after.clusters)) == 1

    def test_one_cannot_be_split(self) -> None:
        """There is nothing to compare it with."""
        assert splits(np.ones((1, 1))) == []


class TestBestSplit:
    def test_two_vectors(self) -> None:
        """No similarity is within a cluster."""
        assert best_split(np.array([[1.0, -1.0], [-1.0, 1.0]])) is None

    def test_three_groups_are_found_at_once(self) -> None:
        """Although no two clusters are apart: one of them would hold two groups."""
        turns = np.repeat([0, 2 * np.pi / 3, 4 * np.pi / 3], 3) + np.tile([-0.1, 0, 0.1], 3)
        found = best_split(np.cos(turns[:, np.newaxis] - turns))
        assert found is not None
        assert found.clusters == ((0, 1, 2), (3, 4, 5), (6, 7, 8))
        assert splits(np.cos(turns[:, np.newaxis] - turns))[0].gap < 0

    def test_the_fewest_that_are_apart(self) -> None:
        """Two pairs that are nearly the same belong together, though four would be further apart.

        Groups at 0, 20 and 180, 200 degrees: two clusters have a gap of 1.69, four of 1.94.
        """
        turns = np.deg2rad([0, 1, 20, 21, 180, 181, 200, 201])
        found = best_split(np.cos(turns[:, np.newaxis] - turns))
        assert found is not None
        assert found.clusters == ((0, 1, 2, 3), (4, 5, 6, 7))

    @given(similarities(least=3, most=9))
    def test_among_at_most_half_as_many_clusters(self, similarity: Numbers) -> None:
        """Its gap reaches the bound as soon as any does, else it is the largest."""
        candidates = splits(similarity)[: max(1, len(similarity) // 2 - 1)]
        assert best_split(similarity) == wanted(candidates)

    @pytest.mark.parametrize("seed", range(20))
    def test_noise_is_not_apart(self, seed: int) -> None:
        """Vectors at random are as near to others as to their own."""
        rows = np.random.default_rng(seed).normal(size=(10, 200))
        found = best_split(cosines(rows @ rows.T))
        assert found is not None
        assert found.gap < LEAST_GAP


class TestStandstill:
    def test_by_hand(self) -> None:
        """Five rounds of 3 after five of 4; what was before does not matter."""
        assert standstill([9.0] * 7 + [4.0] * 5 + [3.0] * 5) == 0.75
        assert standstill([1.0] * 10) == 1.0

    @pytest.mark.parametrize("losses", [[], [1.0] * (2 * LOSS_ROUNDS - 1), [0.0] * 20])
    def test_nothing_to_say(self, losses: list[float]) -> None:
        """Too few rounds, or a loss of nothing."""
        assert standstill(losses) is None


class TestEvidence:
    ROWS = np.array([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.1], [-1.0, -0.1]])

    def of(
        self, rows: Numbers, weights: Sequence[float] = (), **changes: Sequence[float]
    ) -> Evidence:
        """After twenty rounds in which nothing changed."""
        told: dict[str, Sequence[float]] = {"longest": [1.0] * 20, "losses": [1.0] * 20}
        told |= changes
        return evidence(rows @ rows.T, np.array(weights or [1.0] * len(rows)), **told)

    def test_two_tasks(self) -> None:
        """They cancel each other out, pull as ever, and gain nothing."""
        found = self.of(self.ROWS)
        assert found.balance == pytest.approx(0.0)
        assert (found.pace, found.standstill) == (1.0, 1.0)
        assert found.split is not None
        assert found.split.clusters == ((0, 1), (2, 3))
        assert found.split.within == pytest.approx(0.99 / 1.01)
        assert found.split.across == pytest.approx(-0.99 / 1.01)
        assert found.says_split

    @pytest.mark.parametrize(
        ("rows", "weights", "changes", "criterion"),
        [
            (np.array([[1.0, 0.1], [1.0, -0.1], [0.6, 0.8], [0.6, 0.7]]), (), {}, "balanced"),
            (ROWS, (8.0, 8.0, 1.0, 1.0), {}, "balanced"),
            (ROWS, (), {"longest": [2.1, 1.0]}, "moving"),
            (ROWS, (), {"losses": [1.0] * 5 + [0.9] * 5}, "stalled"),
            (ROWS, (), {"losses": [1.0] * 9}, "stalled"),
            (np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]), (), {}, "apart"),
            (np.array([[1.0, 0.0], [-1.0, 0.0]]), (), {}, "apart"),
        ],
    )
    def test_each_criterion_can_forbid_it(
        self,
        rows: Numbers,
        weights: Sequence[float],
        changes: dict[str, list[float]],
        criterion: str,
    ) -> None:
        """One common direction; few examples; shorter updates; a loss that falls; no gap."""
        found = self.of(rows, weights, **changes)
        names = ("balanced", "moving", "stalled", "apart")
        assert [name for name in names if not getattr(found, name)] == [criterion]
        assert not found.says_split

    def test_balance_by_hand(self) -> None:
        """(3, 0) with weight 2 and (0, 4) with weight 1: a mean of (2, 4/3), the longest is 4."""
        found = self.of(np.array([[3.0, 0.0], [0.0, 4.0]]), (2.0, 1.0))
        assert found.balance == pytest.approx(math.hypot(2, 4 / 3) / 4)

    def test_nothing_was_noted_of_lengths(self) -> None:
        """Rounds of older software: then they speak neither for nor against it."""
        assert self.of(self.ROWS, longest=[0.0, 0.0]).pace == 1.0

    def test_it_does_not_hang_on_the_order(self) -> None:
        """The agents of a cluster stay the same, wherever they stand."""
        order = np.array([2, 0, 3, 1])
        found = self.of(self.ROWS[order]).split
        assert found is not None
        assert {frozenset(order[list(each)]) for each in found.clusters} == {
            frozenset({0, 1}),
            frozenset({2, 3}),
        }


class Federation:
    """Softmax regression by federated averaging, full batches: small, exact, without torch."""

    CLASSES, SIZE, WINDOWS, STEPS, RATE = 3, 12, 60, 5, 0.5

    def __init__(self, tasks: Sequence[int], seed: int, *, skewed: bool = False) -> None:
        """An agent for each of ``tasks``: the number by which its classes are shifted.

        ``skewed``: each agent has one class in four of five windows.
        """
        random = np.random.default_rng(seed)
        centres = random.normal(size=(self.CLASSES, self.SIZE))
        self.data = []
        for agent, task in enumerate(tasks):
            labels = random.integers(self.CLASSES, size=self.WINDOWS)
            if skewed:
                usual = random.random(self.WINDOWS) < 0.8
                labels = np.where(usual, agent % self.CLASSES, labels)
            noise = random.normal(size=(self.WINDOWS, self.SIZE))
            self.data.append((centres[(labels + task) % self.CLASSES] + 0.7 * noise, labels))
        self.weights = np.zeros((self.SIZE, self.CLASSES))

    def train(self, windows: Numbers, labels: Numbers) -> tuple[Numbers, float]:
        """The delta of one agent and its mean loss."""
        weights, total = self.weights.copy(), 0.0
        hot = np.eye(self.CLASSES)[labels]
        for _ in range(self.STEPS):
            logits = windows @ weights
            logits -= logits.max(axis=1, keepdims=True)
            odds = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            total -= float(np.log(odds[hot == 1]).mean())
            weights -= self.RATE * windows.T @ (odds - hot) / len(labels)
        return (weights - self.weights).ravel(), total / self.STEPS

    def run(self, rounds: int) -> Iterator[Evidence]:
        """What each round says."""
        longest, losses = [], []
        for _ in range(rounds):
            told = [self.train(*data) for data in self.data]
            deltas = np.array([delta for delta, _ in told])
            longest.append(float(np.linalg.norm(deltas, axis=1).max()))
            losses.append(float(np.mean([loss for _, loss in told])))
            ones = np.ones(len(deltas))
            yield evidence(deltas @ deltas.T, ones, longest=longest, losses=losses)
            self.weights = self.weights + deltas.mean(axis=0).reshape(self.weights.shape)


class TestFederations:
    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize(
        "tasks", [[0, 0, 0, 0, 1, 1, 1, 1], [0, 1, 0, 1, 0, 0], [0, 0, 1, 1, 2, 2, 0, 1, 2]]
    )
    def test_several_tasks_are_told_apart(self, tasks: list[int], seed: int) -> None:
        """Two or three of them: after some rounds, the agents of each and no others."""
        *_, last = Federation(tasks, seed).run(40)
        assert last.says_split
        assert last.split is not None
        found = {frozenset(tasks[i] for i in each) for each in last.split.clusters}
        assert found == {frozenset({task}) for task in tasks}
        assert len(last.split.clusters) == len(set(tasks))

    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("skewed", [False, True])
    def test_one_task_is_left_whole(self, seed: int, *, skewed: bool) -> None:
        """In no round, also where the mix of classes differs so that updates point apart."""
        course = list(Federation([0] * 9, seed, skewed=skewed).run(60))
        assert [number for number, each in enumerate(course, start=1) if each.says_split] == []

    def test_a_mix_that_differs_would_fool_the_likeness_alone(self) -> None:
        """At first there are groups, and it is the loss that says they learn one task."""
        early = list(Federation([0] * 9, 0, skewed=True).run(12))[-1]
        assert early.apart
        assert not early.stalled
