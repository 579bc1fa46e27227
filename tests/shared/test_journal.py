# SPDX-License-Identifier: Apache-2.0
"""Lines for journald, and a storm of them."""

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from structlog import DropEvent

from fedmill_shared.journal import BURST, INTERVAL_SECONDS, Calm, Grave, goes_to_journal


def named(path: Path) -> str:
    """A file as ``JOURNAL_STREAM`` names it."""
    found = path.stat()
    return f"{found.st_dev}:{found.st_ino}"


class TestWhere:
    def test_our_own_stream(self, tmp_path: Path) -> None:
        """Device and inode are those of the stream, and not of one that it was before."""
        (tmp_path / "other").touch()
        with (tmp_path / "log").open("w") as stream:
            assert goes_to_journal(stream, {"JOURNAL_STREAM": named(tmp_path / "log")})
            assert not goes_to_journal(stream, {"JOURNAL_STREAM": named(tmp_path / "other")})
            assert not goes_to_journal(stream, {})
        assert not goes_to_journal(stream, {"JOURNAL_STREAM": "1:2"})
        assert not goes_to_journal(io.StringIO(), {"JOURNAL_STREAM": "1:2"})

    @pytest.mark.parametrize("to_journal", [True, False])
    def test_of_a_real_process(self, tmp_path: Path, *, to_journal: bool) -> None:
        """Priorities stand before its lines only where journald reads them."""
        code = (
            "from fedmill_shared import log\nlog.configure()\nlogger = log.get_logger()\n"
            "logger.info('a.b', n=1)\nlogger.warning('a.c')\nlogger.error('a.d', text='x\\ny')"
        )
        path = tmp_path / "log"
        with path.open("w") as stream:
            environment = dict(os.environ)
            environment.pop("JOURNAL_STREAM", None)
            if to_journal:
                environment["JOURNAL_STREAM"] = named(path)
            subprocess.run([sys.executable, "-c", code], stderr=stream, env=environment, check=True)
        lines = path.read_text().splitlines()
        begins = ["<6>", "<4>", "<3>"] if to_journal else ["", "", ""]
        assert len(lines) == 3
        for line, begin in zip(lines, begins, strict=True):
            assert line.startswith(f"{begin}timestamp=")


class TestGrave:
    @pytest.mark.parametrize(
        ("event", "priority"),
        [({"level": "debug"}, 7), ({"level": "error"}, 3), ({}, 6), ({"level": "odd"}, 6)],
    )
    def test_each_level_has_its_priority(self, event: dict[str, Any], priority: int) -> None:
        """As sd-daemon(3) has them; what is unknown is information."""
        assert Grave(lambda *_: "x=1")(None, "info", event) == f"<{priority}>x=1"


class Storm:
    """Events one after the other, on a clock of the test's own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calm = Calm(lambda: self.now)

    def say(self, times: int, level: str = "error", event: str = "a.b") -> list[dict[str, Any]]:
        """What gets through of so many."""
        found = []
        for _ in range(times):
            try:
                found.append(dict(self.calm(None, level, {"event": event, "level": level})))
            except DropEvent:
                continue
        return found


class TestCalm:
    def test_a_storm_is_counted(self) -> None:
        """The last line says that there are more, the first one after it how many there were."""
        storm = Storm()
        heard = storm.say(BURST + 1000)
        assert len(heard) == BURST
        assert heard[-1]["more_left_out"] == f"for {INTERVAL_SECONDS:.0f} s"
        assert "more_left_out" not in heard[-2]
        storm.now += INTERVAL_SECONDS + 1
        [line] = storm.say(1)
        assert line["left_out"] == 1000
        [line] = storm.say(1)
        assert "left_out" not in line

    def test_others_are_heard_meanwhile(self) -> None:
        """Each name has its own measure."""
        storm = Storm()
        storm.say(BURST + 1)
        assert len(storm.say(1, event="a.c")) == 1

    def test_what_is_no_trouble_is_never_left_out(self) -> None:
        """A fleet of a thousand agents comes online at once."""
        storm = Storm()
        assert len(storm.say(10 * BURST, level="info")) == 10 * BURST

    def test_a_steady_drip_gets_through(self) -> None:
        """Once a second is no storm."""
        storm = Storm()
        heard = 0
        for _ in range(600):
            storm.now += 1.0
            heard += len(storm.say(1))
        assert heard == 600
