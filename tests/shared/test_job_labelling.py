# SPDX-License-Identifier: Apache-2.0
"""Where a job may take its ground truth from."""

import re
from typing import Any

import msgspec
import pytest

from fedmill_shared.job import Job
from fedmill_shared.job.faults import faults
from fedmill_shared.job.labelling import horizon_samples

BASE: dict[str, Any] = {
    "job": {"name": "life", "task": "regression"},
    "signals": [{"name": "heat", "unit": "degC", "rate_hz": 2.0}],
    "window": {"length": 64},
    "labels": {},
}
FORECAST = {"from": "forecast", "signal": "heat", "horizon_seconds": 1.5, "unit": "degF"}
EVENT = {"from": "event", "unit": "h", "events": ["failed"]}


def told(task: str = "regression", **labels: Any) -> list[str]:
    """What is wrong with a job with these labels, each with its remedy."""
    job = {**BASE, "job": {"name": "life", "task": task}, "labels": labels}
    return [f"{fault.message} ({fault.remedy})" for fault in faults(msgspec.convert(job, Job))]


class TestLabellingFaults:
    @pytest.mark.parametrize(
        "labels", [{}, FORECAST, EVENT, {"tolerance_seconds": 2.0, "conflict": "drop"}]
    )
    def test_what_fits_together(self, labels: dict[str, Any]) -> None:
        """A forecast in any unit of its signal, a life in any unit of time."""
        assert told(**labels) == []

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (FORECAST | {"signal": "haet"}, 'labels.signal is "haet".*write one of heat'),
            (FORECAST | {"unit": "bar"}, "labels.unit is .bar.: signal heat is in degC"),
            (FORECAST | {"horizon_seconds": 0.3}, "horizon_seconds is 0.3.*0.5 s apart"),
            (FORECAST | {"horizon_seconds": 0.0}, "horizon_seconds is 0.0.*no whole number"),
            (EVENT | {"unit": "1"}, "labels.unit is .1.: a remaining life is a time"),
            ({"events": ["failed"]}, 'labels.events .*from = "event".*is "source"'),
            ({"signal": "heat"}, 'labels.signal .*from = "forecast"'),
            (EVENT | {"tolerance_seconds": 1.0}, 'tolerance_seconds .*from = "source"'),
        ],
    )
    def test_what_does_not(self, labels: dict[str, Any], message: str) -> None:
        """The field, its value, and what to write instead."""
        [one] = told(**labels)
        assert re.search(message, one), one

    def test_classes_come_with_labels(self) -> None:
        """A classification cannot make them itself."""
        found = told("classification", classes=["a", "b"], **EVENT)
        assert any('labels.from is "event": classes come with labels' in each for each in found)

    def test_the_horizon_in_samples(self) -> None:
        """Seconds times the rate."""
        assert horizon_samples(msgspec.convert(BASE | {"labels": FORECAST}, Job)) == 3
