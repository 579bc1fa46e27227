# SPDX-License-Identifier: Apache-2.0
"""When predictions may be an alarm."""

import json
import re
from typing import Any

import msgspec
import pytest
from tests.shared.test_job_later import OldJob, smallest

from fedmill_shared.errors import JobError
from fedmill_shared.job import Alarm, Job
from fedmill_shared.job.faults import faults
from fedmill_shared.job_check import canonical, decode_job, job_from_canonical

CLASSES: dict[str, Any] = {
    "job": {"name": "rig"},
    "signals": [{"name": "a"}],
    "labels": {"classes": ["good", "worn", "broken"]},
}
NUMBER: dict[str, Any] = {
    "job": {"name": "life", "task": "regression"},
    "signals": [{"name": "a"}],
    "labels": {"unit": "h"},
}
NOVELTY: dict[str, Any] = {
    "job": {"name": "odd", "task": "reconstruction"},
    "signals": [{"name": "a"}],
    "model": {"architecture": "autoencoder"},
}


def told(job: dict[str, Any], *alarms: dict[str, Any]) -> list[str]:
    """What is wrong with a job with these alarms, each with its remedy."""
    whole = {**job, "alarms": [{"name": f"alarm{n}", **a} for n, a in enumerate(alarms)]}
    return [f"{each.message} ({each.remedy})" for each in faults(msgspec.convert(whole, Job))]


class TestAlarmFaults:
    @pytest.mark.parametrize(
        ("job", "alarm"),
        [
            (CLASSES, {"classes": ["worn", "broken"], "least_confidence": 0.9}),
            (NUMBER, {"below": 48.0, "clear": 60.0}),
            (NUMBER, {"below": 48.0, "clear": 48.0}),
            (NUMBER, {"above": 0.0, "clear": -1.0, "windows": 1, "severity": "critical"}),
            (NUMBER, {"above": 10.0, "below": 2.0}),
            (NOVELTY, {"above": 4.0, "clear": 2.0}),
        ],
    )
    def test_what_fits_together(self, job: dict[str, Any], alarm: dict[str, Any]) -> None:
        """Classes of a classification; numbers of everything else."""
        assert told(job, alarm) == []

    @pytest.mark.parametrize(
        ("job", "alarm", "message"),
        [
            (CLASSES, {}, r"alarms\[0\].classes is \[\]: no class raises it .*good, worn, broken"),
            (CLASSES, {"classes": ["wron"]}, r'classes\[0\] is "wron".*did you mean worn'),
            (CLASSES, {"classes": ["xyz"]}, r"no such class \(write one of good, worn, broken"),
            (CLASSES, {"classes": ["worn", "worn"]}, r"classes\[1\] .* listed twice"),
            (CLASSES, {"classes": ["worn"], "above": 1.0}, "above is 1.0: a classification"),
            (CLASSES, {"classes": ["worn"], "below": 1.0}, "below is 1.0: a classification"),
            (CLASSES, {"classes": ["worn"], "clear": 1.0}, "clear is 1.0: a classification"),
            (NUMBER, {}, r'alarms\[0\].name is "alarm0": no number raises it'),
            (NOVELTY, {}, "no number raises it"),
            (NUMBER, {"classes": ["worn"]}, "a regression has no classes"),
            (NOVELTY, {"classes": ["worn"]}, "a reconstruction has no classes"),
            (NUMBER, {"above": 1.0, "least_confidence": 0.5}, "only a class has a probability"),
            (NUMBER, {"above": 1.0, "clear": 1.5}, "clear is 1.5: it lies above 1.0"),
            (NUMBER, {"below": 1.0, "clear": 0.5}, "clear is 0.5: it lies below 1.0"),
            (NUMBER, {"above": 9.0, "below": 1.0, "clear": 5.0}, "make two alarms of it"),
            (NUMBER, {"above": 1.0, "below": 9.0}, "below = 9.0 every number raises it"),
            (NUMBER, {"above": 1.0, "below": 1.0}, "below = 1.0 every number raises it"),
            (NUMBER, {"name": "hot\n", "above": 1.0}, "it ends in a line break"),
        ],
    )
    def test_what_does_not(self, job: dict[str, Any], alarm: dict[str, Any], message: str) -> None:
        """The field, its value, and what to write instead."""
        [one] = told(job, alarm)
        assert re.search(message, one), one

    def test_names_differ(self) -> None:
        """What is told is known by its name."""
        [one] = told(NUMBER, {"name": "low", "below": 1.0}, {"name": "low", "below": 2.0})
        assert one.startswith('alarms[1].name is "low": alarms[0] has the same name')

    def test_the_line_is_named(self) -> None:
        """As of every fault in a job file."""
        text = """
[job]
name = "life"
task = "regression"
[[signals]]
name = "a"
[[alarms]]
name = "short"
below = 10.0
clear = 5.0
"""
        with pytest.raises(JobError, match=r"life.toml:10: alarms\[0\].clear is 5.0"):
            decode_job(text, "life.toml")


class TestOldSoftware:
    ALARM = Alarm(name="worn", classes=["ball"], windows=5)

    def test_a_job_without_alarms_is_the_job_it_was(self) -> None:
        """With the hash that it had."""
        assert "alarms" not in json.loads(canonical(smallest()))

    def test_one_with_alarms_is_refused(self) -> None:
        """An agent that would raise none says that it cannot take part."""
        job = msgspec.structs.replace(smallest(), alarms=[self.ALARM])
        assert job_from_canonical(canonical(job)) == job
        with pytest.raises(msgspec.ValidationError, match="unknown field `alarms`"):
            msgspec.json.decode(canonical(job), type=OldJob)
