# SPDX-License-Identifier: Apache-2.0
"""The daemon as a real process; these tests are the ones that wait for something."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from fedmill_agent.cli import main
from fedmill_agent.status import read_status, status_of, write_status
from fedmill_shared.errors import StoreError
from fedmill_shared.messages import AgentState

Configure = Callable[..., Path]
PATIENCE = 30.0


@pytest.fixture
def nowhere() -> Iterator[int]:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield probe.getsockname()[1]


@pytest.fixture
def start() -> Iterator[Callable[[Path], "subprocess.Popen[bytes]"]]:
    """Starts daemons and ends them."""
    started: list[subprocess.Popen[bytes]] = []

    def run(config: Path) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "fedmill_agent", "run", str(config)]
        started.append(subprocess.Popen(command, stderr=subprocess.PIPE))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


def wait_for_status(config: Path, *, connected: bool) -> None:
    """Until the daemon has told of itself."""
    state, deadline = config.parent / f"{config.stem}-state", time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if read_status(state).connected == connected:
                return
        except StoreError:
            pass
        time.sleep(0.02)
    raise AssertionError("the daemon does not start")


@pytest.mark.system
class TestRun:
    @pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
    def test_without_a_broker(
        self,
        configure: Configure,
        start: Callable[[Path], "subprocess.Popen[bytes]"],
        nowhere: int,
        stop: signal.Signals,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """It keeps trying, says so, and ends in order; a second one does not start beside it."""
        config = configure(port=nowhere)
        process = start(config)
        wait_for_status(config, connected=False)
        second = start(config)
        assert second.wait(PATIENCE) == 21
        assert b"another agent is running with this state folder" in second.stderr.read()
        assert main(["status", str(config), "--json"]) == 0
        status = msgspec.json.decode(capsys.readouterr().out)
        assert (status["agent"], status["running"], status["pid"]) == ("a", True, process.pid)
        process.send_signal(stop)
        _, log = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        assert b"event=broker.unreachable" in log
        assert f"broker=127.0.0.1:{nowhere}".encode() in log
        assert log.splitlines()[-1].endswith(b"event=agent.stopped agent=a")
        assert b"Traceback" not in log
        assert main(["status", str(config), "--json"]) == 3
        assert not msgspec.json.decode(capsys.readouterr().out)["running"]

    def test_with_a_broker(
        self,
        configure: Configure,
        start: Callable[[Path], "subprocess.Popen[bytes]"],
        mosquitto: int,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Connected, shown as such, and gone with a word."""
        config = configure("cli-run", port=mosquitto)
        process = start(config)
        wait_for_status(config, connected=True)
        assert main(["status", str(config)]) == 0
        output = capsys.readouterr().out
        assert "daemon     running" in output
        assert "broker     connected" in output
        assert "trainer    not running" in output
        process.terminate()
        assert process.wait(PATIENCE) == 0

    def test_a_broker_whose_name_is_unknown(
        self, configure: Configure, start: Callable[[Path], "subprocess.Popen[bytes]"]
    ) -> None:
        """The log says that, and what to do; a name that cannot be one ends the start."""
        config = configure()
        text = config.read_text()
        config.write_text(text.replace("[broker]\n", '[broker]\nhost = "broker.invalid"\n'))
        process = start(config)
        for line in process.stderr:
            if b"event=broker.unreachable" in line:
                break
        assert b'reason="the host name broker.invalid is unknown: ' in line
        assert b'remedy="correct host below [broker], or make it known' in line
        process.terminate()
        assert process.wait(PATIENCE) == 0
        config.write_text(text.replace("[broker]\n", '[broker]\nhost = ""\n'))
        impossible = start(config)
        assert impossible.wait(PATIENCE) == 20
        assert b"broker.host is '': no machine can have this name" in impossible.stderr.read()

    def test_a_folder_that_cannot_be_used(
        self, configure: Configure, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        """A file stands where the state should be."""
        (tmp_path / "a-state").write_text("")
        assert main(["run", str(configure())]) == 21
        assert "a-state: folder cannot be created" in capsys.readouterr().err

    def test_a_broken_configuration(
        self, configure: Configure, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """File, line and field, and nothing is started but the count of starts that fail."""
        config = configure(extra="repeet = true")
        assert main(["run", str(config)]) == 10
        assert "a.toml:13: sources[0].repeet is unknown" in capsys.readouterr().err
        left = {path.name for path in (config.parent / "a-state").iterdir()}
        assert left <= {"lock", "starts.json", "audit.jsonl"}


class TestStatus:
    def test_never_ran(self, configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
        """Exit code 21, and what to do."""
        assert main(["status", str(configure())]) == 21
        assert "has the agent been started" in capsys.readouterr().err

    def test_a_broken_configuration(
        self, configure: Configure, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The state folder is not known without it."""
        assert main(["status", str(configure(agent="sttae = 1"))]) == 10
        assert "agent.sttae is unknown" in capsys.readouterr().err

    def test_what_is_shown(
        self, configure: Configure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Jobs with phase, model and windows; of a process that runs."""
        from fedmill_shared.messages import JobPhase

        config = configure()
        (tmp_path / "a-state").mkdir()
        phase = JobPhase(
            phase="joined", version="ab" * 32, windows={"train": 3, "test": 1}, windows_scored=7
        )
        state = AgentState(online=True, resident_bytes=50 << 20, jobs={"press": phase})
        write_status(
            tmp_path / "a-state", status_of(state, connected=True, trainer_pid=os.getpid())
        )
        assert main(["status", str(config)]) == 0
        output = capsys.readouterr().out
        for line in (
            "broker     connected",
            f"trainer    pid {os.getpid()}",
            "memory     50 MiB",
            "job        press: joined, model abababababab",
            "windows 3 train, 1 test; scored 7, bad 0",
        ):
            assert line in output
