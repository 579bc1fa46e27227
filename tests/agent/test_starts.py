# SPDX-License-Identifier: Apache-2.0
"""Starts that fail, one after the other, until one is safe; and how that ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.agent.kit import Journal
from tests.small_disk import MIB, small_disk

from fedmill_agent import ended, starts
from fedmill_agent.starts import (
    ENDED_FILE,
    MOST_FAILURES,
    STARTS_FILE,
    UNTOLD,
    ServiceEnd,
    StartRecord,
    Starts,
)
from fedmill_shared.errors import ConfigError, StoreError
from fedmill_shared.files import write_atomic


class Machine:
    """A state folder and a configuration; what happens to them is what each test says."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.config, self.journal = folder / "state", folder / "agent.toml", Journal()
        self.folder.mkdir()
        self.config.write_text("[agent]")

    def start(self, **how: Any) -> Starts:
        """The agent begins."""
        return Starts(self.folder, self.config, self.journal, **how)

    def crash(self, times: int = 1) -> None:
        """It begins and is killed, so often."""
        for _ in range(times):
            self.start()

    @property
    def record(self) -> StartRecord:
        """What is known."""
        return msgspec.json.decode((self.folder / STARTS_FILE).read_bytes(), type=StartRecord)

    def tell(self, end: ServiceEnd) -> None:
        """What the service manager said."""
        (self.folder / ENDED_FILE).write_bytes(msgspec.json.encode(end))


def end(start: Starts, error: BaseException | None) -> None:
    """It ends with ``error``, which passes."""
    assert start.__exit__(type(error) if error else None, error, None) is None


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """It never ran before."""
    return Machine(tmp_path)


class TestCount:
    def test_five_in_a_row(self, machine: Machine) -> None:
        """The sixth start is safe, and says why; it stays so until somebody does something."""
        for _ in range(MOST_FAILURES):
            assert not machine.start().safe
        for failures in (5, 6, 7):
            safe = machine.start()
            assert safe.safe
            assert safe.reason == (f"{failures} starts in a row failed; the last one: {UNTOLD}")

    def test_an_error_is_the_reason(self, machine: Machine) -> None:
        """It passes, and is told at the next start."""
        machine.crash(MOST_FAILURES - 1)
        with pytest.raises(StoreError), machine.start():
            raise StoreError("windows.sqlite: is full")
        assert machine.start().reason.endswith("StoreError: windows.sqlite: is full")

    def test_a_fault_of_the_program_counts(self, machine: Machine) -> None:
        """Whatever it is."""
        machine.crash(MOST_FAILURES - 1)
        with pytest.raises(ZeroDivisionError), machine.start():
            raise ZeroDivisionError("division by zero")
        assert "ZeroDivisionError" in machine.start().reason

    @pytest.mark.parametrize(
        ("end", "words"),
        [
            (ServiceEnd(result="watchdog", code="killed", status="ABRT"), "watchdog, signal ABRT"),
            (ServiceEnd(result="oom-kill", code="killed", status="KILL"), "oom-kill, signal KILL"),
            (ServiceEnd(result="exit-code", code="exited", status="3"), "exit code 3"),
            (ServiceEnd(result="signal", code="killed", status="SEGV"), "signal SEGV"),
        ],
    )
    def test_what_the_manager_said_is_the_reason(
        self, machine: Machine, end: ServiceEnd, words: str
    ) -> None:
        """Where the process itself could say nothing."""
        machine.crash(MOST_FAILURES)
        machine.tell(end)
        assert machine.start().reason.endswith(f"the last one: {words}")
        assert not (machine.folder / ENDED_FILE).exists()

    def test_a_good_start_clears(self, machine: Machine) -> None:
        """However it ends later: that is no failed start."""
        machine.crash(MOST_FAILURES - 1)
        good = machine.start()
        good.good()
        assert not machine.record.running
        machine.tell(ServiceEnd(result="signal", code="killed", status="KILL"))
        assert not machine.start().safe
        assert machine.record.failures == 0
        good = machine.start()
        good.good()
        end(good, ConfigError("later"))
        assert machine.record == msgspec.structs.replace(machine.record, failures=0, running=False)

    @pytest.mark.parametrize("interrupted", [False, True])
    def test_an_end_that_was_asked_for_clears(self, machine: Machine, *, interrupted: bool) -> None:
        """An operator stopped it, or Ctrl-C: also out of safe mode."""
        machine.crash(MOST_FAILURES)
        safe = machine.start()
        assert safe.safe
        end(safe, KeyboardInterrupt() if interrupted else None)
        assert not machine.start().safe

    def test_a_safe_start_is_not_good(self, machine: Machine) -> None:
        """That it runs says nothing about a start in full."""
        machine.crash(MOST_FAILURES)
        machine.start().good()
        assert machine.start().safe

    def test_after_a_while_one_in_full(self, machine: Machine) -> None:
        """One: if it fails, the next is safe again."""
        machine.crash(MOST_FAILURES)
        safe = machine.start()
        safe.try_again()
        end(safe, ConfigError("an hour is over"))
        assert not machine.start().safe
        assert machine.start().safe


