# SPDX-License-Identifier: Apache-2.0
"""The files and commands of ``docs/getting-started.md``, used as they stand on the page."""

import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

import pytest
from msgspec import json

from fedmill_coordinator.demo.broker import broker, free_port

PAGE = "docs/getting-started.md"
PROGRAMS = {"fedmill": "fedmill_coordinator", "fedmill-agent": "fedmill_agent"}
SECONDS = 120.0


@pytest.fixture
def place(files: Callable[[str], dict[str, str]], tmp_path: Path) -> Path:
    """A folder with the files on the page."""
    for name, text in files(PAGE).items():
        (tmp_path / name).write_text(text)
    return tmp_path


def commands(root: Path, *, rehearsal: bool = False) -> list[list[str]]:
    """Command lines of ours on the page, those of the simulated machine or all others."""
    text = (root / PAGE).read_text()
    part = text.partition("\n## Machines before there are any\n")[2 if rehearsal else 0]
    blocks = re.findall(r"^```sh\n(.*?)^```$", part, re.DOTALL | re.MULTILINE)
    lines = [shlex.split(line) for block in blocks for line in block.splitlines()]
    return [line for line in lines if line[0] in PROGRAMS]


def program(line: list[str]) -> list[str]:
    """Run ``line`` with this interpreter."""
    return [sys.executable, "-m", PROGRAMS[line[0]], *line[1:]]


def output_of(line: list[str], folder: Path) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(
        program(line), cwd=folder, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert done.returncode == 0, f"{shlex.join(line)}: {done.stderr}"
    return done.stdout


@contextmanager
def running(lines: list[list[str]], folder: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Daemons that are asked to end, and do so with exit code 0."""
    logs = [(folder / f"{line[0]}-{i}.log").open("wb") for i, line in enumerate(lines)]
    children = [
        subprocess.Popen(program(line), cwd=folder, stderr=log, stdin=subprocess.DEVNULL)
        for line, log in zip(lines, logs, strict=True)
    ]
    try:
        yield children
        for child in children:
            child.send_signal(signal.SIGINT)
        assert [child.wait(30) for child in children] == [0] * len(children)
    finally:
        for child, log in zip(children, logs, strict=True):
            child.kill()
            child.wait()
            log.close()


def until_finished(folder: Path, children: list[subprocess.Popen[bytes]]) -> None:
    """Wait until the job has ended, as long as everybody lives, and the listing says so."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and all(child.poll() is None for child in children):
        # looked for in the log, because a command for each look costs more than the job
        if any("event=job.finished" in path.read_text() for path in folder.glob("*.log")):
            (job,) = json.decode(
                output_of(["fedmill", "jobs", "coordinator.toml", "--json"], folder)
            )
            assert job["state"] == "finished"
            return
        time.sleep(0.1)
    pytest.fail("\n".join(path.read_text() for path in folder.glob("*.log")))


def undocumented(state: Path, page: Path) -> list[str]:
    """Files in a state folder that the page's table of that folder does not show."""
    table = page.read_text().partition("## State folder")[2].partition("\n## ")[0]
    shown = [
        re.sub("<[^>]+>", "*", path) for path in re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)
    ]
    found = [str(path.relative_to(state)) for path in state.rglob("*") if path.is_file()]
    return [
        name
        for name in found
        if not name.endswith(("-wal", "-shm"))
        and not any(fnmatch(name, f"{path}*" if path.endswith("/") else path) for path in shown)
    ]


@pytest.mark.system
class TestByHand:
    def test_files_and_commands(self, place: Path, root: Path) -> None:
        """A broker, the daemons on the page until the job has ended, then every listing."""
        lines = commands(root)
        daemons = [line for line in lines if line[1] in {"serve", "run"}]
        checks = [line for line in lines if line[1] in {"job", "check"}]
        listings = [line for line in lines if line not in daemons + checks]
        assert (len(daemons), len(checks), len(listings)) == (3, 3, 7)
        (place / "vibration.csv").write_text("vibration\n" + "0.1\n-0.2\n" * 1024)
        with broker(place / "broker") as port:
            for path in place.glob("*.toml"):
                path.write_text(path.read_text().replace("port = 1884", f"port = {port}"))
            for line in checks:
                output_of(line, place)
            with running(daemons, place) as children:
                until_finished(place, children)
                shown = {line[1]: output_of(line, place) for line in listings}
        assert "press-1" in shown["status"]
        assert "running" in shown["status"]
        assert len(shown["replay"].splitlines()) == 2
        assert (place / "bearings.onnx").stat().st_size > 10_000
        for state, page in (("press-1", "docs/agent.md"), ("coordinator", "docs/coordinator.md")):
            assert undocumented(place / state, root / page) == []


class TestOwnRecordings:
    def test_check(self, place: Path, root: Path) -> None:
        """Both parts are read, and the stroke is shown in its own unit."""
        (line,) = [c for c in commands(root) if "press-3.toml" in c]
        shown = output_of(line, place)
        assert "source line-3: 8 samples read in 2 runs, 10 Hz\n" in shown
        assert "2 windows; 2 labelled: burr 1, good 1" in shown
        assert re.search(r"stroke +tag stroke_in +0 to 0\.47 in, 100 % good", shown)


@pytest.mark.system
class TestSimulatedMachine:
    def test_discover_and_check(self, place: Path, root: Path) -> None:
        """The recording is served, listed, and read in the job's units."""
        simulate, *looks = commands(root, rehearsal=True)
        port = free_port()
        path = place / "press-4.toml"
        path.write_text(path.read_text().replace("4840", str(port)))
        command = [*program(simulate), "--port", str(port)]
        with subprocess.Popen(command, cwd=place, stderr=subprocess.PIPE, text=True) as machine:
            try:
                assert machine.stderr is not None
                assert f"address=127.0.0.1:{port}" in machine.stderr.readline()
                found, checked = (output_of(line, place) for line in looks)
                machine.send_signal(signal.SIGINT)
                machine.communicate(timeout=SECONDS)
            finally:
                machine.kill()
        assert machine.returncode == 0
        assert "ns=2;s=press-3.force_kN" in found
        assert re.search(
            r"force +tag ns=2;s=press-3.force_kN .* kN, .*; 10 Hz, 100 % good", checked
        )
