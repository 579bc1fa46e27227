# SPDX-License-Identifier: Apache-2.0
"""How far updates agree with most others."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_coordinator.aggregation.robust import agreement as module
from fedmill_coordinator.aggregation.robust.agreement import (
    COLUMNS,
    Directions,
    agreement,
)
from fedmill_shared.codec.base import BLOCK, Dense, Payload, Sparse


def openers(*vectors: Sequence[float] | np.ndarray) -> list[Callable[[], Payload]]:
    """Updates that open to these vectors."""
    payloads = [Dense(np.asarray(vector, np.float32)) for vector in vectors]
    return [lambda payload=payload: payload for payload in payloads]


def agreement_of(
    openers: Sequence[Callable[[], Payload]], counts: np.ndarray, elements: int
) -> np.ndarray:
    """How far the updates agree."""
    return agreement(Directions(openers, elements).rows(), counts)


def all_of(count: int) -> np.ndarray:
    """Everybody counts."""
    return np.ones(count, np.bool_)


class TestAgreement:
    def test_literal(self) -> None:
        """Two of one mind, one at a right angle, one against: medians of three cosines each."""
        found = agreement_of(openers([2, 0], [1, 0], [0, 5], [-3, 0]), all_of(4), 2)
        assert found.tolist() == [0.0, 0.0, 0.0, -1.0]

    def test_those_that_do_not_count_are_judged_by_the_others(self) -> None:
        """An agent in quarantine is no measure, and is still measured."""
        vectors = [[1, 0], [1, 0], [1, 0], [-1, 0], [-1, 0]]
        counts = np.array([True, True, True, False, False])
        assert agreement_of(openers(*vectors), counts, 2).tolist() == [1, 1, 1, -1, -1]

    @pytest.mark.parametrize("others", [0, 1, 2])
    def test_too_few_to_tell(self, others: int) -> None:
        """Of two that count each is the other's measure."""
        counts = np.arange(3) < others
        assert np.isnan(agreement_of(openers([1], [1], [1]), counts, 1)).all()

    def test_an_update_of_zeros(self) -> None:
        """It agrees with nobody, and is against nobody."""
        assert agreement_of(openers([0, 0], [1, 0], [1, 0], [1, 0]), all_of(4), 2)[0] == 0

    def test_length_does_not_matter(self) -> None:
        """The tiniest and the largest numbers have a direction as well."""
        found = agreement_of(openers([1e-45, 0], [3e38, 0], [1, 0]), all_of(3), 2)
        assert found.tolist() == [1.0, 1.0, 1.0]

    def test_a_minority_of_one_mind_turns_nobody(self) -> None:
        """Four of eleven that say the same, however long, do not make the others strangers."""
        generator = np.random.default_rng(0)
        common = generator.normal(size=2000)
        honest = [common + generator.normal(0, 2, 2000) for _ in range(7)]
        found = agreement_of(openers(*honest, *[-1e6 * common] * 4), all_of(11), 2000)
        assert (found[:7] > 0.1).all()
        assert (found[7:] < -0.3).all()

    def test_the_backbone_is_what_is_compared(self) -> None:
        """What lies behind the first columns says nothing."""
        here, there = np.zeros((2, COLUMNS + 5), np.float32)
        here[0] = there[0] = 1
        there[COLUMNS:] = -100
        found = agreement_of(openers(here, here, there), all_of(3), COLUMNS + 5)
        assert found.tolist() == [1.0, 1.0, 1.0]

    def test_sparse_updates(self) -> None:
        """They are compared as what they decode to."""
        sparse = Sparse(4, np.array([1], np.int32), np.array([2], np.float32))
        found = agreement_of([lambda: sparse, *openers([0, 1, 0, 0], [0, 3, 0, 0])], all_of(3), 4)
        assert found.tolist() == [1.0, 1.0, 1.0]

    @given(st.permutations(range(6)))
    def test_order_does_not_matter(self, order: list[int]) -> None:
        """Whoever comes first, each has the same agreement."""
        vectors = np.random.default_rng(1).normal(size=(6, 30)).astype(np.float32)
        plain = agreement_of(openers(*vectors), all_of(6), 30)
        moved = agreement_of(openers(*vectors[order]), all_of(6), 30)
        assert moved.tolist() == plain[order].tolist()

    @pytest.mark.parametrize("counted", [1.0, 0.7])
    def test_brute_force(self, monkeypatch: pytest.MonkeyPatch, counted: float) -> None:
        """Also of more updates than are compared at a time."""
        monkeypatch.setattr(module, "_ROWS", 8)
        generator = np.random.default_rng(3)
        vectors = generator.normal(size=(21, 40)).astype(np.float32)
        counts = generator.random(21) < counted
        exact = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        for at, found in enumerate(agreement_of(openers(*vectors), counts, 40)):
            others = [other for other in np.flatnonzero(counts) if other != at]
            assert found == pytest.approx(np.median(exact[others] @ exact[at]), abs=2e-5)


class TestDirections:
    def test_taken_once(self) -> None:
        """When the update is opened for the sum; what nobody opens is opened in the end."""
        opened: list[str] = []

        def opener(name: str, *values: float) -> Callable[[], Payload]:
            def open_() -> Payload:
                opened.append(name)
                return Dense(np.array(values, np.float32))

            return open_

        directions = Directions([opener("a", 3, 4), opener("b", 0, 2)], 2)
        assert directions.openers[0]().elements == 2
        assert directions.rows().tolist() == [[np.float32(0.6), np.float32(0.8)], [0.0, 1.0]]
        directions.rows()
        assert opened == ["a", "b"]

    def test_another_length(self) -> None:
        """Is left to whoever adds the update, and has no direction here."""
        directions = Directions(openers([1, 1, 1]), 2)
        assert directions.openers[0]().elements == 3
        assert directions.rows().tolist() == [[0.0, 0.0]]

    def test_many_updates(self) -> None:
        """Fewer columns of each, down to one block."""
        payload = Dense(np.ones(COLUMNS, np.float32))
        assert Directions([lambda: payload] * 200, COLUMNS).rows().shape == (200, 5 * BLOCK)
        assert Directions([lambda: payload] * 2000, COLUMNS).rows().shape == (2000, BLOCK)
