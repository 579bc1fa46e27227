# SPDX-License-Identifier: Apache-2.0
"""The files of ``docs/sources.md``, used as they stand on the page."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fedmill_agent.cli import main
from fedmill_agent.config import load
from fedmill_agent.cutter import cutter_for
from fedmill_shared.job_check import load_job

PAGE = "docs/sources.md"


@pytest.fixture
def place(files: Callable[[str], dict[str, str]], tmp_path: Path) -> Path:
    """A folder with the files on the page."""
    for name, text in files(PAGE).items():
        (tmp_path / name).write_text(text)
    return tmp_path


class TestHost:
    def test_the_job_fits_the_source(self, place: Path) -> None:
        """Signals, tags and units of the forecast are those of the machine."""
        config, job = load(place / "host.toml"), load_job(place / "load-forecast.toml")
        assert cutter_for(job, config.sources[0]).tags[0] == "cpu_percent"

    def test_the_command_accepts_it(
        self, place: Path, root: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The machine that runs the test is read for some seconds."""
        page = (root / PAGE).read_text()
        (line,) = re.findall(r"^fedmill-agent (check host.*)$", page, re.MULTILINE)
        words = [str(place / word) if word.endswith(".toml") else word for word in line.split()]
        assert main(words) == 0
        shown = capsys.readouterr().out
        assert re.search(r"cpu +tag cpu_percent", shown)
        assert "wrong:" not in shown
