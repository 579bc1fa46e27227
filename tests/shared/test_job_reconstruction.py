# SPDX-License-Identifier: Apache-2.0
"""Jobs that learn without labels."""

import re
from typing import Any

import msgspec
import pytest

from fedmill_shared import schema
from fedmill_shared.errors import JobError
from fedmill_shared.files import sha256
from fedmill_shared.job import Job, Labels, Signal, Task
from fedmill_shared.job.faults import faults
from fedmill_shared.job_check import canonical, decode_job, job_from_canonical

BASE: dict[str, Any] = {
    "job": {"name": "pumps", "task": "reconstruction"},
    "signals": [{"name": "pressure", "unit": "bar"}, {"name": "flow", "unit": "m3/h"}],
    "window": {"length": 8},
    "model": {"architecture": "autoencoder"},
}
TEXT = """\
[job]
name = "pump"
task = "reconstruction"

[[signals]]
name = "vibration"
unit = "g"
rate_hz = 1000.0

[window]
length = 64

[model]
architecture = "autoencoder"
"""
"""A whole job file."""
OLD = Job(
    job=Task(name="press"),
    signals=[Signal(name="force", unit="kN")],
    labels=Labels(classes=["good", "worn"]),
)
CANONICAL = "abac53854c69fb1f4dae8fc653b3f3f559b163fec8040ae563ca79239da2e2ac"
SCHEMA = "4fc69903d6c326f187db8d02d19e3f4b58cc512e3c281ac7e81bb25b18de43bf"


def told(**sections: dict[str, Any]) -> list[str]:
    """What is wrong with the job with these sections, each with its remedy."""
    job = {**BASE, **sections}
    return [f"{fault.message} ({fault.remedy})" for fault in faults(msgspec.convert(job, Job))]


class TestFaults:
    @pytest.mark.parametrize(
        "sections",
        [
            {},
            {"labels": {"from": "source", "unit": "1"}},
            {"learning": {"loss": "mse", "personal": "head", "ditto": 0.1}},
            {"model": {"architecture": "autoencoder", "hidden": [], "bottleneck": 15}},
            {"window": {"length": 64}, "features": {"steps": ["log_spectrum"], "bands": 5}},
            {"federation": {"rule": "scaffold", "minimum": 2}, "learning": {"optimiser": "sgd"}},
            {"robustness": {"rule": "trust"}},
            {"serving": {"candidates": "best"}, "evaluation": {"validation": 0.2}},
        ],
    )
    def test_what_fits_together(self, sections: dict[str, Any]) -> None:
        """Every method that asks for no label, and a table that says nothing."""
        assert told(**sections) == []

    @pytest.mark.parametrize(
        ("sections", "message"),
        [
            ({"labels": {"classes": ["a", "b"]}}, r"labels\.classes .*without labels.*\[labels\]"),
            ({"labels": {"unit": "h", "cap": 9.0}}, r'labels\.unit is "h": .*without labels'),
            ({"labels": {"from": "event"}}, r'labels\.from is "event": .*without labels'),
            (
                {"labels": {"from": "forecast", "signal": "flow", "horizon_seconds": 1.0}},
                r"labels\.from .*learns without labels",
            ),
            ({"labels": {"tolerance_seconds": 1.0}}, "tolerance_seconds .*without labels"),
            ({"learning": {"loss": "huber"}}, 'loss is "huber": .*mean squared error.*"mse"'),
            ({"learning": {"loss": "focal"}}, 'loss is "focal": .*mean squared error'),
            ({"learning": {"resample": "balanced"}}, "resample .*has no classes"),
            ({"learning": {"known_classes_only": True}}, "known_classes_only .*no classes"),
            ({"learning": {"adjustment": 2.0}}, "adjustment is 2.0: .*no classes"),
            ({"learning": {"focal_gamma": 1.0}}, "focal_gamma is 1.0: .*no classes"),
            ({"window": {"length": 8, "normalise": "none"}}, "normalise .*different units"),
            (
                {"model": {"architecture": "autoencoder", "bottleneck": 16}},
                "bottleneck is 16: the model has 16 inputs, and could just copy them",
            ),
            ({"model": {"architecture": "mlp"}}, 'architecture is "mlp".*"autoencoder"'),
            ({"job": {"name": "pumps"}, "labels": {"classes": ["a", "b"]}}, "job.task is .class"),
            ({"job": {"name": "pumps", "task": "regression"}}, "job.task is .regression.*gives"),
        ],
    )
    def test_what_does_not(self, sections: dict[str, Any], message: str) -> None:
        """One error each: the field, its value, and what to write instead."""
        [one] = told(**sections)
        assert re.search(message, one), one

    def test_the_default_model_is_named(self) -> None:
        """Whoever forgets the model reads what to write."""
        text = '[job]\nname = "a"\ntask = "reconstruction"\n[[signals]]\nname = "s"\n'
        with pytest.raises(JobError, match=r'model\.architecture is "mlp"') as error:
            decode_job(text, "job.toml")
        assert error.value.remedy == 'write architecture = "autoencoder" or "pca" below [model]'

    def test_features_count_as_inputs(self) -> None:
        """Two signals with four bands are eight numbers, however long the windows."""
        sections = {
            "window": {"length": 64},
            "features": {"steps": ["log_spectrum"], "bands": 4},
            "model": {"architecture": "autoencoder", "bottleneck": 8},
        }
        [one] = told(**sections)
        assert "the model has 8 inputs" in one


class TestInterchange:
    def test_old_jobs_keep_their_bytes(self) -> None:
        """Recorded before there were reconstructions."""
        assert sha256(canonical(OLD)) == CANONICAL
        assert schema.schema_hash(OLD) == SCHEMA

    def test_the_round_trip(self) -> None:
        """An agent reads what the coordinator wrote."""
        job = msgspec.convert(BASE, Job)
        assert job_from_canonical(canonical(job)) == job
        assert not job.needs_labels
        assert (job.outputs, job.learns_from) == (1, "training windows")

    def test_older_software_refuses_it(self) -> None:
        """A task that is not known is a JobError which names it, as any unknown value is."""
        newer = canonical(OLD).replace(b'"classification"', b'"something newer"')
        with pytest.raises(JobError, match=r"'something newer' .*job\.task") as error:
            job_from_canonical(newer)
        assert "same version of fedmill" in error.value.remedy

    def test_another_task_is_another_schema(self) -> None:
        """Windows of a regression are not joined with those of a reconstruction."""
        job = msgspec.convert(BASE, Job)
        regression = msgspec.structs.replace(job, job=Task(name="pumps", task="regression"))
        assert schema.schema_hash(job) != schema.schema_hash(regression)
