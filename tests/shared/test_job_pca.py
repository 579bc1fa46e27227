# SPDX-License-Identifier: Apache-2.0
"""Jobs whose model are principal components: what they leave out, and what would bend them."""

import re
from pathlib import Path
from typing import Any

import pytest

from fedmill_shared.errors import JobError
from fedmill_shared.job import Job, Monitoring, Pca
from fedmill_shared.job.pca import width_of
from fedmill_shared.job_check import canonical, check, decode_job, job_from_canonical, load_job

BASE: dict[str, Any] = {
    "job": {"name": "pumps", "task": "reconstruction"},
    "window": {"length": 8},
    "model": {"architecture": "pca"},
}


def text_of(sections: dict[str, Any]) -> str:
    """A job file of two signals."""
    lines = ["[[signals]]", 'name = "pressure"', "[[signals]]", 'name = "flow"']
    for name, fields in sections.items():
        lines.append(f"[{name}]")
        for field, value in fields.items():
            shown = str(value).lower() if isinstance(value, bool) else repr(value)
            lines.append(f"{field} = {shown}".replace("'", '"'))
    return "\n".join(lines) + "\n"


def read(**sections: dict[str, Any]) -> Job:
    """The job of ``BASE`` with other sections."""
    return decode_job(text_of(BASE | sections), "pumps.toml")


class TestDefaults:
    def test_what_is_left_out_is_exact(self) -> None:
        """One round, whole numbers, nobody shortened, capped or put aside."""
        job = read()
        assert isinstance(job.model, Pca)
        assert (job.federation.rounds, job.federation.max_staleness) == (1, 0)
        assert (job.compression.uplink, job.compression.downlink) == ("fp32", "fp32")
        assert (job.robustness.clip, job.robustness.claim) == (1e6, 1e6)
        assert job.robustness.quarantine_rounds == 0

    def test_agents_read_the_same(self) -> None:
        """They are written out in what travels, and nothing is filled in there."""
        job = read()
        assert job_from_canonical(canonical(job)) == job

    def test_what_is_written_counts(self) -> None:
        """More rounds follow the newest windows; a claim may be bounded."""
        job = read(federation={"rounds": 9}, robustness={"claim": 5.0})
        assert (job.federation.rounds, job.robustness.claim) == (9, 5.0)

    def test_other_models_keep_theirs(self) -> None:
        """An autoencoder's job is what it was."""
        job = read(model={"architecture": "autoencoder", "bottleneck": 2})
        assert job.compression.uplink == "int8"
        assert job.robustness.quarantine_rounds == 5

    def test_inputs(self) -> None:
        """Every sample, or one mean for each signal."""
        assert width_of(read()) == 16
        assert width_of(read(model={"architecture": "pca", "inputs": "mean"})) == 2


class TestFaults:
    @pytest.mark.parametrize(
        ("sections", "message"),
        [
            ({"compression": {"uplink": "int8"}}, 'uplink is "int8": it rounds the moments'),
            ({"compression": {"downlink": "fp16"}}, 'downlink is "fp16": it rounds'),
            ({"compression": {"dense_rounds": 3}}, "dense_rounds is 3: moments travel in fp32"),
            ({"compression": {"plateau_rounds": 3}}, "plateau_rounds is 3"),
            ({"robustness": {"clip": 1.5}}, "clip is 1.5: shortened moments"),
            ({"robustness": {"quarantine_rounds": 5}}, "quarantine_rounds is 5: .*contrary"),
            ({"robustness": {"rule": "median"}}, 'rule is "median": .*of no windows at all'),
            ({"robustness": {"rule": "centred_clipping"}}, 'rule is "centred_clipping"'),
            ({"robustness": {"rule": "trust"}}, 'rule is "trust"'),
            ({"federation": {"rule": "fedadam"}}, 'rule is "fedadam": moments are averaged'),
            ({"federation": {"server_learning_rate": 0.5}}, "server_learning_rate is 0.5"),
            ({"federation": {"max_staleness": 2}}, "max_staleness is 2: a late update"),
            ({"learning": {"ditto": 0.1}}, "ditto is 0.1: .*no training steps"),
            ({"learning": {"personal": "head"}}, 'personal is "head"'),
            (
                {"serving": {"candidates": "best"}, "evaluation": {"validation": 0.2}},
                'candidates is "best": no agent trains',
            ),
            ({"rollout": {"release": "better"}}, 'release is "better": .*no error'),
            ({"window": {"length": 257}}, "would have 514 inputs, and at most 512"),
            (
                {"model": {"architecture": "pca", "components": 17}},
                "components is 17: the model has 16 inputs",
            ),
            (
                {
                    "window": {"length": 64},
                    "features": {"steps": ["time_statistics"]},
                    "model": {"architecture": "pca", "inputs": "mean"},
                },
                'inputs is "mean": features stand for different things',
            ),
            ({"window": {"length": 8, "normalise": "none"}}, "normalise .*different units"),
            (
                {"job": {"name": "pumps", "task": "regression"}},
                'task is "regression": principal components tell how unusual',
            ),
        ],
    )
    def test_what_does_not_go_with_it(self, sections: dict[str, Any], message: str) -> None:
        """Each is refused with the field and what to write."""
        with pytest.raises(JobError) as error:
            read(**sections)
        assert re.search(message, error.value.message), error.value.message
        assert error.value.remedy

    @pytest.mark.parametrize("rule", ["geometric_median", "krum", "multi_krum"])
    def test_rules_that_choose_among_updates(self, rule: str) -> None:
        """Their results are moments of some windows or other."""
        check(read(robustness={"rule": rule}))

    def test_a_job_made_in_code_is_judged_as_it_is(self) -> None:
        """Nothing is filled in behind anybody's back."""
        plain = read(model={"architecture": "autoencoder", "bottleneck": 2})
        sections = {name: getattr(plain, name) for name in plain.__struct_fields__}
        with pytest.raises(JobError, match="it rounds the moments"):
            check(Job(**sections | {"model": Pca()}))

    def test_monitoring_is_for_jobs_without_labels(self) -> None:
        """Others are told by their labels what is abnormal."""
        sections = {
            "job": {"name": "pumps"},
            "labels": {"classes": ["good", "bad"]},
            "model": {"architecture": "mlp"},
            "monitoring": {"margin": 2.0},
        }
        with pytest.raises(JobError, match=r"monitoring\.margin is 2\.0: a classification"):
            read(**sections)
        assert read(monitoring={"margin": 2.0}).monitoring == Monitoring(margin=2.0)


class TestExample:
    def test_the_one_of_the_documentation(self) -> None:
        """``docs/examples/monitor.toml`` is a job as it stands."""
        job = load_job(Path(__file__).parents[2] / "docs/examples/monitor.toml")
        assert isinstance(job.model, Pca)
        assert width_of(job) == len(job.signals)
        assert [alarm.above for alarm in job.alarms] == [1.0]
