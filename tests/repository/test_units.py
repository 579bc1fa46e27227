# SPDX-License-Identifier: Apache-2.0
"""What the unit files promise, tried without a machine that boots; see also tests/deploy."""

import re
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "deploy/systemd"


def said(unit: str, key: str) -> list[str]:
    """All values of a setting, in their order."""
    return re.findall(rf"^{key}=(.*)$", (UNITS / unit).read_text(), re.MULTILINE)


class TestPython:
    @pytest.mark.parametrize(
        "unit", ["fedmill-agent.service", "fedmill-coordinator.service", "fedmill-trainer@.service"]
    )
    def test_nothing_is_imported_from_the_state_folder(self, unit: str) -> None:
        """Programs work in it, and ``python -m`` would look there first."""
        assert said(unit, "WorkingDirectory")
        assert "PYTHONSAFEPATH=1" in said(unit, "Environment")


class TestAgent:
    def test_training_without_memory_ends_no_scoring(self) -> None:
        """Where it is a child: five such ends in a row would be a safe mode."""
        assert said("fedmill-agent.service", "OOMPolicy") == ["continue"]

    def test_a_group_that_is_there_need_not_be_made(self) -> None:
        """Where that fails, as with /etc for reading only, the agent starts all the same."""
        assert said("fedmill-agent.service", "Requires") == ["fedmill-trainer.socket"]
        [command] = said("fedmill-trainer.socket", "ExecStartPre")
        assert command.startswith("-/usr/bin/systemd-sysusers ")


class TestRevocations:
    """The copy of the list that the broker reads."""

    def commands(self, machine: Path) -> Iterator[list[str]]:
        """Those of the unit, below ``machine``; whoever runs the test owns the files."""
        for line in said("fedmill-broker-reload.service", "ExecStart"):
            words = line.replace("-o root -g root ", "").split()
            yield [
                words[0],
                *(f"{machine}{word}" if word[0] == "/" else word for word in words[1:]),
            ]

    def copy(self, machine: Path, largest_file: int = -1) -> bool:
        """One after the other until one fails, as systemd does; whether none did."""
        bounds = (largest_file, resource.getrlimit(resource.RLIMIT_FSIZE)[1])

        def bounded() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, bounds)

        return all(
            subprocess.run(command, preexec_fn=bounded, check=False, capture_output=True).returncode
            == 0
            for command in self.commands(machine)
        )

    @pytest.fixture
    def machine(self, tmp_path: Path) -> Path:
        """The coordinator has written a list."""
        (tmp_path / "var/lib/fedmill-coordinator").mkdir(parents=True)
        (tmp_path / "var/lib/fedmill-coordinator/crl.pem").write_bytes(b"new" * 10_000)
        return tmp_path

    def test_it_is_brought(self, machine: Path) -> None:
        """Whole, readable for the broker, and nothing is left beside it."""
        folder = machine / "etc/mosquitto/fedmill"
        assert self.copy(machine)
        assert [path.name for path in folder.iterdir()] == ["crl.pem"]
        assert (folder / "crl.pem").read_bytes() == b"new" * 10_000
        assert (folder / "crl.pem").stat().st_mode & 0o777 == 0o644

    def test_on_a_full_disk_the_one_before_stays(self, machine: Path) -> None:
        """Here a bound on the size of files stands in for that; it is made up for later."""
        folder = machine / "etc/mosquitto/fedmill"
        folder.mkdir(parents=True)
        (folder / "crl.pem").write_bytes(b"old")
        assert not self.copy(machine, largest_file=8192)
        assert (folder / "crl.pem").read_bytes() == b"old"
        assert self.copy(machine)
        assert (folder / "crl.pem").read_bytes() == b"new" * 10_000
