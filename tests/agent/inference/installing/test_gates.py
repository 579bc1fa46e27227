# SPDX-License-Identifier: Apache-2.0
"""The gates as functions; whole installations at them are in ``test_poisoned``."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from tests.agent.kit import a_job

from fedmill_agent.inference.installing import gates
from fedmill_agent.inference.installing.gates import Gate, Refused, Unsigned, Verdict, at, demand
from fedmill_shared.errors import ModelError
from fedmill_shared.job import Job, Serving
from fedmill_shared.models.manifest import Manifest, Tensor
from fedmill_shared.models.schema import METADATA_KEY, encode_schema, schema_of

MANIFEST = Manifest((Tensor("head.weight", (3,), 0, "head"),))


def metadata(job: Job) -> dict[str, str]:
    """What a template of ``job`` tells."""
    return {METADATA_KEY: encode_schema(schema_of(job, MANIFEST))}


class TestSchema:
    def test_of_the_same_job(self) -> None:
        """Fits, whatever else of the job is another."""
        job = a_job()
        other = structs.replace(job, serving=Serving(soak_windows=3))
        assert gates.schema(job, MANIFEST, metadata(other)).ok

    @pytest.mark.parametrize(
        ("field", "reason"),
        [
            ({"unit": "mm/s"}, "unit of signal vibration is mm/s, the job's is g"),
            ({"length": 16}, "window.length is 16, the job's is 8"),
            ({"task": "regression"}, "task is regression, the job's is classification"),
        ],
    )
    def test_of_another_job(self, field: dict[str, str], reason: str) -> None:
        """What differs is named."""
        verdict = gates.schema(a_job(), MANIFEST, metadata(a_job(**field)))
        assert (verdict.gate, verdict.ok) == (Gate.SCHEMA, False)
        assert reason in verdict.reason

    def test_of_other_signals(self) -> None:
        """By their names, before any of their fields."""
        job = a_job()
        signals = [structs.replace(job.signals[0], name="sound")]
        verdict = gates.schema(job, MANIFEST, metadata(structs.replace(job, signals=signals)))
        assert verdict.reason == ("names of the signals is ['sound'], the job's is ['vibration']")

    def test_the_same_unit_in_other_words(self) -> None:
        """Is the same."""
        job, other = a_job(unit="degC"), a_job(unit="°C")
        assert gates.schema(job, MANIFEST, metadata(other)).ok

    def test_a_unit_that_nobody_knows(self) -> None:
        """Is another one."""
        verdict = gates.schema(a_job(), MANIFEST, metadata(a_job(unit="furlong")))
        assert verdict.reason == 'unit "furlong" is unknown'

    def test_of_another_number_of_weights(self) -> None:
        """Template and manifest do not belong together."""
        larger = Manifest((Tensor("head.weight", (4,), 0, "head"),))
        verdict = gates.schema(a_job(), larger, metadata(a_job()))
        assert verdict.reason == "it has 3 weights, its manifest 4"

    @pytest.mark.parametrize("told", [{}, {METADATA_KEY: "nonsense"}])
    def test_that_cannot_be_read(self, told: dict[str, str]) -> None:
        """Nobody knows what it is for."""
        assert not gates.schema(a_job(), MANIFEST, told).ok


class TestNumbers:
    def test_counts_what_is_none(self) -> None:
        """NaN and both infinities."""
        values = np.array([[1.0, np.nan], [np.inf, -np.inf]], np.float32)
        verdict = gates.finite("weights", values)
        assert verdict.reason == "3 of 4 weights are no finite numbers"
        assert gates.finite("weights", np.zeros(3, np.float32)).ok


class TestBudget:
    def test_of_time(self) -> None:
        """One window in a hundred may take longer, a second one may not."""
        serving = Serving(budget_ms=2.0)
        seconds = [0.001] * 99
        assert gates.budget(serving, [*seconds, 1.0], 0).ok
        verdict = gates.budget(serving, [*seconds[1:], 1.0, 0.003], 0)
        assert verdict.reason == "99 of 100 windows take up to 3 ms, serving.budget_ms is 2"
        assert verdict.evidence["latency_p99_ms"] == pytest.approx(3.0)

    def test_of_memory(self) -> None:
        """In MiB; without a budget whatever it takes."""
        verdict = gates.budget(Serving(budget_mib=8.0), [0.0], 9 << 20)
        assert verdict.reason == "it adds 9 MiB, serving.budget_mib is 8"
        assert gates.budget(Serving(), [9.0], 9 << 30).ok

    @given(st.lists(st.floats(0, 10), min_size=1, max_size=300))
    def test_the_quantile_is_one_of_the_values(self, seconds: list[float]) -> None:
        """At most one in a hundred is larger."""
        found = gates.quantile_ms(seconds) / 1e3
        assert sum(each > found * (1 + 1e-12) for each in seconds) <= len(seconds) / 100
        assert min(abs(found - each) for each in seconds) < 1e-9


class TestError:
    def test_is_judged_by_the_paired_difference(self) -> None:
        """Both have a hard hour: it spoils neither. The figures are told."""
        hard = np.repeat([0.0, 100.0], 50)
        noise = np.random.default_rng(0).normal(0, 1, 100)
        verdict = gates.error(Serving(), hard + 1.0 + noise * 0.1, hard)
        assert not verdict.ok
        assert verdict.evidence["error_serving"] == 50.0
        assert verdict.evidence["error_standard_error"] == pytest.approx(
            (noise * 0.1).std(ddof=1) / sqrt(100)
        )
        assert "worse by 1" in verdict.reason

    def test_what_gives_no_numbers_is_no_measure(self) -> None:
        """Whatever gives some takes its place."""
        old = np.array([0.5] * 99 + [np.nan])
        verdict = gates.error(Serving(), np.full(100, 7.0), old)
        assert verdict.ok
        assert verdict.evidence == {"labelled_windows": 100.0, "error_new": 7.0}

    def test_within_the_slack(self) -> None:
        """One standard error by default; the job may allow more."""
        difference = np.array([1.0, -0.9] * 20)
        old = np.full(40, 5.0)
        mean, error = gates.paired(difference)
        assert 0 < mean < error
        assert gates.error(Serving(), old + difference, old).ok
        assert not gates.error(Serving(error_slack=0.1), old + difference, old).ok

    def test_alike_is_no_worse(self) -> None:
        """Where all windows say the same there is no error of the mean: any loss counts."""
        same = np.zeros(30)
        assert gates.error(Serving(error_slack=0.0), same, same).ok
        assert not gates.error(Serving(), same + 1.0, same).ok

    def test_few_windows_decide_nothing(self) -> None:
        """Their number is told."""
        verdict = gates.error(Serving(), np.ones(19), np.zeros(19))
        assert verdict.ok
        assert verdict.evidence == {"labelled_windows": 19.0}

    def test_no_number_is_worse(self) -> None:
        """However few."""
        new = np.zeros(30)
        new[7] = np.nan
        assert not gates.error(Serving(), new, np.ones(30)).ok


class TestVerdicts:
    def test_a_demand_that_is_not_met(self) -> None:
        """Is raised with its gate."""
        assert demand(Verdict(Gate.ERROR, evidence={"a": 1.0})) == {"a": 1.0}
        with pytest.raises(Refused, match="too bad") as caught:
            demand(Verdict(Gate.ERROR, ok=False, reason="too bad"))
        assert caught.value.verdict.gate is Gate.ERROR

    def test_errors_of_models_have_a_gate(self) -> None:
        """The innermost that knows."""
        with pytest.raises(Refused) as caught, at(Gate.GRAPH):
            raise ModelError("it does not load", remedy="another one")
        assert (caught.value.verdict.gate, caught.value.remedy) == (Gate.GRAPH, "another one")
        with pytest.raises(Refused) as outer, at(Gate.SCHEMA):
            raise caught.value
        assert outer.value.verdict.gate is Gate.GRAPH

    def test_names_fit_a_message(self) -> None:
        """Every gate is a word on the wire."""
        assert all(gate.isidentifier() and gate == gate.lower() for gate in Gate)
        assert Unsigned.__doc__
