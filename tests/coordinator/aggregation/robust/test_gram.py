# SPDX-License-Identifier: Apache-2.0
import hashlib
import os
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.coordinator.aggregation.payloads import KINDS, drawn, opener
from tests.coordinator.aggregation.robust.scenes import seeds

from fedmill_coordinator.aggregation.robust import gram as module
from fedmill_coordinator.aggregation.robust.base import Numbers
from fedmill_coordinator.aggregation.robust.gram import gram, products
from fedmill_shared.codec.base import BLOCK, Dense, Payload, Quantised, Sparse, vector_of
from fedmill_shared.errors import ModelError

PRECISION = 2e-6
"""Of the product of two lengths."""


def _openers(payloads: Sequence[Payload]) -> list[Callable[[], Payload]]:
    return [opener(payload) for payload in payloads]


def _exact(payloads: Sequence[Payload], factors: Numbers) -> Numbers:
    rows = np.array([vector_of(payload) for payload in payloads], np.float64)
    rows *= factors[:, np.newaxis]
    return np.asarray(rows @ rows.T)


def _close(found: Numbers, exact: Numbers) -> bool:
    lengths = np.sqrt(np.diagonal(exact))
    return bool((np.abs(found - exact) <= PRECISION * np.outer(lengths, lengths) + 1e-30).all())


def _fleet(kinds: Sequence[str], elements: int, seed: int) -> list[Payload]:
    generator = np.random.default_rng(seed)
    return [drawn(kind, elements, generator) for kind in kinds]


class TestGram:
    def test_literal(self) -> None:
        """Three small vectors, one of them halved."""
        rows = [Dense(np.array(row, np.float32)) for row in ([1, 2], [3, 4], [-2, 0])]
        found = gram(_openers(rows), np.array([1.0, 0.5, 1.0]))
        assert found.tolist() == [[5, 5.5, -2], [5.5, 6.25, -3], [-2, -3, 4]]

    @settings(max_examples=25)
    @given(
        st.lists(st.sampled_from(KINDS), min_size=1, max_size=7),
        st.sampled_from([1, 100, BLOCK, BLOCK + 1, 8 * BLOCK, 8 * BLOCK + 4097]),
        seeds,
    )
    def test_equals_float64(self, kinds: list[str], elements: int, seed: int) -> None:
        """Any mix of codecs and any length, to the precision of float32."""
        payloads = _fleet(kinds, elements, seed)
        factors = np.random.default_rng(seed).uniform(0.1, 1, len(kinds))
        assert _close(gram(_openers(payloads), factors), _exact(payloads, factors))

    @settings(max_examples=15)
    @given(st.integers(1, 9), st.integers(1, 40_000), st.floats(0.001, 0.9), seeds)
    def test_sparse_updates(self, count: int, elements: int, share: float, seed: int) -> None:
        """However many columns they share, none or all."""
        generator = np.random.default_rng(seed)
        payloads = []
        for _ in range(count):
            indices = np.flatnonzero(generator.random(elements) < share).astype(np.int32)
            values = generator.choice([-0.25, 0.25], indices.size).astype(np.float32)
            payloads.append(Sparse(elements, indices, values))
        factors = generator.uniform(0.1, 1, count)
        assert _close(gram(_openers(payloads), factors), _exact(payloads, factors))

    @pytest.mark.parametrize("kind", KINDS)
    def test_extra_vector_is_the_last_row(self, kind: str) -> None:
        """It is not clipped, and of another codec than the updates."""
        payloads = _fleet([kind] * 3, 5000, 0)
        extra = drawn("dense", 5000, np.random.default_rng(1))
        factors = np.array([0.5, 1.0, 0.25])
        found = gram(_openers(payloads), factors, extra)
        assert _close(found, _exact([*payloads, extra], np.append(factors, 1.0)))

    @pytest.mark.parametrize("held", [1, 45_000, 1 << 30])
    @pytest.mark.parametrize("kinds", [["dense"] * 5, ["sparse"] * 5, list(KINDS)])
    def test_groups(self, monkeypatch: pytest.MonkeyPatch, kinds: list[str], held: int) -> None:
        """Updates that do not fit memory together are taken in groups, each pair once."""
        payloads = _fleet(kinds, 9000, 3)
        opened: Counter[int] = Counter()

        def counting(number: int) -> Callable[[], Payload]:
            def act() -> Payload:
                opened[number] += 1
                return payloads[number]

            return act

        monkeypatch.setattr(module, "_HELD", held)
        found = gram([counting(i) for i in range(5)], np.ones(5))
        assert _close(found, _exact(payloads, np.ones(5)))
        assert np.array_equal(found, found.T)
        if held == 1 << 30:
            assert set(opened.values()) == {1}
        if held == 1:
            assert [opened[i] for i in range(5)] == [1, 2, 3, 4, 5]

    def test_identical_updates_have_no_distance(self) -> None:
        """What rounding leaves is below what ``squared_distances`` takes for one."""
        from fedmill_coordinator.aggregation.robust.base import squared_distances

        for kind in KINDS:
            payloads = _fleet([kind], 70_000, 2) * 5
            distances = squared_distances(gram(_openers(payloads), np.ones(5)))
            assert not distances.any(), kind

    def test_no_updates(self) -> None:
        """Have no products."""
        assert gram([], np.ones(0)).shape == (0, 0)

    def test_zero_updates(self) -> None:
        """Sparse ones that hold nothing, too."""
        nothing = Sparse(10, np.zeros(0, np.int32), np.zeros(0, np.float32))
        assert gram(_openers([nothing, nothing]), np.ones(2)).tolist() == [[0, 0], [0, 0]]

    def test_overflow(self) -> None:
        """Numbers that float32 holds and their squares do not."""
        huge = Dense(np.full(10, 3e38, np.float32))
        with pytest.raises(ModelError, match="overflow") as caught:
            gram(_openers([huge, huge]), np.ones(2))
        assert caught.value.remedy

    def test_the_clip_comes_first(self) -> None:
        """A huge update that is shortened does not overflow, nor spoil the others' products."""
        payloads = [Dense(np.array([3e38, 0], np.float32)), Dense(np.array([1, 1], np.float32))]
        found = gram(_openers(payloads), np.array([1 / 3e38, 1.0]))
        assert np.allclose(found, [[1, 1], [1, 2]], rtol=1e-2)

    @pytest.mark.parametrize("kind", ["dense", "sparse"])
    def test_lengths_differ(self, kind: str) -> None:
        """No product is made of them."""
        generator = np.random.default_rng(0)
        payloads = [drawn(kind, 20, generator), drawn(kind, 30, generator)]
        with pytest.raises(ModelError, match="20 and of 30 elements"):
            gram(_openers(payloads), np.ones(2))


