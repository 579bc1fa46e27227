# SPDX-License-Identifier: Apache-2.0
"""The files of ``docs/sources.md``, used as they stand on the page."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fedmill_agent.cli import main
from fedmill_agent.config import load
from fedmill_agent.cutter import cutter_for
from fedmill_agent.sources.modbus import ModbusOptions
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


class TestModbus:
    def test_the_example_declares_what_it_says(self, place: Path) -> None:
        """Both notations mean the same place, and the block has what counts it."""
        (source,) = load(place / "modbus.toml").sources
        assert isinstance(source, ModbusOptions)
        found = source.declared
        assert str(found["temperature"]) == "holding 100 float32 CDAB"
        assert str(found["pressure"]) == "holding 106 int16 AB"
        assert found["pressure"].not_a_number == (0x8000,)
        assert (str(found["force"]), found["force"].device) == ("input 20 int32 ABCD", 2)
        assert (str(found["door_open"]), found["door_open"].bit) == ("holding 110.3 uint16 AB", 3)
        assert found["vibration"].count == 1000
        assert str(found["vibration"].sequence) == "input 199 uint16 AB"
