# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from fedmill_agent.status import (
    Status,
    is_alive,
    read_status,
    resident_bytes,
    status_of,
    write_status,
)
from fedmill_shared.errors import StoreError
from fedmill_shared.messages import AgentState, JobPhase

STATE = AgentState(
    online=True,
    software="0.1.0",
    sent_ns=5,
    resident_bytes=1 << 20,
    jobs={"press": JobPhase(phase="joined", version="a" * 64, windows={"train": 3})},
)


class TestStatus:
    def test_comes_back(self, tmp_path: Path) -> None:
        """Everything that the daemon wrote, and its process."""
        write_status(tmp_path, status_of(STATE, connected=True, trainer_pid=7))
        status = read_status(tmp_path)
        assert (status.state, status.connected, status.trainer_pid) == (STATE, True, 7)
        assert status.pid == os.getpid()

    def test_never_written(self, tmp_path: Path) -> None:
        """The remedy is to start the agent."""
        with pytest.raises(
            StoreError, match=r"status.json: No such file.*has the agent been started"
        ):
            read_status(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"{", b'{"pid": 1}', b'{"pid": "\xff"}'])
    def test_damaged(self, tmp_path: Path, content: bytes) -> None:
        """Told as such."""
        (tmp_path / "status.json").write_bytes(content)
        with pytest.raises(StoreError, match="damaged"):
            read_status(tmp_path)


class TestAlive:
    def test_this_process(self, tmp_path: Path) -> None:
        """It runs, and the same number given to a later process would not be it."""
        write_status(tmp_path, status_of(STATE, connected=True, trainer_pid=None))
        status = read_status(tmp_path)
        assert is_alive(status)
        assert not is_alive(structs.replace(status, started=status.started + 1))

    def test_a_process_that_has_ended(self, tmp_path: Path) -> None:
        """Also before its parent has taken notice."""
        write_status(tmp_path, status_of(STATE, connected=True, trainer_pid=None))
        status = read_status(tmp_path)
        child = subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.DEVNULL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        started = int(Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19])
        zombie = structs.replace(status, pid=child.pid, started=started)
        assert not is_alive(zombie)
        child.wait()
        assert not is_alive(zombie)

    def test_resident_memory(self) -> None:
        """Between a megabyte and a terabyte."""
        assert 1 << 20 < resident_bytes() < 1 << 40


class TestHidden:
    """A process of the same service in a user namespace of its own shows nothing of itself."""

    def test_it_takes_a_signal_all_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """And so it lives."""
        status = _status(os.getpid())
        assert is_alive(status)
        monkeypatch.setattr(Path, "exists", lambda _: False)
        monkeypatch.setattr(Path, "read_text", _missing)
        assert is_alive(status)

    def test_one_that_has_ended_takes_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whether it would be seen or not."""
        child = subprocess.Popen([sys.executable, "-c", ""])
        assert not is_alive(_status(0x3FFFFF))
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not is_alive(_status(child.pid))  # seen, and not yet missed by its parent
        child.wait()
        assert not is_alive(_status(child.pid))


def _status(pid: int) -> Status:
    return structs.replace(
        msgspec.json.decode(status_of(STATE, connected=True, trainer_pid=None), type=Status),
        pid=pid,
    )


def _missing(path: Path) -> str:
    raise FileNotFoundError(path)
