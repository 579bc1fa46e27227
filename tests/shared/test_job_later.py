# SPDX-License-Identifier: Apache-2.0
"""What older software gets to read of a job: all it knows, and nothing that it needs not know."""

import json
from typing import Any

import msgspec
import pytest

from fedmill_shared.job import Job
from fedmill_shared.job.later import LATER
from fedmill_shared.job_check import canonical, check, decode_job, job_from_canonical
from fedmill_shared.job_reference import SMALLEST_JOB

NEW: dict[str, dict[str, Any]] = {
    "signals": {"range": [-5.0, 5.0], "flat_seconds": 0.001, "max_slope": 1e5},
    "cleaning": {
        "missing": "hold",
        "hold": 2,
        "outliers": "winsorise",
        "reach": 3,
        "sigmas": 2.0,
        "tails": 0.05,
        "least_good": 0.9,
    },
    "window": {
        "trigger": "vibration",
        "trigger_level": 2.0,
        "trigger_edge": "falling",
        "trigger_hysteresis": 0.5,
        "trigger_before": 100,
        "order": "vibration",
        "revolutions": 4,
        "per_revolution": 32,
    },
    "features": {
        "steps": ["log_spectrum"],
        "bands": 8,
        "envelope_bands": 4,
        "envelope_band": [2000.0, 4000.0],
        "envelope_top": 400.0,
    },
    "labels": {
        "from": "event",
        "tolerance_seconds": 2.5,
        "conflict": "drop",
        "signal": "vibration",
        "horizon_seconds": 0.5,
        "events": ["bearing replaced"],
    },
    "federation": {
        "earliest_seconds": 5.0,
        "patience": 0.0,
        "select": 'line == "A"',
        "cluster_by": "machine",
        "clusters": ["pump"],
        "start": "another",
        "min_examples": 50,
        "over_selection": 1.5,
        "max_staleness": 0,
        "staleness_exponent": 1.0,
        "server_decay": 0.9,
        "server_adaptivity": 0.1,
        "rounds_on_wish": 5,
        "wish_seconds": 600.0,
        "wish_rounds_a_day": 12,
    },
    "learning": {
        "adjustment": 0.5,
        "focal_gamma": 1.0,
        "resample": "balanced",
        "proximal": 0.01,
        "personal": "head",
        "head_epochs": 1,
        "ditto": 0.1,
    },
    "compression": {"dense_rounds": 5, "dense": "int8", "plateau_rounds": 10},
    "robustness": {
        "rule": "multi_krum",
        "clip": 3.0,
        "byzantine": 0.3,
        "bucket": 2,
        "quarantine_rounds": 3,
        "claim": 2.0,
    },
    "serving": {
        "candidates": "best",
        "every": 5,
        "shadow_windows": 50,
        "shadow_seconds": 600.0,
        "least_agreement": 0.9,
        "error_slack": 2.0,
        "min_labels": 5,
        "budget_ms": 4.0,
        "budget_mib": 16.0,
        "soak_windows": 100,
    },
    "rollout": {
        "release": "better",
        "rings": ["canary", "10 %", "fleet"],
        "soak_seconds": 60.0,
        "abort_share": 0.5,
        "abort_after": 2,
        "timeout_seconds": 600.0,
    },
    "monitoring": {
        "false_alarms": 0.001,
        "margin": 1.5,
        "least_windows": 100,
        "smooth": 10,
    },
    "drift": {
        "watch": ["input", "residual"],
        "run_length": 5000,
        "warn_run_length": 500,
        "reference_windows": 1000,
        "block_windows": 50,
        "on_warning": [],
        "on_alarm": ["collect", "round"],
        "pause_seconds": 60.0,
        "collect_windows": 500,
    },
    "feedback": {
        "method": "ridge",
        "min_labels": 10,
        "every_labels": 20,
        "forgetting": 0.99,
        "strength": 3.0,
    },
}
"""Fields that came after protocol 1, with values that are not their defaults."""
REGRESSION: dict[str, dict[str, Any]] = {"job": {"task": "regression"}}
EVENT = REGRESSION | {"labels": {"classes": [], "unit": "h", "from": "event"}}
FORECAST = REGRESSION | {"labels": {"classes": [], "unit": "g", "from": "forecast"}}
NEEDS: dict[str, dict[str, dict[str, Any]]] = {
    "reach": {"cleaning": {"outliers": "hampel"}},
    "sigmas": {"cleaning": {"outliers": "hampel"}},
    "tails": {"cleaning": {"outliers": "winsorise"}},
    "order": {"signals": {"unit": "rpm"}},
    **{
        field: {"signals": {"unit": "rpm"}, "window": {"order": "vibration"}}
        for field in ("revolutions", "per_revolution")
    },
    **{
        field: {"window": {"trigger": "vibration"}}
        for field in ("trigger_level", "trigger_edge", "trigger_hysteresis", "trigger_before")
    },
    "steps": {"model": {"architecture": "mlp"}},
    "bands": {"model": {"architecture": "mlp"}, "features": {"steps": ["log_spectrum"]}},
    **{
        field: {"model": {"architecture": "mlp"}, "features": {"steps": ["envelope_spectrum"]}}
        for field in ("envelope_bands", "envelope_band", "envelope_top")
    },
    "from": {"job": {"task": "regression"}, "labels": {"classes": [], "unit": "h"}},
    "events": EVENT,
    "signal": FORECAST | {"labels": FORECAST["labels"] | {"horizon_seconds": 0.5}},
    "horizon_seconds": FORECAST | {"labels": FORECAST["labels"] | {"signal": "vibration"}},
    "cluster_by": {"federation": {"clusters": ["pump"]}},
    "clusters": {"federation": {"cluster_by": "machine"}},
    "over_selection": {"federation": {"goal": 2}},
    "head_epochs": {"learning": {"personal": "head"}},
    "bucket": {"robustness": {"rule": "krum"}},
    **{
        field: {
            "job": {"task": "reconstruction"},
            "labels": {"classes": []},
            "model": {"architecture": "autoencoder"},
        }
        for field in ("false_alarms", "margin", "least_windows", "smooth")
    },
    **{
        field: {"feedback": {"method": "ridge"}}
        for field in ("min_labels", "every_labels", "forgetting", "strength")
    },
    "candidates": {"evaluation": {"validation": 0.1}},
    "rings": {"rollout": {"release": "last"}},
    "soak_seconds": {"rollout": {"release": "last", "rings": ["canary", "fleet"]}},
}
"""What some of them only make sense with."""
FIELDS = [(section, field) for section, fields in NEW.items() for field in fields]
SECTIONS = [section for section, fields in LATER.items() if fields]
"""Alarms are left out: they are new as a whole, see ``test_job_alarms``."""


