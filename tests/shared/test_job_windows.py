# SPDX-License-Identifier: Apache-2.0
"""Where windows begin: what does not go together is refused."""

import pytest

from fedmill_shared.errors import JobError
from fedmill_shared.job import Job
from fedmill_shared.job_check import decode_job
from fedmill_shared.schema import schema_hash

START = """\
[job]
name = "press"
[[signals]]
name = "force"
unit = "kN"
rate_hz = 1000.0
[[signals]]
name = "ram"
unit = "mm"
rate_hz = 1000.0
[labels]
classes = ["good", "burr"]
[window]
length = 100
"""
TRIGGER = 'trigger = "ram"\ntrigger_level = 5.0\n'

BROKEN = {
    'trigger = "slide"': (
        'window.trigger is "slide": the job has no such signal (write one of force, ram)'
    ),
    "trigger_level = 5.0": (
        "window.trigger_level is 5.0: no signal triggers windows (name one as window.trigger, or "
        "remove it)"
    ),
    f"{TRIGGER}stride = 50": (
        "window.stride is 50: windows begin where window.trigger says, not at a stride (remove one "
        "of the two)"
    ),
    f'{TRIGGER}pad = "edge"': (
        'window.pad is "edge": the first sample of a run is repeated for windows at a stride only '
        '(write pad = "none", or remove window.trigger)'
    ),
    f"{TRIGGER}trigger_before = 100": (
        "window.trigger_before is 100: a window has 100 samples, and the one that crosses is among "
        "them (write less, or make window.length longer)"
    ),
}


def job(text: str) -> Job:
    """The start of a job with this at the end of ``[window]``."""
    return decode_job(START + text, "press.toml")


class TestTrigger:
    @pytest.mark.parametrize(("text", "message"), BROKEN.items())
    def test_refused(self, text: str, message: str) -> None:
        """Each with its reason and what to write instead."""
        with pytest.raises(JobError) as caught:
            job(text)
        assert str(caught.value).partition(": ")[2] == message

    def test_is_part_of_what_a_window_is(self) -> None:
        """Windows that begin elsewhere look otherwise."""
        texts = ("", TRIGGER, TRIGGER.replace("5.0", "6.0"), f"{TRIGGER}trigger_before = 10")
        assert len({schema_hash(job(text)) for text in texts}) == 4
