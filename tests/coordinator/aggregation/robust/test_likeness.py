# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.coordinator.aggregation.robust.scenes import cloud, result, scene, seeds

from fedmill_coordinator.aggregation.robust.base import Judgement, Numbers
from fedmill_coordinator.aggregation.robust.centred_clipping import centred_clipping
from fedmill_coordinator.aggregation.robust.geometric_median import geometric_median
from fedmill_coordinator.aggregation.robust.krum import krum
from fedmill_coordinator.aggregation.robust.likeness import (
    compared,
    likeness,
    trust_of,
    with_likeness,
)
from fedmill_coordinator.aggregation.robust.trust import trust


def _cosine(left: Numbers, right: Numbers) -> float:
    return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))


def _told(judgement: Judgement) -> tuple[Numbers, Numbers]:
    assert judgement.likeness is not None
    assert judgement.trust is not None
    return judgement.likeness, judgement.trust


class TestLikeness:
    def test_literal(self) -> None:
        """Of (1, 0), (0, 1), (-1, 0) with weights 1: to (-1, 1), (0, 0) and (1, 1)."""
        rows = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
        total = rows.sum(axis=0)
        told = np.append(rows @ total, total @ total)
        found = likeness(told, np.ones(3), np.ones(3))
        assert found[[0, 2]].tolist() == pytest.approx([-np.sqrt(0.5)] * 2)
        assert np.isnan(found[1])

    @given(seeds, st.integers(2, 8))
    def test_equals_the_coordinates(self, seed: int, count: int) -> None:
        """The cosine of each update to the sum without it, the anchor's part included."""
        generator = np.random.default_rng(seed)
        rows, anchor = generator.normal(1, 1, (count, 6)), generator.normal(1, 1, 6)
        judged = centred_clipping(scene(rows, anchor=anchor))
        found, _ = _told(with_likeness(scene(rows, anchor=anchor), judged))
        whole = result(judged, rows, anchor)
        for row, cosine, own in zip(rows, found, judged.coefficients, strict=True):
            assert cosine == pytest.approx(_cosine(row, whole - own * row), abs=1e-3)

    def test_an_only_update_is_compared_with_nothing(self) -> None:
        """And is trusted."""
        seen = scene([[1.0, 2.0]])
        found, trusts = _told(with_likeness(seen, geometric_median(seen)))
        assert np.isnan(found).all()
        assert trusts.tolist() == [1]

    def test_what_krum_took_is_compared_with_nothing(self) -> None:
        """The others are compared with it."""
        rows = np.array([[1.0, 0.1], [1.0, 0.0], [1.0, -0.25], [1.0, 0.3], [-1.0, 0.0]])
        seen = scene(rows)
        judged = krum(seen)
        found, trusts = _told(with_likeness(seen, judged))
        taken = int(np.argmax(judged.coefficients))
        assert np.isnan(found).tolist() == (judged.coefficients > 0).tolist()
        assert found[4] == pytest.approx(_cosine(rows[4], rows[taken]))
        assert trusts.tolist() == [1, 1, 1, 1, 0]

    def test_a_zero_update_is_like_nothing(self) -> None:
        """Its cosine is told as 0."""
        seen = scene([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
        found, _ = _told(with_likeness(seen, geometric_median(seen)))
        assert found.tolist() == pytest.approx([0, 1, 1])

    def test_a_rule_that_knows_is_asked(self) -> None:
        """Trust compares with the golden update, whatever the others did."""
        seen = scene([[1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]], anchor=[1.0, 0.0])
        found, trusts = _told(with_likeness(seen, trust(seen)))
        assert found.tolist() == [1, -1, -1]
        assert trusts.tolist() == [1, 0, 0]


class TestCompared:
    def test_by_columns(self) -> None:
        """Nobody's part in a median can be told: each with the whole of it."""
        rows = np.random.default_rng(0).normal(1, 1, (5, 8))
        middle = np.median(rows, axis=0)
        told = np.append(rows @ middle, middle @ middle)
        judged = compared(told, (rows**2).sum(axis=1), np.full(5, 0.2))
        found, _ = _told(judged)
        assert found.tolist() == pytest.approx([_cosine(row, middle) for row in rows])
        assert judged.coefficients.tolist() == [0.2] * 5


class TestTrust:
    def test_literal(self) -> None:
        """The middle is 0.4, the spread 1.4826 * 0.1; trust falls from 2 spreads below to 4."""
        cosines = np.array([0.6, 0.5, 0.4, 0.4 - 3 * 0.14826, -0.9, 0.5, 0.4])
        found = trust_of(cosines, np.ones(7, np.bool_))
        assert found.tolist() == pytest.approx([1, 1, 1, 0.5, 0, 1, 1])

    def test_small_differences_are_none(self) -> None:
        """Where all agree, one that agrees a little less does not stand apart."""
        found = trust_of(np.array([0.95, 0.95, 0.95, 0.95, 0.87]), np.ones(5, np.bool_))
        assert found.tolist() == [1] * 5

    def test_pointing_away_is_no_crime_where_most_do(self) -> None:
        """Among plants that differ, what one learns the others forget: measured on bearings."""
        cosines = np.array([-0.74, -0.72, -0.68, -0.66, -0.64, -0.63, -0.6, -0.51, -0.47, -0.37])
        assert trust_of(cosines, np.ones(10, np.bool_)).tolist() == [1] * 10

    def test_more_likeness_is_no_fault(self) -> None:
        """Only what is below the middle stands apart."""
        assert trust_of(np.array([0.1, 0.1, 0.1, 0.99]), np.ones(4, np.bool_)).tolist() == [1] * 4

    def test_who_does_not_count_is_measured_by_the_others(self) -> None:
        """And does not move their middle."""
        cosines = np.array([0.5, 0.5, 0.5, -0.9, -0.9, -0.9, -0.9])
        counts = np.array([True] * 3 + [False] * 4)
        assert trust_of(cosines, counts).tolist() == [1, 1, 1, 0, 0, 0, 0]

    def test_nothing_to_compare_with(self) -> None:
        """Nobody stands apart."""
        assert trust_of(np.full(3, np.nan), np.ones(3, np.bool_)).tolist() == [1, 1, 1]

    @given(seeds)
    def test_honest_agents_are_trusted(self, seed: int) -> None:
        """Of 21 agents of one kind at most one is put aside; of three attackers every one is."""
        honest = cloud(24, seed, dimensions=200, mean=0.5)
        rows = np.vstack([-honest[:3], honest[3:]])
        seen = scene(rows)
        _, trusts = _told(with_likeness(seen, geometric_median(seen)))
        assert (trusts[:3] == 0).all()
        assert (trusts[3:] < 0.1).sum() <= 1