class OldSignal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A signal as software of protocol 1 reads it."""

    name: str
    unit: str
    rate_hz: float
    tag: str
    role: str
    resolution: float


class OldLabels(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section as software of protocol 1 reads it."""

    classes: list[str]
    unit: str
    cap: float


class OldWindow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section as software of protocol 1 reads it."""

    length: int
    stride: int
    pad: str
    normalise: str


class OldFederation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section as software of protocol 1 reads it."""

    rounds: int
    minimum: int
    goal: int
    deadline_seconds: float
    rule: str
    server_learning_rate: float
    server_momentum: float


class OldLearning(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section as software of protocol 1 reads it."""

    loss: str
    optimiser: str
    learning_rate: float
    schedule: str
    final_factor: float
    momentum: float
    weight_decay: float
    batch_size: int
    epochs: int
    steps: int
    known_classes_only: bool


class OldCompression(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section as software of protocol 1 reads it."""

    uplink: str
    downlink: str
    error_feedback: bool


class OldJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A canonical job as software of protocol 1 reads it: a field it does not know is an error."""

    job: dict[str, Any]
    signals: list[OldSignal]
    window: OldWindow
    labels: OldLabels
    model: dict[str, Any]
    learning: OldLearning
    federation: OldFederation
    compression: OldCompression
    evaluation: dict[str, Any]


def smallest() -> Job:
    """A job that needs nothing new."""
    return decode_job(SMALLEST_JOB, "rig.toml")


def changed(good: Job, **sections: dict[str, Any]) -> Job:
    """``good`` with other values in some sections, of signals in the first, not checked."""
    plain = msgspec.to_builtins(good)
    for name, values in sections.items():
        place = plain[name][0] if name == "signals" else plain[name]
        place |= values
        if name == "model":  # another architecture has other fields
            plain[name] = values
    return msgspec.convert(plain, Job)


def section_of(job: Any, name: str) -> Any:
    """A section; of signals the first."""
    found = getattr(job, name)
    return found[0] if name == "signals" else found


class TestLater:
    @pytest.mark.parametrize("section", SECTIONS)
    def test_every_new_field_is_tried_here(self, section: str) -> None:
        """One that is forgotten in the table would refuse old agents for nothing."""
        assert tuple(NEW[section]) == LATER[section]
        old: Any = OldSignal if section == "signals" else OldJob.__annotations__.get(section)
        known = set(old.__struct_fields__ if old is not None else ())
        assert known | {*NEW[section]} == {
            *type(section_of(smallest(), section)).__struct_encode_fields__
        }

    def test_defaults_are_left_out(self) -> None:
        """A job that needs nothing new is one that old agents take part in."""
        old = msgspec.json.decode(canonical(smallest()), type=OldJob)
        for section in ("signals", "window", "federation", "learning", "compression"):
            mine = msgspec.structs.asdict(section_of(smallest(), section))
            theirs = msgspec.structs.asdict(section_of(old, section))
            assert theirs == {name: mine[name] for name in theirs}

    @pytest.mark.parametrize("section", SECTIONS)
    def test_so_are_defaults_that_are_written_down(self, section: str) -> None:
        """The same job in other words, with the same hash."""
        plain = smallest()
        usual = msgspec.to_builtins(section_of(plain, section))
        written = {name: usual[name] for name in NEW[section]}
        assert canonical(changed(plain, **{section: written})) == canonical(plain)

    @pytest.mark.parametrize(("section", "field"), FIELDS)
    def test_what_is_used_is_told(self, section: str, field: str) -> None:
        """An agent that does not know the field refuses the job, instead of misreading it."""
        basis = changed(smallest(), **NEEDS.get(field, {}))
        candidate = changed(basis, **{section: {field: NEW[section][field]}})
        check(candidate)
        data = canonical(candidate)
        told = json.loads(data)[section]
        assert (told[0] if section == "signals" else told)[field] == NEW[section][field]
        assert job_from_canonical(data) == candidate
        with pytest.raises(msgspec.ValidationError, match="unknown field"):
            msgspec.json.decode(data, type=OldJob)

    def test_what_old_software_wrote_is_the_same_job(self) -> None:
        """An agent that was upgraded finds the job it has on disk unchanged."""
        plain = smallest()
        data = msgspec.json.encode(
            msgspec.json.decode(canonical(plain), type=OldJob), order="sorted"
        )
        assert data == canonical(plain)
        assert job_from_canonical(data) == plain
