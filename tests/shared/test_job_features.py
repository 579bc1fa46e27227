# SPDX-License-Identifier: Apache-2.0
"""The section ``[features]``: what it makes of a job, and what does not go together."""

from typing import Any

import msgspec
import pytest

from fedmill_shared.errors import JobError
from fedmill_shared.job import Job
from fedmill_shared.job_check import canonical, decode_job
from fedmill_shared.models import build
from fedmill_shared.models.spec import spec_of
from fedmill_shared.schema import schema_hash

START = """\
[job]
name = "rig"
[[signals]]
name = "vibration"
unit = "g"
rate_hz = 1000.0
[[signals]]
name = "load"
rate_hz = 1000.0
role = "regime"
[window]
length = 100
normalise = "regime"
[labels]
classes = ["good", "bad"]
[features]
"""
ALL = 'steps = ["time_statistics", "log_spectrum", "envelope_spectrum"]\nenvelope_bands = 4\n'

BROKEN = {
    'steps = ["log_spectrum"]\nbands = 51': (
        "features.bands is 51: there are 50 frequencies in windows of 100 (write at most as many "
        "bands, or make the windows longer)"
    ),
    'steps = ["log_spectrum", "time_statistics", "log_spectrum"]': (
        'features.steps[2] is "log_spectrum": the step is listed twice (remove one)'
    ),
    'steps = ["time_statistics"]\nbands = 8': (
        "features.bands is 8: it is for the step log_spectrum, which is not taken (add "
        '"log_spectrum" to features.steps, or remove it)'
    ),
    "envelope_top = 100.0": (
        "features.envelope_top is 100.0: it is for the step envelope_spectrum, which is not taken "
        '(add "envelope_spectrum" to features.steps, or remove it)'
    ),
    f"{ALL}envelope_band = [200]": (
        "features.envelope_band is [200.0]: one number is no band (write [lowest, highest] in Hz, "
        "or remove it)"
    ),
    f"{ALL}envelope_band = [200, 501]": (
        "features.envelope_band is [200.0, 501.0]: both lie between 0 and 500, half the rate, the "
        "lowest first (write [lowest, highest] in Hz, or remove it)"
    ),
    f"{ALL}envelope_band = [202, 208]": (
        "features.envelope_band is [202.0, 208.0]: frequencies in such windows are 10 apart "
        "(make it wider, or the windows longer)"
    ),
    f"{ALL}envelope_top = 501.0": (
        "features.envelope_top is 501.0: the highest frequency of a window is 500 (write less)"
    ),
    f"{ALL}envelope_top = 30.0": (
        "features.envelope_top is 30.0: there are 3 frequencies up to it, 10 apart, for 4 bands "
        "(write more, fewer envelope_bands, or make the windows longer)"
    ),
    'steps = ["envelope_spectrum"]\nenvelope_bands = 7': (
        "features.envelope_bands is 7: there are 6 frequencies in windows of 100 (write at most as "
        "many bands, or make the windows longer)"
    ),
    f'{ALL}[model]\narchitecture = "gru"': (
        'features.steps is ["time_statistics", "log_spectrum", "envelope_spectrum"]: a gru looks '
        'for patterns in time, and features have none (write architecture = "mlp" below [model], '
        "or remove them)"
    ),
}


def job(text: str) -> Job:
    """The start of a job with this ``[features]``."""
    return decode_job(START + text, "rig.toml")


class TestShape:
    def test_rows_of_the_model(self) -> None:
        """Eight statistics, sixteen bands and four of the envelope; the regime stands behind."""
        made = job(ALL)
        assert len(made.channels) == 8 + 16 + 4 + 1
        assert (made.inputs, made.regimes) == ([*range(28)], [28])
        assert (made.input_length, made.resolution) == (1, [1.0])
        spec = spec_of(made, regimes=2)
        assert (spec.signals, spec.length, spec.regime_signals) == (29, 1, (28,))
        assert build(made, 0, regimes=2).backbone[0].in_features == 28

    def test_without_them(self) -> None:
        """The model gets the signals themselves, as ever."""
        made = job("")
        assert [channel.name for channel in made.channels] == ["vibration", "load"]
        assert (made.inputs, made.regimes, made.input_length) == ([0], [1], 100)

    def test_the_whole_range_is_a_band(self) -> None:
        """Edges that are exactly 0 and half the rate are fine."""
        assert job(f"{ALL}envelope_band = [0, 500]\nenvelope_top = 500.0").input_length == 1


class TestHash:
    def test_a_job_without_features_is_what_it_was(self) -> None:
        """The section is left out, so older software takes part."""
        assert "features" not in msgspec.json.decode(canonical(job("")))

    @pytest.mark.parametrize(
        "text",
        [
            'steps = ["log_spectrum"]',
            'steps = ["time_statistics"]',
            'steps = ["time_statistics", "log_spectrum"]',
            'steps = ["log_spectrum"]\nbands = 15',
            'steps = ["envelope_spectrum"]\nenvelope_bands = 4',
            'steps = ["envelope_spectrum"]\nenvelope_bands = 4\nenvelope_band = [100, 200]',
            'steps = ["envelope_spectrum"]\nenvelope_bands = 4\nenvelope_top = 200.0',
        ],
    )
    def test_every_setting_counts(self, text: str) -> None:
        """A model that learned from other features is of no use, and old windows neither."""
        plain = 'steps = ["log_spectrum", "time_statistics"]'
        assert len({schema_hash(job(each)) for each in ("", plain, text)}) == 3


class TestFaults:
    @pytest.mark.parametrize(("text", "message"), BROKEN.items())
    def test_refused(self, text: str, message: str) -> None:
        """Each with its reason and what to write instead."""
        with pytest.raises(JobError) as caught:
            job(text)
        assert str(caught.value).partition(": ")[2] == message

    def test_more_rows_than_statistics_may_have(self) -> None:
        """Nine signals with 24 features and more are too many for one message of moments."""
        plain: dict[str, Any] = msgspec.to_builtins(job(ALL))
        plain["signals"] += [{"name": f"s{i}", "rate_hz": 1000.0} for i in range(9)]
        from fedmill_shared.job.shaping import shaping_faults

        [fault] = shaping_faults(msgspec.convert(plain, Job))
        assert "they make 281 rows of 11 signals, and a model takes at most 256" in fault.message
