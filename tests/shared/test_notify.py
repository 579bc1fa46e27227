# SPDX-License-Identifier: Apache-2.0
"""Words to a service manager, which is a socket of the test's own."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.notify import LONGEST_STATUS, Notifier, notifier


class Manager:
    """Listens as systemd does."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        """Every datagram that has come."""
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return found


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    """On a socket in the file system, and on one without a file."""
    name = f"@fedmill/{os.getpid()}/{tmp_path.name}"
    made = Manager(name if request.param == "abstract" else str(tmp_path / "notify"))
    yield made
    made.socket.close()


class TestWords:
    def test_a_life(self, manager: Manager) -> None:
        """More time, ready, a word for people, signs of life, the end: each is one datagram."""
        said = Notifier(manager.address, 10.0)
        assert said.listened_to
        assert said.patience(90.0)
        assert said.ready("2 jobs")
        assert said.status("1 job")
        assert said.alive()
        assert said.stopping()
        assert manager.heard() == [
            "EXTEND_TIMEOUT_USEC=90000000",
            "READY=1\nSTATUS=2 jobs",
            "STATUS=1 job",
            "WATCHDOG=1",
            "STOPPING=1\nSTATUS=ends",
        ]

    @given(st.text())
    def test_a_status_is_one_line(self, text: str) -> None:
        """Whatever it holds, it assigns nothing else, and fits a datagram."""
        from fedmill_shared.notify import _line

        line = _line(text + "\nMAINPID=1")
        assert "\n" not in line
        assert len(line) <= LONGEST_STATUS

    def test_odd_characters_do_no_harm(self, manager: Manager) -> None:
        """Half characters come from broken texts of others."""
        assert Notifier(manager.address).status("job \ud800")
        assert manager.heard() == ["STATUS=job ?"]


class TestNobody:
    def test_without_a_manager_nothing_is_said(self) -> None:
        """A daemon in a terminal."""
        silent = Notifier("", 10.0)
        assert not silent.listened_to
        assert silent.watchdog_seconds == 0.0
        assert not silent.ready("")

    def test_a_manager_that_has_gone(self, tmp_path: Path) -> None:
        """It is no fault of the service."""
        assert not Notifier(str(tmp_path / "nothing")).ready("2 jobs")

    def test_a_manager_that_does_not_read(self, manager: Manager) -> None:
        """Nobody waits for it, and what it has no room for is lost."""
        said = Notifier(manager.address)
        assert not all(said.alive() for _ in range(100_000))
        manager.heard()
        assert said.alive()


class TestEnvironment:
    def test_it_is_taken_out(self) -> None:
        """No child may speak in our name."""
        found = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "2500000", "HOME": "/"}
        made = notifier(found)
        assert made.listened_to
        assert made.watchdog_seconds == 2.5
        assert found == {"HOME": "/"}

    @pytest.mark.parametrize("address", ["", "@", "/", "run/notify", "vsock:2:9", "x"])
    def test_an_address_of_another_kind(self, address: str) -> None:
        """It is as if there were none."""
        assert not notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1"}).listened_to

    @pytest.mark.parametrize(
        "found",
        [
            {},
            {"WATCHDOG_USEC": "soon"},
            {"WATCHDOG_USEC": "-5"},
            {"WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "1"},
        ],
    )
    def test_no_watchdog(self, found: dict[str, str]) -> None:
        """Missing, no number, or that of another process."""
        made = notifier({"NOTIFY_SOCKET": "/run/x", **found})
        assert made.listened_to
        assert made.watchdog_seconds == 0.0

    def test_our_own_watchdog(self) -> None:
        """It names the process that it watches."""
        found = {
            "NOTIFY_SOCKET": "/run/x",
            "WATCHDOG_USEC": "60000000",
            "WATCHDOG_PID": str(os.getpid()),
        }
        assert notifier(found).watchdog_seconds == 60.0

    def test_of_a_real_process(self, manager: Manager) -> None:
        """It speaks itself, and its child cannot."""
        code = (
            "import os, subprocess, sys\n"
            "from fedmill_shared.notify import notifier\n"
            "code = \"import os; print('NOTIFY_SOCKET' in os.environ)\"\n"
            "notifier(os.environ).ready('it')\n"
            "subprocess.run([sys.executable, '-c', code], check=True)\n"
        )
        environment = {**os.environ, "NOTIFY_SOCKET": manager.address}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, check=True
        )
        assert manager.heard() == ["READY=1\nSTATUS=it"]
        assert done.stdout == b"False\n"
