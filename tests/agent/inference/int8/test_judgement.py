# SPDX-License-Identifier: Apache-2.0
"""When int8 is as good as float32."""

import numpy as np
import pytest
from tests.agent.kit import a_job

from fedmill_agent.inference.int8.judgement import (
    LEAST_AGREEMENT,
    MOST_DEVIATION,
    of_outputs,
    of_speed,
)

CLASSES = a_job()
NUMBER = a_job(task="regression")


def logits(count: int, seed: int = 0) -> np.ndarray:
    """Of two classes."""
    return np.random.default_rng(seed).normal(0, 3, (count, 2)).astype(np.float32)


class TestSpeed:
    @pytest.mark.parametrize(("int8_ms", "taken"), [(0.5, True), (0.9, True), (0.91, False)])
    def test_a_tenth_at_least(self, int8_ms: float, *, taken: bool) -> None:
        """Less is not worth another set of numbers; the figures are told either way."""
        found = of_speed(1.0, int8_ms, 32)
        assert (found.reason == "") == taken
        assert found.figures == {"plain_ms": 1.0, "int8_ms": int8_ms, "batch": 32.0}


class TestWithoutTruth:
    def test_the_same_outputs_are_good(self) -> None:
        """Nothing differs, also where nothing moves."""
        assert of_outputs(CLASSES, logits(50), logits(50), None).reason == ""
        still = np.ones((50, 1), np.float32)
        assert of_outputs(NUMBER, still, still, None).reason == ""
        assert of_outputs(NUMBER, still, still + np.float32(0.1), None).reason

    def test_another_class_too_often(self) -> None:
        """One of 200 may change, two may not."""
        plain = np.tile(np.array([[3.0, -3.0]], np.float32), (200, 1))
        for changed, taken in ((1, True), (2, False)):
            plain[:changed] = [0.001, 0.0]
            int8 = plain.copy()
            int8[:changed] = [0.0, 0.001]
            found = of_outputs(CLASSES, plain, int8, None)
            assert (found.reason == "") == taken
            assert found.figures["agreement"] == pytest.approx(1 - changed / 200)
        assert LEAST_AGREEMENT == 0.995

    def test_outputs_that_are_far_off(self) -> None:
        """Even where every class stays: the alarm that watches their size would not."""
        plain = logits(100)
        assert "differ by" in of_outputs(CLASSES, plain, plain * np.float32(1.2), None).reason
        near = plain + np.float32(0.9 * MOST_DEVIATION * plain.std())
        assert of_outputs(CLASSES, plain, near, None).reason == ""

    def test_no_number(self) -> None:
        """Never taken."""
        broken = logits(10)
        broken[3, 1] = np.nan
        assert "no number" in of_outputs(CLASSES, logits(10), broken, None).reason


class TestWithTruth:
    def test_half_a_point_of_accuracy(self) -> None:
        """One more error in 200 windows is allowed, one in 199 is not; better always is."""
        plain = np.zeros(200)
        for count, taken in ((200, True), (199, False)):
            worse = plain[:count].copy()
            worse[0] = 1.0
            given = logits(count)
            found = of_outputs(CLASSES, given, given, (plain[:count], worse))
            assert (found.reason == "") == taken
            assert of_outputs(CLASSES, given, given, (worse, plain[:count])).reason == ""

    def test_numbers_count_by_their_mean_error(self) -> None:
        """A thousandth worse is allowed, a hundredth is not."""
        given, errors = logits(100)[:, :1], np.full(100, 2.0)
        assert of_outputs(NUMBER, given, given, (errors, errors * 1.001)).reason == ""
        found = of_outputs(NUMBER, given, given, (errors, errors * 1.01))
        assert "worse by more than 0.01" in found.reason
        assert found.figures["int8_error"] == pytest.approx(2.02)
