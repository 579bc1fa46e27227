# SPDX-License-Identifier: Apache-2.0
"""What a job may ask to be done with labels between rounds."""

import pytest
from tests.shared.test_job_reconstruction import TEXT

from fedmill_shared.errors import JobError
from fedmill_shared.job_check import canonical, decode_job, job_from_canonical
from fedmill_shared.job_reference import SMALLEST_JOB


def with_feedback(lines: str, *, text: str = SMALLEST_JOB) -> str:
    """A job with a section ``[feedback]``."""
    return f"{text}\n[feedback]\n{lines}\n"


REGRESSION = """\
[job]
name = "wear"
task = "regression"

[[signals]]
name = "force"
unit = "kN"
rate_hz = 100.0

[labels]
unit = "h"
"""


class TestDefaults:
    def test_nothing_is_fitted(self) -> None:
        """It is off unless a job asks for it, and such a job is the one that old agents know."""
        job = decode_job(SMALLEST_JOB, "job.toml")
        assert job.feedback.method == "off"
        assert b'"feedback"' not in canonical(job)

    @pytest.mark.parametrize("method", ["ridge", "prototypes"])
    def test_a_method_is_told_whole(self, method: str) -> None:
        """It travels to the agents."""
        job = decode_job(with_feedback(f'method = "{method}"\nstrength = 3'), "job.toml")
        assert job_from_canonical(canonical(job)).feedback == job.feedback

    def test_a_number_is_fitted_by_ridge(self) -> None:
        """By least squares."""
        text = with_feedback('method = "ridge"\nforgetting = 0.98', text=REGRESSION)
        assert decode_job(text, "job.toml").feedback.forgetting == 0.98


class TestFaults:
    @pytest.mark.parametrize(
        ("lines", "told"),
        [
            ("strength = 2.0", "feedback.strength.*nothing is fitted"),
            ("min_labels = 50", "feedback.min_labels.*nothing is fitted"),
            ('method = "off"\nevery_labels = 7', "feedback.every_labels.*nothing is fitted"),
            ('method = "online"', "online"),
            ('method = "ridge"\nforgetting = 0.4', "forgetting"),
            ('method = "ridge"\nstrength = 0', "strength"),
            ('method = "ridge"\nmin_labels = 0', "min_labels"),
        ],
    )
    def test_what_cannot_be_is_told(self, lines: str, told: str) -> None:
        """With the field and what to write."""
        with pytest.raises(JobError, match=f"(?s){told}"):
            decode_job(with_feedback(lines), "job.toml")

    def test_numbers_have_no_prototypes(self) -> None:
        """Only classes have."""
        with pytest.raises(JobError, match="only classes have prototypes"):
            decode_job(with_feedback('method = "prototypes"', text=REGRESSION), "job.toml")

    @pytest.mark.parametrize(
        ("more", "told"),
        [
            ('[learning]\npersonal = "head"', "the head stays on the agent"),
            ('[learning]\npersonal = "norm"\n[model]\nnorm = "batch"', "of their own"),
            ('[serving]\ncandidates = "best"\n[evaluation]\nvalidation = 0.2', "of their own"),
        ],
    )
    def test_agents_with_a_model_of_their_own(self, more: str, told: str) -> None:
        """What labels move is the common model."""
        text = SMALLEST_JOB
        if "[model]" in more:
            more = more.replace("[model]\n", "")
            text = text.replace('"wdcnn"', '"wdcnn"\nnorm = "batch"').strip()
            more = more.replace('norm = "batch"', "")
        with pytest.raises(JobError, match=f"(?s){told}"):
            decode_job(with_feedback('method = "ridge"', text=f"{text}\n{more}\n"), "job.toml")

    def test_a_reconstruction_has_no_labels(self) -> None:
        """Nobody says what is right."""
        with pytest.raises(JobError, match="learns from no labels"):
            decode_job(with_feedback('method = "ridge"', text=TEXT), "job.toml")
