# SPDX-License-Identifier: Apache-2.0
"""What a job may ask to be done about drift, and what it is told where that cannot be."""

import pytest
from tests.shared.test_job_reconstruction import TEXT

from fedmill_shared.errors import JobError
from fedmill_shared.job_check import canonical, decode_job, job_from_canonical
from fedmill_shared.job_reference import SMALLEST_JOB


def with_drift(lines: str, *, more: str = "") -> str:
    """The smallest job with a section ``[drift]``."""
    return f"{SMALLEST_JOB}{more}\n[drift]\n{lines}\n"


class TestDefaults:
    def test_nothing_is_watched(self) -> None:
        """Drift is off unless a job asks for it, and such a job is the one that old agents know."""
        job = decode_job(SMALLEST_JOB, "job.toml")
        assert job.drift.watch == []
        assert b"drift" not in canonical(job)

    def test_a_watched_job_is_told_whole(self) -> None:
        """What is watched and done travels to the agents."""
        job = decode_job(with_drift('watch = ["input"]\non_alarm = ["recalibrate"]'), "job.toml")
        assert job_from_canonical(canonical(job)).drift == job.drift
        assert job.drift.run_length > job.drift.warn_run_length


class TestFaults:
    @pytest.mark.parametrize(
        ("lines", "told"),
        [
            ('watch = ["input", "input"]', "drift.watch.*twice"),
            ('on_alarm = ["round", "round"]', "drift.on_alarm.*twice"),
            ('on_warning = ["collect", "collect"]', "drift.on_warning.*twice"),
            ("run_length = 1000", "warnings would be rarer than alarms"),
            ("warn_run_length = 20000", "warnings would be rarer than alarms"),
            ("block_windows = 300", "less than two blocks of 300"),
            ('on_alarm = ["personal"]', "no model of their own"),
            ('watch = ["output"]\non_alarm = ["recalibrate"]', "what comes in is not watched"),
            ('on_alarm = ["shout"]', "shout"),
            ("run_length = 10", "run_length"),
        ],
    )
    def test_what_cannot_be_is_told(self, lines: str, told: str) -> None:
        """With the field and what to write."""
        with pytest.raises(JobError, match=f"(?s){told}"):
            decode_job(with_drift(lines), "job.toml")

    def test_no_recalibration_without_standardisation(self) -> None:
        """There is nothing that it could change."""
        text = with_drift('on_alarm = ["recalibrate"]').replace(
            "length = 2048", 'length = 2048\nnormalise = "none"'
        )
        with pytest.raises(JobError, match="nothing to recalibrate"):
            decode_job(text, "job.toml")

    def test_personal_needs_a_model_that_the_agent_tunes(self) -> None:
        """Ditto makes one."""
        text = with_drift('on_alarm = ["personal"]', more="\n[learning]\nditto = 0.1\n")
        assert decode_job(text, "job.toml").drift.on_alarm == ["personal"]

    def test_a_reconstruction_has_no_residual(self) -> None:
        """No label ever says how wrong it was."""
        text = f'{TEXT}\n[drift]\nwatch = ["output", "residual"]\n'
        with pytest.raises(JobError, match="no truth that could come"):
            decode_job(text, "job.toml")
        assert decode_job(text.replace(', "residual"', ""), "job.toml").drift.watch == ["output"]