class TestProducts:
    @pytest.mark.parametrize("kind", KINDS)
    def test_equal_the_last_row(self, kind: str) -> None:
        """Of the Gram matrix with that vector."""
        payloads = _fleet([kind] * 4, 9001, 5)
        vector = drawn("dense", 9001, np.random.default_rng(6))
        factors = np.array([1.0, 0.5, 1.0, 0.1])
        found = products(_openers(payloads), factors, vector)
        exact = _exact([*payloads, vector], np.append(factors, 1.0))
        lengths = np.sqrt(np.diagonal(exact))
        assert (np.abs(found - exact[-1]) <= PRECISION * lengths * lengths[-1]).all()

    def test_groups(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One at a time gives what all at once give."""
        payloads = _fleet(["dense", "quantised", "sparse"], 9001, 5)
        vector = drawn("dense", 9001, np.random.default_rng(6))
        whole = products(_openers(payloads), np.ones(3), vector)
        monkeypatch.setattr(module, "_HELD", 1)
        found = products(_openers(payloads), np.ones(3), vector)
        assert np.allclose(found, whole, rtol=0, atol=PRECISION * whole[-1])


_PROGRAM = """
import hashlib
import numpy as np
from fedmill_coordinator.aggregation.robust import gram as module
from tests.coordinator.aggregation.payloads import drawn, opener

digest = hashlib.sha256()
for kind in ("dense", "quantised", "sparse"):
    for count, held in ((1, 1 << 30), (3, 1 << 30), (40, 1 << 30), (40, 1 << 20)):
        module._HELD = held
        generator = np.random.default_rng(count)
        openers = [opener(drawn(kind, 33_001, generator)) for _ in range(count)]
        extra = drawn("dense", 33_001, generator)
        factors = generator.uniform(0.5, 1, count)
        digest.update(module.gram(openers, factors, extra).tobytes())
        digest.update(module.products(openers, factors, extra).tobytes())
print(digest.hexdigest())
"""


class TestBits:
    def test_do_not_depend_on_threads(self) -> None:
        """Nor on the run: the same model comes out on one core and on many."""
        found = set()
        for threads in ("1", "2"):
            environment = os.environ | {"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
            child = subprocess.run(
                [sys.executable, "-c", _PROGRAM],
                check=False,
                capture_output=True,
                text=True,
                env=environment,
            )
            assert child.returncode == 0, child.stderr[-2000:]
            found.add(child.stdout)
        assert len(found) == 1

    def test_do_not_depend_on_the_call(self) -> None:
        """Twice the same."""
        payloads = _fleet(list(KINDS), 40_000, 8)
        digests = {
            hashlib.sha256(gram(_openers(payloads), np.ones(5)).tobytes()).digest()
            for _ in range(3)
        }
        assert len(digests) == 1


class TestMemory:
    @pytest.mark.parametrize("kind", ["quantised", "sparse"])
    def test_is_bounded(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """By the block, which is 8 MiB here; all hundred updates are 24 MB as float32."""
        monkeypatch.setattr(module, "_BLOCK_BYTES", 8 << 20)
        generator = np.random.default_rng(0)
        few = _fleet([kind] * 4, 60_000, 0)
        openers = [opener(few[int(i)]) for i in generator.integers(0, 4, 100)]
        tracemalloc.start()
        try:
            gram(openers, np.ones(100))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 11 << 20


def test_quantised_scales_count() -> None:
    """A level is a step of its block's scale."""
    levels = np.ones(BLOCK + 1, np.int8)
    payload = Quantised(levels, np.array([0.5, 2.0], np.float32))
    assert gram([opener(payload)], np.ones(1))[0, 0] == BLOCK * 0.25 + 4
