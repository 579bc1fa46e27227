# SPDX-License-Identifier: Apache-2.0
"""The sum: against float64, against its own definition bit for bit, and in bounded memory."""

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.coordinator.aggregation.payloads import KINDS, Foreign, drawn, opener

from fedmill_coordinator.aggregation import adding, summing
from fedmill_coordinator.aggregation.base import WIDTH, Vector
from fedmill_coordinator.aggregation.summing import Term, weighted_sum
from fedmill_shared.codec.base import BLOCK, Dense, Payload, Quantised, Sparse, vector_of
from fedmill_shared.errors import FrameError, ModelError

LARGEST = float(np.finfo(np.float32).max)
kinds = st.lists(st.sampled_from(KINDS), min_size=1, max_size=9)
lengths = st.one_of(
    st.integers(0, 9),
    st.integers(BLOCK - 1, BLOCK + 1),
    st.integers(WIDTH - 1, WIDTH + 1),
    st.just(2 * WIDTH + BLOCK + 7),
)


def terms_of(payloads: list[Payload], coefficients: np.ndarray) -> list[Term]:
    """A term of each."""
    pairs = zip(payloads, coefficients, strict=True)
    return [Term(f"agent-{i}", opener(p), float(c)) for i, (p, c) in enumerate(pairs)]


def made(chosen: list[str], elements: int, seed: int) -> list[Term]:
    """Terms of these kinds with shares that sum to 1."""
    generator = np.random.default_rng(seed)
    payloads = [drawn(kind, elements, generator) for kind in chosen]
    return terms_of(payloads, generator.dirichlet(np.ones(len(chosen))))


def naive(elements: int, terms: list[Term]) -> Vector:
    """The definition: float32, one after the other, scales folded into the coefficient."""
    total = np.zeros(elements, np.float32)
    for term in terms:
        payload, coefficient = term.open(), np.float32(term.coefficient)
        if isinstance(payload, Quantised):
            scales = np.repeat(coefficient * payload.scales, BLOCK)[:elements]
            total += scales * payload.levels.astype(np.float32)
        else:
            total += coefficient * vector_of(payload)
    return total


class TestWeightedSum:
    def test_by_hand(self) -> None:
        """A half of (1, 0), a quarter of (8, -4), and one of (0, 3)."""
        payloads: list[Payload] = [
            Dense(np.array([1, 0], np.float32)),
            Quantised(np.array([4, -2], np.int8), np.array([2], np.float32)),
            Sparse(2, np.array([1], np.int32), np.array([3], np.float32)),
        ]
        result = weighted_sum(2, terms_of(payloads, np.array([0.5, 0.25, 1])))
        assert (result.dtype, result.tolist()) == (np.float32, [2.5, 2.0])

    @given(kinds, lengths, st.integers(0, 99))
    def test_error_bound(self, chosen: list[str], elements: int, seed: int) -> None:
        """Within n + 3 roundings of the sum of magnitudes of the exact sum."""
        terms = made(chosen, elements, seed)
        columns = [term.coefficient * vector_of(term.open()).astype(np.float64) for term in terms]
        bound = (len(terms) + 3) * 2**-24 * np.sum(np.abs(columns), axis=0) + 1e-40
        assert (np.abs(weighted_sum(elements, terms) - np.sum(columns, axis=0)) <= bound).all()

    def test_error_of_a_thousand(self) -> None:
        """In practice it is off by about a millionth."""
        terms = made(["quantised"] * 1000, 5000, 1)
        exact = sum(term.coefficient * vector_of(term.open()).astype(np.float64) for term in terms)
        error = np.abs(weighted_sum(5000, terms) - exact)
        assert error.max() < 2e-6 * np.abs(exact).max()

    @given(kinds, lengths, st.integers(0, 99))
    def test_is_its_definition_bit_for_bit(
        self, chosen: list[str], elements: int, seed: int
    ) -> None:
        """One float32 addition after the other, in the order of the terms, whatever the kinds."""
        terms = made(chosen, elements, seed)
        assert weighted_sum(elements, terms).tobytes() == naive(elements, terms).tobytes()

    @pytest.mark.parametrize("count", [31, 32, 33, 64, 65, 200])
    @pytest.mark.parametrize("kind", ["quantised", "sparse", "dense"])
    def test_large_rounds(self, kind: str, count: int) -> None:
        """Groups and buffers begin and end without a trace."""
        terms = made([kind] * count, BLOCK + 3, count)
        assert weighted_sum(BLOCK + 3, terms).tobytes() == naive(BLOCK + 3, terms).tobytes()

    @given(kinds, lengths, st.integers(0, 99), st.integers(2, 9))
    def test_workers_leave_no_trace(
        self, chosen: list[str], elements: int, seed: int, workers: int
    ) -> None:
        """The same bits from one thread and from nine."""
        terms = made(chosen, elements, seed)
        expected = weighted_sum(elements, terms).tobytes()
        assert weighted_sum(elements, terms, workers=workers).tobytes() == expected

    @pytest.mark.parametrize(("held", "most", "rows"), [(1, 64, 32), (1 << 30, 3, 2), (9000, 5, 1)])
    def test_memory_settings_leave_no_trace(
        self, monkeypatch: pytest.MonkeyPatch, held: int, most: int, rows: int
    ) -> None:
        """How many updates are open at a time decides nothing."""
        terms = made(["quantised", "quantised", "sparse", "foreign", "quantised"] * 4, 9000, 3)
        expected = weighted_sum(9000, terms).tobytes()
        monkeypatch.setattr(summing, "HELD", held)
        monkeypatch.setattr(summing, "_MOST", most)
        monkeypatch.setattr(adding, "_ROWS", rows)
        assert weighted_sum(9000, terms).tobytes() == expected
        assert weighted_sum(9000, terms, workers=2).tobytes() == expected

    def test_blas_threads_leave_no_trace(self) -> None:
        """Processes with one and with two BLAS threads come to the same bits."""
        script = (
            "import hashlib, sys\n"
            "from tests.coordinator.aggregation.test_summing import made, weighted_sum\n"
            "terms = made(['quantised', 'dense', 'half', 'sparse'] * 20, 100_000, 5)\n"
            "for workers in (1, 2):\n"
            "    result = weighted_sum(100_000, terms, workers=workers)\n"
            "    print(hashlib.sha256(result.tobytes()).hexdigest())\n"
        )
        told = set()
        for threads in ("1", "2"):
            done = subprocess.run(
                [sys.executable, "-c", script],
                cwd=Path(__file__).parents[3],
                env=dict(os.environ, OPENBLAS_NUM_THREADS=threads, OMP_NUM_THREADS=threads),
                capture_output=True,
                text=True,
                check=True,
            )
            told |= set(done.stdout.split())
        assert len(told) == 1

    def test_nothing(self) -> None:
        """No terms, no elements, no coefficients: zeros, and nothing is opened."""

        def spoilt() -> Payload:
            raise FrameError("opened")

        for workers in (1, 2):
            assert weighted_sum(3, [], workers=workers).tolist() == [0, 0, 0]
            assert weighted_sum(3, [Term("a", spoilt, 0.0)], workers=workers).tolist() == [0, 0, 0]
            assert weighted_sum(0, made(["dense", "sparse"], 0, 1), workers=workers).size == 0


