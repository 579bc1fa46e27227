# SPDX-License-Identifier: Apache-2.0
"""Child processes: watched while they run, and always ended."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from fedmill_coordinator.demo.processes import Processes, program
from fedmill_shared.errors import FedmillError

SLEEP = "import time; print('ready', flush=True); time.sleep(600)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
PARENT = (
    "import subprocess, sys; "
    f"child = subprocess.Popen([sys.executable, '-c', {SLEEP!r}]); print(child.pid, flush=True); "
)


def python(code: str) -> list[str]:
    """A command that runs ``code``."""
    return [sys.executable, "-S", "-c", code]


@pytest.fixture
def wait_for(tmp_path: Path) -> Callable[[str, str], str]:
    """Wait until the log of a child has a word; the whole log."""

    def wait(name: str, word: str) -> str:
        log = tmp_path / f"{name}.log"
        while word not in log.read_text():
            time.sleep(0.01)
        return log.read_text()

    return wait


def gone(pid: int) -> bool:
    """Whether a process has ended, or is only waiting to be collected."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class TestEnd:
    """Nothing outlives the context."""

    def test_children_are_ended(self, tmp_path: Path, wait_for: Callable[[str, str], str]) -> None:
        """All of them, also when the body raises."""
        pids = []

        def work() -> None:
            with Processes(tmp_path) as processes:
                for name in ("one", "two"):
                    processes.start(name, python(SLEEP))
                    wait_for(name, "ready")
                    pids.append(processes.pid(name))
                raise KeyError

        with pytest.raises(KeyError):
            work()
        assert all(map(gone, pids))

    def test_one_that_ignores_sigterm_is_killed(
        self, tmp_path: Path, wait_for: Callable[[str, str], str]
    ) -> None:
        """With everything that it started itself."""
        with Processes(tmp_path) as processes:
            processes.start("deaf", python(DEAF + PARENT + SLEEP))
            pid = processes.pid("deaf")
            grandchild = int(wait_for("deaf", "ready").split()[0])
        assert gone(pid)
        deadline = time.monotonic() + 30
        while not gone(grandchild):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def test_stopping_twice_is_harmless(self, tmp_path: Path) -> None:
        """And so is stopping what has ended already."""
        processes = Processes(tmp_path)
        processes.start("short", python("pass"))
        os.waitid(os.P_PID, processes.pid("short"), os.WEXITED | os.WNOWAIT)
        processes.stop()
        processes.stop()


class TestDismissal:
    """Some are asked to end before the others."""

    def test_only_they_end(self, tmp_path: Path, wait_for: Callable[[str, str], str]) -> None:
        """Nobody waits for them, and that they end is no fault."""
        with Processes(tmp_path) as processes:
            for name in ("agent", "coordinator"):
                processes.start(name, python(SLEEP))
                wait_for(name, "ready")
            assert processes.working(["agent"])
            processes.dismiss(["agent"])
            os.waitid(os.P_PID, processes.pid("agent"), os.WEXITED | os.WNOWAIT)
            assert not processes.working(["agent"])
            assert processes.working(["agent", "coordinator"])
            processes.check()

    def test_one_that_has_ended_already(self, tmp_path: Path) -> None:
        """There is nobody to ask."""
        with Processes(tmp_path) as processes:
            processes.start("short", python("pass"))
            os.waitid(os.P_PID, processes.pid("short"), os.WEXITED | os.WNOWAIT)
            processes.dismiss(["short"])
            assert not processes.working(["short"])

    def test_started_again_it_is_watched_again(self, tmp_path: Path) -> None:
        """The dismissal was of the process before."""
        with Processes(tmp_path) as processes:
            for _ in range(2):
                processes.start("short", python("import sys; sys.exit('broken')"))
                os.waitid(os.P_PID, processes.pid("short"), os.WEXITED | os.WNOWAIT)
                with pytest.raises(FedmillError, match="short ended with exit code 1: broken"):
                    processes.check()
                processes.dismiss(["short"])
                processes.check()


class TestCheck:
    """A child that dies is reported."""

    def test_all_is_well(self, tmp_path: Path) -> None:
        """While they run there is nothing to say."""
        with Processes(tmp_path) as processes:
            processes.check()
            processes.start("one", python(SLEEP))
            processes.check()

    @pytest.mark.parametrize(
        ("code", "text"),
        [
            ("import sys; print('a'); sys.exit('disk full')", "ended with exit code 1: disk full"),
            ("import sys; sys.exit(21)", "ended with exit code 21: no output"),
            ("import os; os.kill(os.getpid(), 9)", "ended with exit code -9"),
        ],
    )
    def test_one_that_ended(self, tmp_path: Path, code: str, text: str) -> None:
        """Its name, its code, the last line it wrote, and where the rest is."""
        with Processes(tmp_path) as processes:
            processes.start("agent-1", python(code))
            os.waitid(os.P_PID, processes.pid("agent-1"), os.WEXITED | os.WNOWAIT)
            with pytest.raises(FedmillError, match=text) as caught:
                processes.check()
            assert str(caught.value).startswith("agent-1 ended")
            assert str(tmp_path / "agent-1.log") in str(caught.value)

    def test_programs_run_with_our_interpreter(self) -> None:
        """Whatever is on the path."""
        command = program("fedmill_agent", "run", Path("a b.toml"))
        assert command == [sys.executable, "-m", "fedmill_agent", "run", "a b.toml"]
