# SPDX-License-Identifier: Apache-2.0
"""What agents and coordinator compare before training."""

import re
from typing import Any

import msgspec
import pytest

from fedmill_shared.errors import SchemaError
from fedmill_shared.job import Job
from fedmill_shared.schema import schema_hash

BASE: dict[str, Any] = {
    "job": {"name": "life", "task": "regression"},
    "signals": [
        {"name": "temperature", "unit": "degC", "rate_hz": 2.0},
        {"name": "load", "unit": "%", "rate_hz": 2.0, "role": "regime"},
    ],
    "window": {"length": 64, "normalise": "regime"},
    "labels": {"unit": "cycle", "cap": 125.0},
}


def hash_of(**sections: Any) -> str:
    """The hash of the base job with other values in some sections."""
    job = {key: BASE.get(key, {}) for key in {*BASE, *sections}}
    for key, value in sections.items():
        job[key] = {**job[key], **value} if isinstance(value, dict) else value
    return schema_hash(msgspec.convert(job, Job))


def signals(index: int, **values: Any) -> list[dict[str, Any]]:
    """The base job's signals, one of them changed."""
    changed = [dict(signal) for signal in BASE["signals"]]
    changed[index].update(values)
    return changed


class TestSchemaHash:
    """What changes it, and what does not."""

    def test_is_sha256(self) -> None:
        """64 hexadecimal digits, and the same ones on every machine and version."""
        assert re.fullmatch("[0-9a-f]{64}", hash_of())
        assert hash_of() == "d0aeb71346e7d6461a8e296db0ac16cf0a2f5d72933d129a89fd8188332ce363"

    @pytest.mark.parametrize(
        "sections",
        [
            {"signals": signals(0, name="heat")},
            {"signals": signals(0, unit="K")},
            {"signals": signals(0, rate_hz=4.0)},
            {"signals": signals(1, role="input")},
            {"signals": signals(0)[::-1]},
            {"signals": signals(0)[:1]},
            {"signals": signals(0, range=[-40.0, 150.0])},
            {"signals": signals(0, flat_seconds=9.0)},
            {"signals": signals(0, max_slope=5.0)},
            {"cleaning": {"missing": "hold"}},
            {"window": {"length": 65}},
            {"window": {"pad": "edge"}},
            {"job": {"task": "classification"}},
            {"labels": {"classes": ["a", "b"]}},
            {"labels": {"unit": "h"}},
            {"labels": {"cap": 130.0}},
        ],
    )
    def test_changes(self, sections: dict[str, Any]) -> None:
        """Whatever the model's input or output means changes it."""
        assert hash_of(**sections) != hash_of()

    @pytest.mark.parametrize(
        "sections",
        [
            {"job": {"name": "other"}},
            {"signals": signals(0, unit="°C")},
            {"signals": signals(0, tag="T-101")},
            {"signals": signals(0, range=[])},
            {"cleaning": {"missing": "linear"}},
            {"window": {"stride": 7}},
            {"model": {"architecture": "gru", "hidden": 32}},
            {"learning": {"learning_rate": 0.5, "epochs": 3}},
            {"federation": {"rounds": 3, "rule": "fedavgm"}},
            {"compression": {"uplink": "fp32"}},
            {"evaluation": {"test": 0.4}},
        ],
    )
    def test_stays(self, sections: dict[str, Any]) -> None:
        """Names, aliases of units, and everything about learning leave it alone."""
        assert hash_of(**sections) == hash_of()

    def test_order_of_classes_matters(self) -> None:
        """Logit 0 must mean the same class everywhere."""
        forward = hash_of(labels={"classes": ["a", "b"]})
        assert forward != hash_of(labels={"classes": ["b", "a"]})

    def test_unknown_unit(self) -> None:
        """A unit that nobody can convert has no hash."""
        with pytest.raises(SchemaError, match='unit "furlong" is unknown'):
            hash_of(signals=signals(0, unit="furlong"))


class TestOwnLabels:
    FORECAST: dict[str, Any] = {  # noqa: RUF012  a constant
        "unit": "degC",
        "cap": 0.0,
        "from": "forecast",
        "signal": "temperature",
        "horizon_seconds": 60.0,
    }

    def test_another_horizon_is_another_model(self) -> None:
        """What is foretold, and how far ahead, is what the model's output means."""
        base = hash_of(labels=self.FORECAST)
        assert base != hash_of(labels=self.FORECAST | {"horizon_seconds": 30.0})
        assert base != hash_of(labels=self.FORECAST | {"signal": "load"})
        assert base != hash_of(labels={"unit": "degC", "cap": 0.0})

    def test_how_labels_are_joined_is_not(self) -> None:
        """Windows and model stay where only more of them get a label."""
        assert hash_of(labels={"tolerance_seconds": 5.0, "conflict": "drop"}) == hash_of()
