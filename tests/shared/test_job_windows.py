# SPDX-License-Identifier: Apache-2.0
"""Where windows begin: what does not go together is refused."""

import pytest

from fedmill_shared.errors import JobError
from fedmill_shared.job import Job
from fedmill_shared.job_check import decode_job
from fedmill_shared.models import build
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
[[signals]]
name = "shaft"
unit = "rpm"
rate_hz = 10.0
range = [0, 3000]
[labels]
classes = ["good", "burr"]
[window]
length = 100
"""
TRIGGER = 'trigger = "ram"\ntrigger_level = 5.0\n'

BROKEN = {
    'trigger = "slide"': (
        'window.trigger is "slide": the job has no such signal (write one of force, ram, shaft)'
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
SHAFT = 'trigger = "shaft"\n'

BROKEN |= {
    f"{SHAFT}trigger_level = 3001.0": (
        "window.trigger_level is 3001.0: shaft is between 0 and 3000 (write another, or a wider "
        "range)"
    ),
    SHAFT: (
        "window.trigger_level is 0.0: shaft must have been below 0, and is between 0 and 3000 "
        "(write another, or a wider range)"
    ),
    f'{SHAFT}trigger_level = 2990.0\ntrigger_edge = "falling"\ntrigger_hysteresis = 10.0': (
        "window.trigger_hysteresis is 10.0: shaft must have been above 3000, and is between 0 and "
        "3000 (write another, or a wider range)"
    ),
}
ORDER = 'order = "shaft"\nrevolutions = 4\nper_revolution = 32\n'

BROKEN_ORDER = {
    'order = "spindle"': (
        'window.order is "spindle": the job has no such signal (write one of force, ram, shaft)'
    ),
    'order = "ram"': (
        'window.order is "ram": signal ram is in mm, and no speed of a shaft (write its unit: rpm, '
        "Hz or rad/s)"
    ),
    "revolutions = 4": (
        "window.revolutions is 4: windows stay in time (name the signal of the speed as "
        "window.order, or remove it)"
    ),
    'order = "shaft"\nrevolutions = 65536\nper_revolution = 32': (
        "window.revolutions is 65536: with per_revolution = 32 a window is too long (let both "
        "together make at most 1048576 values)"
    ),
    'order = "shaft"\nrevolutions = 6': (
        "window.revolutions is 6: at the highest speed in the range of shaft a window has 5 (write "
        "fewer, or make window.length longer)"
    ),
    'order = "shaft"\nrevolutions = 1\nper_revolution = 2\nlength = 2001': (
        "window.per_revolution is 2: a window of 2001 samples becomes 2 values (let one value "
        "stand for at most 1000 samples)"
    ),
    f'{ORDER}[model]\narchitecture = "wdcnn"\nkernel = 129\nstride = 129': (
        "model.kernel is 129: it does not fit a window of 128 samples (shorten the kernel or "
        "lengthen the window)"
    ),
}


def job(text: str) -> Job:
    """The start of a job with this at the end of ``[window]``."""
    start = START.replace("length = 100\n", "") if "length" in text else START
    return decode_job(start + text, "press.toml")


class TestTrigger:
    @pytest.mark.parametrize(("text", "message"), BROKEN.items())
    def test_refused(self, text: str, message: str) -> None:
        """Each with its reason and what to write instead."""
        with pytest.raises(JobError) as caught:
            job(text)
        assert str(caught.value).partition(": ")[2] == message

    def test_is_part_of_what_a_window_is(self) -> None:
        """Windows that begin elsewhere look otherwise."""
        assert job(f"{SHAFT}trigger_level = 1.0\ntrigger_hysteresis = 0.5").window.trigger
        texts = ("", TRIGGER, TRIGGER.replace("5.0", "6.0"), f"{TRIGGER}trigger_before = 10")
        assert len({schema_hash(job(text)) for text in texts}) == 4


class TestOrder:
    @pytest.mark.parametrize(("text", "message"), BROKEN_ORDER.items())
    def test_refused(self, text: str, message: str) -> None:
        """Each with its reason and what to write instead."""
        with pytest.raises(JobError) as caught:
            job(text)
        assert str(caught.value).partition(": ")[2] == message

    def test_what_the_model_gets(self) -> None:
        """So many values for each revolution, however many samples they were."""
        made = job(ORDER)
        assert (made.window.length, made.input_length, len(made.channels)) == (100, 128, 3)
        model = build(made, 0)
        assert model.backbone[0].in_features == 3 * 128
        assert len({schema_hash(job(text)) for text in ("", ORDER, ORDER.replace("32", "16"))}) == 3

    def test_features_of_orders(self) -> None:
        """Their names tell orders, and bands end at half of the values for a revolution."""
        made = job(f'{ORDER}[features]\nsteps = ["log_spectrum"]\nbands = 2')
        assert [channel.name for channel in made.channels[:2]] == [
            "force.spectrum_0-8_orders",
            "force.spectrum_8-16_orders",
        ]

    def test_the_slower_speed_is_enough(self) -> None:
        """It is held between its values; the rate is that of the fastest signal."""
        assert job(ORDER).rate_hz == 1000.0