class TestMemory:
    ELEMENTS = 200_000
    COUNT = 120
    BUFFER = 34 * WIDTH * 4

    def peak(self, kind: str, workers: int) -> int:
        """Bytes at the peak of summing many updates, each made when it is opened."""

        def fresh() -> Payload:
            return drawn(kind, self.ELEMENTS, np.random.default_rng(1))

        terms = [Term("a", fresh, 1 / self.COUNT)] * self.COUNT
        tracemalloc.start()
        try:
            weighted_sum(self.ELEMENTS, terms, workers=workers)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize("kind", ["quantised", "dense", "foreign"])
    @pytest.mark.parametrize("workers", [1, 2])
    def test_is_one_sum_one_group_and_a_buffer(
        self, monkeypatch: pytest.MonkeyPatch, kind: str, workers: int
    ) -> None:
        """However many updates there are; all of them would be 24 to 96 MB."""
        monkeypatch.setattr(summing, "HELD", 1_000_000)
        total = 4 * self.ELEMENTS
        making = 4 * total  # what the test itself needs to draw an update
        allowed = total + 1_000_000 + workers * (self.BUFFER + making)
        assert self.peak(kind, workers) < allowed < self.COUNT * self.ELEMENTS


class TestRefusals:
    @pytest.mark.parametrize("workers", [1, 2])
    @pytest.mark.parametrize("kind", KINDS)
    def test_another_length(self, kind: str, workers: int) -> None:
        """Of any kind; the message names the agent and both lengths."""
        terms = [*made(["dense"], 5, 1), Term("b", made([kind], 6, 1)[0].open, 0.5)]
        with pytest.raises(ModelError, match="delta of 'b' has 6 elements, the model 5"):
            weighted_sum(5, terms, workers=workers)

    @pytest.mark.parametrize("workers", [1, 2])
    @pytest.mark.parametrize(
        "payload",
        [
            Dense(np.full(WIDTH + 9, LARGEST, np.float32)),
            Foreign(np.full(WIDTH + 9, LARGEST, np.float32)),
            Quantised(np.full(WIDTH + 9, 127, np.int8), np.full(9, LARGEST / 127, np.float32)),
            Sparse(WIDTH + 9, np.array([7], np.int32), np.array([-LARGEST], np.float32)),
        ],
    )
    def test_overflow(self, payload: Payload, workers: int) -> None:
        """A sum beyond float32 never becomes a model; no warning comes instead."""
        terms = terms_of([payload, payload], np.array([1.0, 1.0]))
        with pytest.raises(ModelError, match=r"overflows float32 \(lower federation.server_l"):
            weighted_sum(payload.elements, terms, workers=workers)

    @pytest.mark.parametrize("workers", [1, 2])
    def test_what_cannot_be_opened(self, workers: int) -> None:
        """The error of the first one that cannot comes through as it is."""

        def spoilt(name: str) -> Callable[[], Payload]:
            def read() -> Payload:
                raise FrameError(f"{name} is damaged")

            return read

        terms = [*made(["dense"] * 3, 5, 1), Term("x", spoilt("x"), 1), Term("y", spoilt("y"), 1)]
        with pytest.raises(FrameError, match="x is damaged"):
            weighted_sum(5, terms, workers=workers)
