# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest
from msgspec import json

from fedmill_coordinator.aggregation.robust.base import Judgement, Verdict
from fedmill_coordinator.aggregation.robust.verdicts import stands_apart, verdicts

EQUAL = np.full(3, 1 / 3)


def _judgement(*cosines: float) -> Judgement:
    likeness = np.array(cosines)
    trust = np.where(likeness > 0.2, 1.0, 0.0)
    scores = np.arange(likeness.size, dtype=np.float64)
    return Judgement(np.full(likeness.size, 0.3), scores, "score", likeness=likeness, trust=trust)


class TestVerdicts:
    def test_literal(self) -> None:
        """Everything about one that stands apart, nothing but its cosine about the others."""
        found = verdicts(
            ["press-1", "press-2", "press-3"],
            np.array([1.0, 1.0, 4.2]),
            np.array([1.0, 1.0, 1.5 / 4.2]),
            EQUAL,
            _judgement(0.6, 0.71, -0.83),
        )
        words = "is 4.2 times as long as the median, points away from the others (cosine -0.83)"
        assert found == {
            "press-1": Verdict(1.0, 0.0, "fits the others (cosine 0.60)"),
            "press-2": Verdict(1.0, 1.0, "fits the others (cosine 0.71)"),
            "press-3": Verdict(0.0, 2.0, words, 1.5 / 4.2),
        }

    @pytest.mark.parametrize(
        ("trust", "cosine", "words"),
        [
            (1.0, 0.0, "fits the others (cosine 0.00)"),
            (1.0, -0.2, "is no less like the others than most are (cosine -0.20)"),
            (0.5, 0.1, "differs from the others (cosine 0.10)"),
            (0.05, 0.02, "hardly resembles the others (cosine 0.02)"),
            (0.05, -0.5, "points away from the others (cosine -0.50)"),
            (1.0, np.nan, ""),
        ],
    )
    def test_direction(self, trust: float, cosine: float, words: str) -> None:
        """The words follow the trust, not the sign alone; what points backwards never fits."""
        judged = replace(_judgement(cosine), trust=np.array([trust]))
        found = verdicts(["a"], np.ones(1), np.ones(1), np.ones(1), judged)
        assert found["a"].statistic == words

    def test_golden_update(self) -> None:
        """Is what the rule trust compares with."""
        judged = replace(_judgement(-0.4), others="the golden update")
        found = verdicts(["a"], np.ones(1), np.ones(1), np.ones(1), judged)
        assert found["a"].statistic == "points away from the golden update (cosine -0.40)"

    def test_left_out(self) -> None:
        """By the rule, not by a quarantine, which has a reason of its own."""
        judged = replace(_judgement(0.5, 0.5, 0.5), coefficients=np.array([1.0, 0.0, 0.0]))
        weights = np.array([0.5, 0.5, 0.0])
        found = verdicts(["a", "b", "c"], np.ones(3), np.ones(3), weights, judged)
        left_out = [each.statistic.endswith("was left out") for each in found.values()]
        assert left_out == [False, True, False]

    def test_without_a_judgement(self) -> None:
        """Lengths are told: twice the median and more, and nothing at all."""
        norms = np.array([1.0, 1.0, 1.0, 1234.4, 0.0])
        found = verdicts(list("abcde"), norms, np.ones(5), np.full(5, 0.2))
        assert [each.statistic for each in found.values()] == [
            "",
            "",
            "",
            "is 1234 times as long as the median",
            "is zero",
        ]

    def test_the_worst_of_an_agent(self) -> None:
        """Of one that has two updates in a round; of equal ones the newest."""
        agents, factors = ["a", "a", "b", "b"], np.array([1.0, 0.5, 1.0, 0.9])
        judged = _judgement(-0.4, 0.6, 0.7, 0.7)
        found = verdicts(agents, np.ones(4), factors, np.full(4, 0.25), judged)
        assert found["a"] == Verdict(0.0, 0.0, "points away from the others (cosine -0.40)", 1.0)
        assert found["b"] == Verdict(1.0, 3.0, "fits the others (cosine 0.70)", 0.9)

    def test_agreement_alone(self) -> None:
        """In a round too large for single directions; of several updates, the worst is told."""
        agreed = np.array([0.31, -0.2, 0.25, 0.01])
        agents = ["a", "b", "b", "c"]
        found = verdicts(agents, np.ones(4), np.ones(4), np.full(4, 0.25), agreements=agreed)
        assert found == {
            "a": Verdict(statistic="agrees with most others (cosine 0.31)", agreement=0.31),
            "b": Verdict(statistic="pulls against most others (cosine -0.20)", agreement=-0.2),
            "c": Verdict(
                statistic="has little in common with most others (cosine 0.01)", agreement=0.01
            ),
        }

    def test_agreement_beside_a_judgement(self) -> None:
        """Told where it is against most others, for that decides on quarantine."""
        agreed = np.array([0.31, np.nan, -0.1])
        judged = _judgement(0.6, 0.6, 0.6)
        found = verdicts(list("abc"), np.ones(3), np.ones(3), EQUAL, judged, agreements=agreed)
        assert [each.agreement for each in found.values()] == [0.31, None, -0.1]
        fits = "fits the others (cosine 0.60)"
        against = f"{fits}, pulls against most others (cosine -0.10)"
        assert [each.statistic for each in found.values()] == [fits, fits, against]

    def test_all_zero(self) -> None:
        """No median, no ratio."""
        found = verdicts(["a", "b"], np.zeros(2), np.ones(2), np.full(2, 0.5))
        assert {each.statistic for each in found.values()} == {"is zero"}

    def test_reports_store_it(self) -> None:
        """As JSON, which leaves out what is usual and reads it again."""
        verdict = Verdict(0.25, 3.5, "is zero", 0.5)
        assert json.decode(json.encode(verdict), type=Verdict) == verdict
        assert json.encode(Verdict()) == b"{}"


class TestStandsApart:
    @pytest.mark.parametrize(
        ("verdict", "apart"),
        [
            (Verdict(), False),
            (Verdict(agreement=-1.0), False),
            (Verdict(trust=0.1), False),
            (Verdict(trust=0.09), True),
            (Verdict(factor=0.01), False),
        ],
    )
    def test_literal(self, verdict: Verdict, *, apart: bool) -> None:
        """By direction alone: a plant that alone knows a fault has the longest updates of all."""
        assert stands_apart(verdict) is apart