class TestAnew:
    def test_with_another_configuration(self, machine: Machine) -> None:
        """Somebody has mended something."""
        machine.crash(MOST_FAILURES)
        machine.config.write_text("[agent]\n# mended")
        assert not machine.start().safe
        assert machine.record.failures == 0

    def test_with_other_software(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        """An update may be the remedy."""
        machine.crash(MOST_FAILURES)
        monkeypatch.setattr(starts, "__version__", "99.0")
        assert not machine.start().safe

    def test_after_the_machine_was_off(
        self, machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Power cuts are no fault of the agent; what failed before them still counts."""
        machine.crash(3)
        for number in range(10):
            (tmp_path / "boot").write_text(f"boot {number}\n")
            monkeypatch.setattr(starts, "_BOOT", tmp_path / "boot")
            assert not machine.start().safe
        assert machine.record.failures == 2

    def test_forced(self, machine: Machine) -> None:
        """Asked for; the next one is not."""
        with machine.start(forced=True) as safe:
            assert safe.safe
            assert "command line" in safe.reason
        assert not machine.start().safe


class TestFiles:
    @given(st.binary(max_size=200))
    def test_damaged_files_stop_nobody(self, content: bytes) -> None:
        """The count begins anew."""
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            made = Machine(Path(folder))
            (made.folder / STARTS_FILE).write_bytes(content)
            (made.folder / ENDED_FILE).write_bytes(content)
            assert not made.start().safe

    def test_a_folder_that_cannot_be_written(
        self, machine: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where no start is known yet: it ends nobody; it is told, and the agent starts."""

        def full(*_: object) -> None:
            raise StoreError("no space left")

        monkeypatch.setattr(starts, "write_atomic", full)
        assert not machine.start().safe
        assert machine.journal.of("starts.not_kept")


class TestFullDisk:
    """What has a file is written into it: a full disk has no room for another."""

    @pytest.fixture
    def full(self, machine: Machine) -> Iterator[Machine]:
        """It has started once; since then its disk is full."""
        machine.start().good()
        kept = (machine.folder / STARTS_FILE).read_bytes()
        with small_disk(machine.folder, MIB) as disk:
            (machine.folder / STARTS_FILE).write_bytes(kept)
            disk.fill()
            with pytest.raises(StoreError, match="No space left"):
                write_atomic(machine.folder / "other", b"x")
            yield machine

    def test_failed_starts_count(self, full: Machine) -> None:
        """Else such a gateway would start anew for ever, and nobody would reach it."""
        full.crash(MOST_FAILURES)
        safe = full.start()
        assert safe.safe
        assert safe.reason.startswith(f"{MOST_FAILURES} starts in a row failed")
        assert full.journal.entries == []

    def test_safe_mode_is_over_some_day(self, full: Machine) -> None:
        """After an hour for one start in full, and at once for whoever restarts it."""
        full.crash(MOST_FAILURES)
        full.start().try_again()
        assert not full.start().safe
        safe = full.start()
        assert safe.safe
        end(safe, None)
        assert not full.start().safe
        assert full.record.failures == 0

    def test_an_error_is_the_reason(self, full: Machine) -> None:
        """A long one, behind which a short one leaves nothing of it."""
        full.crash(MOST_FAILURES - 1)
        end(full.start(), StoreError("windows.sqlite: is full" + 40 * "."))
        assert "windows.sqlite: is full" in full.start().reason
        end(full.start(), StoreError("short"))
        assert full.record.reason == "StoreError: short"
        assert full.journal.entries == []


class TestEnded:
    def test_leaves_what_systemd_says(self, tmp_path: Path) -> None:
        """In the state folder."""
        told = {"SERVICE_RESULT": "watchdog", "EXIT_CODE": "killed", "EXIT_STATUS": "ABRT"}
        assert ended.main({"STATE_DIRECTORY": str(tmp_path), **told}) == 0
        found = msgspec.json.decode((tmp_path / ENDED_FILE).read_bytes(), type=ServiceEnd)
        assert found.text == "watchdog, signal ABRT"

    @pytest.mark.parametrize(
        "told", [{}, {"SERVICE_RESULT": "success", "EXIT_CODE": "exited", "EXIT_STATUS": "0"}]
    )
    def test_nothing_to_say(self, tmp_path: Path, told: dict[str, str]) -> None:
        """All went well, or nobody told."""
        assert ended.main({"STATE_DIRECTORY": str(tmp_path), **told}) == 0
        assert list(tmp_path.iterdir()) == []
        assert ended.main(told) == 0

    def test_a_folder_that_is_gone(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Told, and an exit code that the unit passes over."""
        told = {"STATE_DIRECTORY": str(tmp_path / "gone"), "SERVICE_RESULT": "signal"}
        assert ended.main(told) == 21
        assert "cannot be written" in capsys.readouterr().err

    def test_as_the_unit_runs_it(self, tmp_path: Path) -> None:
        """A process of its own, without torch or anything heavy."""
        told = {"SERVICE_RESULT": "signal", "EXIT_CODE": "killed", "EXIT_STATUS": "KILL"}
        environment = {**os.environ, "STATE_DIRECTORY": str(tmp_path), **told}
        command = [sys.executable, "-m", "fedmill_agent.ended"]
        subprocess.run(command, env=environment, check=True)
        assert (tmp_path / ENDED_FILE).exists()


RUN = """
import sys
from fedmill_agent.cli import main
sys.exit(main(["run", *sys.argv[1:]]))
"""


ASKED_EARLY = """
import os, signal, sys
from fedmill_agent.cli import main, run
full = run._full
def asked(*arguments):
    os.kill(os.getpid(), signal.SIGTERM)
    return full(*arguments)
run._full = asked
sys.exit(main(["run", sys.argv[1]]))
"""


@pytest.mark.system
class TestReal:
    def _process(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", RUN, *arguments], stderr=subprocess.PIPE, text=True
        )

    def _until(self, process: "subprocess.Popen[str]", event: str) -> str:
        for line in process.stderr:
            if f"event={event} " in line:
                return line
        return ""

    def test_killed_five_times(self, tmp_path: Path) -> None:
        """Then it comes up in safe mode with a source that would end it; asked to, it ends."""
        config = tmp_path / "agent.toml"
        config.write_text(
            '[agent]\nid = "gw"\n[broker]\nport = 1\n[[sources]]\nkind = "nothing"\nname = "x"\n'
        )
        for _ in range(MOST_FAILURES):  # such a source ends each start in full
            with self._process(str(config)) as process:
                assert "nothing" in process.stderr.read()
            assert process.returncode == 10
        with self._process(str(config)) as process:
            assert "ConfigError" in self._until(process, "agent.safe_mode")
            process.send_signal(signal.SIGTERM)
            process.stderr.read()
        assert process.returncode == 0
        with self._process(str(config)) as process:
            assert "nothing" in process.stderr.read()

    def test_asked_to_end_before_it_has_begun(self, tmp_path: Path) -> None:
        """It ends in order, and that is no failed start."""
        config = tmp_path / "agent.toml"
        config.write_text('[agent]\nid = "gw"\n[broker]\nport = 1\n')
        done = subprocess.run(
            [sys.executable, "-c", ASKED_EARLY, str(config)], capture_output=True, check=False
        )
        assert done.returncode == 0
        assert b"event=agent.stopped" in done.stderr
        [path] = tmp_path.glob("*/starts.json")
        assert not msgspec.json.decode(path.read_bytes(), type=StartRecord).running

    def test_forced(self, tmp_path: Path) -> None:
        """By an option of the command."""
        config = tmp_path / "agent.toml"
        config.write_text('[agent]\nid = "gw"\n[broker]\nport = 1\n')
        with self._process(str(config), "--safe-mode") as process:
            assert "command line" in self._until(process, "agent.safe_mode")
            process.send_signal(signal.SIGTERM)
            process.stderr.read()
        assert process.returncode == 0
