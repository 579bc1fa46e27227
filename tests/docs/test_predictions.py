# SPDX-License-Identifier: Apache-2.0
"""The files and the record of ``docs/predictions.md`` are what they say they are."""

import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from fedmill_agent.alarms.record import AlarmRecord
from fedmill_agent.explaining.explainer import MOST_ROWS
from fedmill_agent.explaining.parts import LEAST_RATE_HZ
from fedmill_agent.store.portions import WINDOWS
from fedmill_agent.uncertainty.calibration import COVERAGE
from fedmill_agent.uncertainty.certainty import MOST_WINDOWS
from fedmill_agent.uncertainty.temperature import LEAST_WINDOWS
from fedmill_shared.job_check import decode_job

PAGE = "docs/predictions.md"


@pytest.mark.parametrize("name", ["bearing.toml", "tool.toml"])
def test_jobs_can_be_used(files: Callable[[str], dict[str, str]], name: str) -> None:
    """Each is a whole job file with an alarm."""
    job = decode_job(files(PAGE)[name], name)
    assert len(job.alarms) == 1


def test_the_record_is_one(root: Path) -> None:
    """Nothing in it is made up, and nothing is left out that is told."""
    [text] = re.findall(r"```json\n(.*?)```", (root / PAGE).read_text(), re.DOTALL)
    record = msgspec.json.decode(text, type=AlarmRecord)
    assert msgspec.json.decode(msgspec.json.encode(record)) == msgspec.json.decode(text)


def test_figures_are_those_of_the_code(root: Path) -> None:
    """As the page names them."""
    page = " ".join((root / PAGE).read_text().split())
    for told in (
        f"It takes {LEAST_WINDOWS} labelled validation windows",
        f"at most {MOST_WINDOWS:,} windows, evenly over all",
        f"one portion of {WINDOWS} windows",
        f"in {100 * COVERAGE:.0f} % of all windows",
        f"scores at most {MOST_ROWS} windows",
        f"sampled at {LEAST_RATE_HZ:.0f} Hz or more",
    ):
        assert told in page, told
