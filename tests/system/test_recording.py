# SPDX-License-Identifier: Apache-2.0
"""A real agent records a live source while its configuration changes and its source reconnects."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fedmill_agent.places import samples_file
from fedmill_agent.store.samples_reader import SampleReader

pytestmark = pytest.mark.system

CHANGES = 100
ROWS = 20
PATIENCE = 60.0
SECOND = 10**9
FIRST = 1_700_000_000
"""Time of the first row, s since 1970."""


class Agent:
    """A daemon that reads a file that grows; no broker answers it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file, self.log = folder, folder / "line.csv", folder / "log"
        self.file.write_text("time,heat\n")
        self.rows = 0
        self.configure(0)
        with self.log.open("wb") as log:
            command = [sys.executable, "-m", "fedmill_agent", "run", str(folder / "agent.toml")]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def configure(self, number: int) -> None:
        """One bound of the rings for each ``number``, or one connection."""
        bytes_, wait = 200_000_000 + number // 2, 1 + (number + 1) // 2 * 0.001
        text = f"""
            [agent]
            id = "a"
            state = "{self.folder / "state"}"
            [broker]
            host = "127.0.0.1"
            port = 1
            [store]
            samples_max_bytes = {bytes_}
            [[sources]]
            name = "line"
            kind = "tail"
            path = "{self.file}"
            start = "beginning"
            time_column = "time"
            interval_seconds = 0.01
            wait_seconds = {wait}
            tags = {{ heat = "heat" }}
        """
        (self.folder / "agent.toml").write_text(text)

    def grow(self) -> None:
        """More rows, a second apart."""
        with self.file.open("a") as file:
            for n in range(self.rows, self.rows + ROWS):
                file.write(f"{FIRST + n},{n}\n")
        self.rows += ROWS

    def heard(self, event: str) -> int:
        """How often something is in the log."""
        return len(re.findall(rf"event={event}\b", self.log.read_text()))

    def reload(self, number: int) -> None:
        """Have the daemon take the configuration ``number``."""
        before = self.heard("config.reloaded")
        self.configure(number)
        os.kill(self.process.pid, signal.SIGHUP)
        self.wait(lambda: self.heard("config.reloaded") > before)

    def wait(self, done: Callable[[], bool]) -> None:
        """Wait until ``done``."""
        deadline = time.monotonic() + PATIENCE
        while not done():
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < deadline, self.log.read_text()[-2000:]
            time.sleep(0.01)

    def recorded(self) -> list[tuple[int, float]]:
        """Time and value of all that is good, in the order of time."""
        path = samples_file(str(self.folder / "state"), "line")
        with SampleReader(path) as reader:
            return [
                (time_ns, value)
                for each in reader.read()
                for time_ns, value, quality in zip(
                    each.times_ns.tolist(),
                    each.values.tolist(),
                    each.quality.tolist(),
                    strict=True,
                )
                if quality == 192
            ]


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    """A daemon that has ended when the test has."""
    made = Agent(tmp_path)
    yield made
    made.process.terminate()
    made.process.wait(PATIENCE)


def test_a_hundred_changes_lose_nothing(agent: Agent) -> None:
    """Every second opens the rings anew, every other connects anew; each row is there once."""
    agent.wait(lambda: agent.heard("source.running") == 0 and agent.heard("agent.started") == 1)
    for number in range(1, CHANGES + 1):
        agent.grow()
        agent.reload(number)
    agent.grow()
    agent.wait(lambda: len(agent.recorded()) >= agent.rows)
    assert agent.recorded() == [((FIRST + n) * SECOND, n) for n in range(agent.rows)]
    assert agent.heard("samples.unrecorded") == 0
    agent.process.terminate()
    assert agent.process.wait(PATIENCE) == 0
