# SPDX-License-Identifier: Apache-2.0
"""Two models on the same windows, against what numpy says of all of them at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from tests.agent.kit import a_job

from fedmill_agent.inference.installing.comparison import Comparison, confidence, raised
from fedmill_agent.inference.installing.gates import Gate
from fedmill_shared.job import Alarm, Job, Labels, Pca, Serving

CLASSES, NUMBER = a_job(), a_job(task="regression")


def logits(*probabilities: float) -> np.ndarray:
    """Of two classes, the second with these probabilities."""
    shares = np.array(probabilities)
    return np.log(np.stack([1 - shares, shares], 1)).astype(np.float32)


def compared(job: Job, new: np.ndarray, old: np.ndarray, **serving: float) -> Comparison:
    """All windows in one batch."""
    comparison = Comparison(structs.replace(job, serving=Serving(**serving)))
    comparison.add(new.astype(np.float32), old.astype(np.float32))
    return comparison


class TestAgreement:
    def test_of_classes(self) -> None:
        """The share of windows with the same one."""
        new, old = logits(0.9, 0.9, 0.2, 0.1), logits(0.6, 0.4, 0.4, 0.3)
        comparison = compared(CLASSES, new, old, least_agreement=0.8)
        assert comparison.agreement == 0.75
        verdict = comparison.verdict(Gate.SHADOW)
        assert "agrees with the serving model on 0.75 of 4 windows" in verdict.reason
        assert compared(CLASSES, new, old, least_agreement=0.75).verdict(Gate.SHADOW).ok

    def test_of_numbers(self) -> None:
        """One less the root mean square of the difference over the spread of the old one."""
        generator = np.random.default_rng(0)
        old = generator.normal(50, 10, (500, 1))
        new = old + generator.normal(0, 1, (500, 1))
        expected = 1 - np.sqrt(np.mean((new - old) ** 2)) / old.std(ddof=1)
        assert compared(NUMBER, new, old).agreement == pytest.approx(expected, abs=1e-4)

    def test_where_nothing_varies(self) -> None:
        """The same is all of it, anything else nothing."""
        same = np.full((9, 1), 3.0)
        assert compared(NUMBER, same, same).agreement == 1.0
        assert compared(NUMBER, same + 1, same).agreement == 0.0

    @given(st.lists(st.integers(1, 9), min_size=1, max_size=9), st.integers(0, 99))
    def test_batches_make_no_difference(self, sizes: list[int], seed: int) -> None:
        """Sums are kept."""
        generator = np.random.default_rng(seed)
        new, old = (generator.normal(0, 1, (sum(sizes), 2)).astype(np.float32) for _ in range(2))
        whole, parts = compared(CLASSES, new, old), Comparison(CLASSES)
        ends = np.cumsum(sizes)[:-1]
        for one, other in zip(np.split(new, ends), np.split(old, ends), strict=True):
            parts.add(one, other)
        assert parts.verdict(Gate.SOAK).evidence == pytest.approx(whole.verdict(Gate.SOAK).evidence)


class TestWorse:
    def test_less_confident(self) -> None:
        """By more than a tenth, and more than chance."""
        sure, unsure = logits(*[0.99] * 30), logits(*[0.6] * 30)
        verdict = compared(CLASSES, unsure, sure).verdict(Gate.SOAK)
        assert "its confidence is lower by 0.39 on 30 windows" in verdict.reason
        assert compared(CLASSES, sure, unsure).verdict(Gate.SOAK).ok
        assert compared(CLASSES, logits(*[0.92] * 30), sure).verdict(Gate.SOAK).ok

    def test_by_chance(self) -> None:
        """A few windows that differ much say little."""
        new, old = logits(0.6, 0.6, 0.99, 0.99), logits(0.99, 0.99, 0.99, 0.9)
        assert compared(CLASSES, new, old).verdict(Gate.SOAK).ok

    def test_no_numbers(self) -> None:
        """One window is enough; an old model without numbers is no reason."""
        good = logits(*[0.9] * 5)
        bad = good.copy()
        bad[2, 0] = np.nan
        verdict = compared(CLASSES, bad, good)
        assert not verdict.sound
        assert verdict.verdict(Gate.SOAK).reason == "1 of 5 windows gave no numbers"
        assert compared(CLASSES, good, bad).verdict(Gate.SOAK).ok

    def test_more_alarms(self) -> None:
        """Windows that are one by themselves, each with its partner."""
        job = structs.replace(CLASSES, alarms=[Alarm(name="wear", classes=["worn"])])
        quiet, loud = logits(*[0.01] * 40), logits(*[0.01] * 20, *[0.99] * 20)
        verdict = compared(job, loud, quiet).verdict(Gate.SOAK)
        assert verdict.evidence["soak_alarms_more"] == 0.5
        assert "windows that are an alarm is larger by 0.5" in verdict.reason
        assert compared(job, quiet, loud).verdict(Gate.SOAK).ok

    def test_alarms_over_a_limit_of_the_agents_own(self) -> None:
        """A version that has not served has no such limit yet: its bare scores are no alarms."""
        task = structs.replace(CLASSES.job, task="reconstruction")
        alarms = [Alarm(name="odd", above=1.0)]
        job = structs.replace(CLASSES, job=task, labels=Labels(), alarms=alarms)
        large, small = (np.full((40, 1), level, np.float32) for level in (7.0, 0.1))
        for new, old in ((large, small), (small, large)):
            verdict = compared(job, new, old).verdict(Gate.SOAK)
            assert verdict.ok
            assert "soak_alarms_more" not in verdict.evidence
        components = structs.replace(job, model=Pca())
        assert not compared(components, large, small).verdict(Gate.SOAK).ok

    def test_too_slow(self) -> None:
        """More than one in a hundred and what chance adds."""
        for slow, ok in ((3, True), (5, False)):
            comparison = Comparison(CLASSES)
            comparison.add(logits(*[0.9] * 100), logits(*[0.9] * 100), slow=slow)
            assert comparison.verdict(Gate.SOAK).ok == ok


class TestMeaning:
    def test_confidence_is_that_of_the_softmax(self) -> None:
        """Also of logits that no exponential can take."""
        assert confidence(logits(0.2, 0.7).astype(float)) == pytest.approx([0.8, 0.7])
        assert confidence(np.array([[1e4, -1e4]])).tolist() == [1.0]

    def test_alarms_of_numbers(self) -> None:
        """Above and below, and both in one job."""
        alarms = [Alarm(name="high", above=5.0), Alarm(name="low", below=1.0)]
        job = structs.replace(NUMBER, alarms=alarms)
        values = np.array([[0.0], [1.0], [3.0], [5.0], [6.0]])
        assert raised(job, values).tolist() == [1.0, 0.0, 0.0, 0.0, 1.0]

    def test_alarms_of_classes_want_confidence(self) -> None:
        """Below it the class does not count."""
        alarm = Alarm(name="wear", classes=["worn"], least_confidence=0.8)
        job = structs.replace(CLASSES, alarms=[alarm])
        assert raised(job, logits(0.7, 0.9, 0.1).astype(float)).tolist() == [0.0, 1.0, 0.0]
