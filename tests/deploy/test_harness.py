# SPDX-License-Identifier: Apache-2.0
"""The machines of the tests are real ones, and nothing of them is left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.deploy import leftovers
from tests.deploy.lab import Lab
from tests.waiting import eventually

pytestmark = pytest.mark.deploy

_RUN = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs behind an "&" ignores it
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.deploy.lab import Lab
with Lab(Path({base!r})) as lab:
    lab.machine("victim").up()
    print(lab.record.run, flush=True)
    time.sleep(600)
"""


def _traces(run: str) -> list[str]:
    """All that is there of a run: processes, mounts, groups, networks, folders."""
    groups = [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/fedmill-{run}-*")]
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if run in line]
    networks = [str(path) for path in Path("/run/netns").glob(f"*{run}*")]
    folders = [str(path) for path in leftovers.RECORDS.glob(f"*{run}*")]
    commands = [path.read_bytes() for path in _command_lines()]
    processes = [line.decode() for line in commands if f"fedmill-{run}".encode() in line]
    return groups + mounts + networks + folders + processes


def _command_lines() -> list[Path]:
    return [path for path in Path("/proc").glob("[0-9]*/cmdline") if os.access(path, os.R_OK)]


def _begin(base: Path, root: Path) -> "tuple[subprocess.Popen[str], str]":
    """A run of its own with one machine, and its name."""
    script = _RUN.format(root=str(root), base=str(base))
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    return process, process.stdout.readline().strip()


class TestMachines:
    def test_run_systemd(self, lab: Lab) -> None:
        """All units are up, and the first process is systemd of Debian 12."""
        machine = lab.machine("one")
        machine.up()
        assert machine.run("systemctl", "is-system-running").strip() == "running"
        assert machine.run("systemctl", "--version").startswith("systemd 252")
        assert machine.run("hostname").strip() == "one"

    def test_reach_each_other_and_nobody_else(self, lab: Lab) -> None:
        """There is a loopback, and no way out."""
        machine = lab.machine("two")
        machine.up()
        links = machine.run("ip", "-brief", "link").splitlines()
        assert [line.split()[0] for line in links] == ["lo"]
        assert machine.run("ip", "route") == ""

    def test_keep_their_disk_when_the_plug_is_pulled(self, lab: Lab) -> None:
        """What was synced is there after the next boot."""
        machine = lab.machine("three")
        machine.up()
        machine.run("sh", "-c", "echo kept >/var/lib/kept; sync")
        machine.power_off(pull=True)
        machine.up()
        assert machine.run("cat", "/var/lib/kept") == "kept\n"


class TestNothingIsLeft:
    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
    def test_when_the_run_is_ended(
        self, debian: Path, pytestconfig: pytest.Config, how: signal.Signals
    ) -> None:
        """By Ctrl-C, by a time limit, or by kill -9."""
        process, run = _begin(debian, pytestconfig.rootpath)
        assert len(_traces(run)) > 4
        process.send_signal(how)
        process.communicate()
        eventually(lambda: not _traces(run))

    def test_when_the_guard_was_killed_too(self, debian: Path, pytestconfig: pytest.Config) -> None:
        """The next run clears up."""
        process, run = _begin(debian, pytestconfig.rootpath)
        guards = subprocess.run(
            ["pgrep", "-P", str(process.pid), "-f", f"leftovers.py {run}"],
            capture_output=True,
            text=True,
            check=True,
        )
        os.kill(int(guards.stdout), signal.SIGKILL)
        process.kill()
        process.communicate()
        assert _traces(run)
        with Lab(debian):
            assert not _traces(run)

    def test_of_a_run_that_lives_all_stays(self, debian: Path, pytestconfig: pytest.Config) -> None:
        """Two runs at the same time do not touch each other."""
        process, run = _begin(debian, pytestconfig.rootpath)
        before = sorted(_traces(run))
        with Lab(debian):
            pass
        assert sorted(_traces(run)) == before
        process.kill()
        process.communicate()
        eventually(lambda: not _traces(run))
