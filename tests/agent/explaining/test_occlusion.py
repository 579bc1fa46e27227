# SPDX-License-Identifier: Apache-2.0
"""How much each part of a window changes a score."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedmill_agent.explaining.occlusion import BATCH_BYTES, Score, effects
from fedmill_agent.explaining.parts import (
    MOST_BANDS,
    bands,
    feature_parts,
    grouped,
    signal_parts,
)
from fedmill_agent.explaining.score import scores
from fedmill_shared.job import Features, Job, Labels, Mlp, Signal, Task, Window


def a_job(
    *names: str,
    rate: float = 1.0,
    length: int = 8,
    steps: tuple[str, ...] = (),
    order: str = "",
) -> Job:
    """A classification of these signals."""
    return Job(
        job=Task(name="rig"),
        signals=[Signal(name=name, rate_hz=rate) for name in names],
        window=Window(length=length, order=order),
        labels=Labels(classes=["good", "worn", "broken"]),
        features=Features(steps=list(steps)),
        model=Mlp(hidden=[4]),
    )


def linear(weights: NDArray[np.float64]) -> Score:
    """The sum of all values, each with its weight (rows, length)."""
    return lambda windows: (windows * weights).sum(axis=(1, 2))


def ends(score: Score, window: np.ndarray, usual: np.ndarray) -> tuple[float, float]:
    """Scores of the usual window and of the one that is explained."""
    low, high = score(np.stack([usual, window])).tolist()
    return low, high


def shapley(score: Score, window: np.ndarray, usual: np.ndarray) -> NDArray[np.float64]:
    """The value of each row, by its definition: the mean over all orders of exchanging them."""
    rows, orders = len(window), list(permutations(range(len(window))))
    total = np.zeros(rows)
    for order in orders:
        mixed = usual.copy()
        before = score(mixed[None])[0]
        for row in order:
            mixed[row] = window[row]
            after = score(mixed[None])[0]
            total[row] += after - before
            before = after
    return total / len(orders)


class TestScores:
    def test_a_number_is_its_own_score(self) -> None:
        """In its unit."""
        assert scores(np.array([[3.0], [4.0]], np.float32), []).tolist() == [3.0, 4.0]

    @pytest.mark.parametrize("chosen", [[1], [1, 2]])
    def test_of_classes_it_is_the_log_odds(self, chosen: list[int]) -> None:
        """Of one of them against all others, by the softmax."""
        outputs = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
        shares = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
        odds = shares[:, chosen].sum(axis=1) / (1 - shares[:, chosen].sum(axis=1))
        np.testing.assert_allclose(scores(outputs, chosen), np.log(odds), rtol=1e-5)

    def test_large_logits(self) -> None:
        """No overflow."""
        assert scores(np.array([[1e4, -1e4]], np.float32), [0])[0] == pytest.approx(2e4)


class TestEffects:
    @given(st.integers(1, 5), st.integers(0, 2**32 - 1))
    def test_of_a_linear_model_each_signal_has_its_own_part(self, rows: int, seed: int) -> None:
        """Weight times difference, and together all of the change."""
        generator = np.random.default_rng(seed)
        weights = generator.normal(size=(rows, 8))
        window, usual = generator.normal(size=(2, rows, 8)).astype(np.float32)
        job = a_job(*(f"s{row}" for row in range(rows)))
        known = ends(linear(weights), window, usual)
        found = effects(linear(weights), window, usual, signal_parts(job), known)
        expected = (weights * (window.astype(np.float64) - usual)).sum(axis=1)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert found.sum() == pytest.approx(known[1] - known[0], abs=1e-5)

    @pytest.mark.parametrize("joint", [np.maximum, np.minimum, np.multiply])
    def test_of_two_signals_it_is_the_shapley_value(self, joint: np.ufunc) -> None:
        """Either of them is enough, or it takes both: each has half, by brute force too."""
        window, usual = np.ones((2, 8), np.float32), np.zeros((2, 8), np.float32)

        def score(windows: np.ndarray) -> NDArray[np.float64]:
            means = windows.mean(axis=2).astype(np.float64)
            result: NDArray[np.float64] = joint(means[:, 0], means[:, 1])
            return result

        known = ends(score, window, usual)
        found = effects(score, window, usual, signal_parts(a_job("a", "b")), known)
        np.testing.assert_allclose(found, shapley(score, window, usual))
        np.testing.assert_allclose(found, [0.5, 0.5])

    def test_large_windows_go_in_batches(self) -> None:
        """So that no more than a MiB of them is made at a time."""
        length = BATCH_BYTES // 16
        window, usual = np.ones((4, length), np.float32), np.zeros((4, length), np.float32)
        seen: list[int] = []

        def score(windows: np.ndarray) -> NDArray[np.float64]:
            seen.append(windows.nbytes)
            return windows.mean(axis=(1, 2)).astype(np.float64)

        parts = signal_parts(a_job("a", "b", "c", "d", length=length))
        found = effects(score, window, usual, parts, (0.0, 1.0))
        np.testing.assert_allclose(found, 0.25)
        assert max(seen) <= 2 * BATCH_BYTES


class TestParts:
    def test_signals_with_features_are_one_part(self) -> None:
        """With all rows that the model sees of them; and each feature is one by itself."""
        job = a_job("a", "b", length=64, steps=("time_statistics",))
        first, second = signal_parts(job)
        assert (first.first, first.positions) == ("a", tuple(range(8)))
        assert second.positions == tuple(range(8, 16))
        assert [part.first for part in feature_parts(job, second)][:3] == [
            "mean",
            "deviation",
            "rms",
        ]

    @given(st.integers(1, 40), st.integers(1, 20))
    def test_groups_hold_every_part_once(self, count: int, most: int) -> None:
        """Neighbours together, and no more groups than wanted."""
        parts = signal_parts(a_job(*(f"s{n}" for n in range(count))))
        groups = grouped(parts, most)
        assert len(groups) == min(count, most)
        assert [place for group in groups for place in group.positions] == list(range(count))
        sizes = [len(group.positions) for group in groups]
        assert max(sizes) - min(sizes) <= 1

    @given(st.integers(64, 300), st.integers(0, 2**32 - 1))
    def test_all_bands_are_the_whole_signal(self, length: int, seed: int) -> None:
        """Exchanged one after the other, nothing of the window is left, and no other row moved."""
        job = a_job("a", "b", rate=1000.0, length=length)
        generator = np.random.default_rng(seed)
        source, target = generator.normal(size=(2, 2, length)).astype(np.float32)
        untouched = target[0].copy()
        for each in bands(job, signal_parts(job)[1]):
            each.copy(source, target)
        np.testing.assert_allclose(target[1], source[1], atol=1e-5)
        np.testing.assert_array_equal(target[0], untouched)

    @given(st.integers(0, 2**32 - 1))
    def test_of_a_linear_model_bands_add_up(self, seed: int) -> None:
        """To what the signal does: the spectrum is linear."""
        job = a_job("a", rate=1000.0, length=128)
        generator = np.random.default_rng(seed)
        score = linear(generator.normal(size=(1, 128)))
        window, usual = generator.normal(size=(2, 1, 128)).astype(np.float32)
        known = ends(score, window, usual)
        found = effects(score, window, usual, bands(job, signal_parts(job)[0]), known)
        assert found.sum() == pytest.approx(known[1] - known[0], abs=1e-4)

    def test_bands_touch_and_reach_half_the_rate(self) -> None:
        """In Hz, or in orders where the window turns with the shaft."""
        [part] = signal_parts(a_job("a", rate=12_000.0, length=2048))
        found = bands(a_job("a", rate=12_000.0, length=2048), part)
        assert len(found) == MOST_BANDS
        assert (found[0].low, found[-1].high) == (0.0, 6000.0)
        assert [each.high for each in found[:-1]] == [each.low for each in found[1:]]
        turning = a_job("a", "speed", rate=1000.0, length=4096, order="speed")
        orders = bands(turning, signal_parts(turning)[0])
        assert {each.unit for each in orders} == {"orders"}

    @pytest.mark.parametrize(
        "job",
        [
            a_job("slow", rate=1.0, length=1024),
            a_job("short", rate=12_000.0, length=32),
            a_job("features", rate=12_000.0, length=1024, steps=("log_spectrum",)),
        ],
    )
    def test_what_does_not_vibrate_has_none(self, job: Job) -> None:
        """A temperature is no spectrum."""
        assert bands(job, signal_parts(job)[0]) == []
