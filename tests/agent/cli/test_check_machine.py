# SPDX-License-Identifier: Apache-2.0
"""What ``fedmill-agent check`` says of identity, trust, audit log and machine."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fedmill_agent.cli import main
from fedmill_agent.config import load
from fedmill_shared.audit import FILE, AuditLog
from fedmill_shared.clock import ManualClock

Configure = Callable[..., Path]


def _check(config: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main(["check", str(config), "--offline"])
    return code, capsys.readouterr().out


@pytest.fixture
def state(configure: Configure) -> Path:
    """The state folder of an agent that has run."""
    folder = Path(load(configure()).agent.state)
    folder.mkdir(mode=0o700)
    AuditLog(folder / FILE, ManualClock()).record(who="daemon", what="agent.started", subject="a")
    return folder


def test_plain_agent(configure: Configure, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is wrong, and nothing is said of what it has not."""
    code, told = _check(configure(), capsys)
    assert code == 0
    assert not [line for line in told.splitlines() if line.startswith(("identity", "trust"))]
    assert "audit log: 1 records, whole" in told


def test_certificate_that_is_missing(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 24, and its file."""
    code, told = _check(configure(extra="[broker.tls]"), capsys)
    assert code == 24
    assert "certificate.pem" in told


def test_root_that_is_missing(configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 25, and where it comes from."""
    code, told = _check(configure(extra='[trust]\nroot = "none.json"'), capsys)
    assert code == 25
    assert "none.json: no such file (copy root.json" in told


def test_broken_audit_log(
    configure: Configure, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 26, and the line."""
    (state / FILE).write_text("nonsense\n")
    code, told = _check(configure(), capsys)
    assert code == 26
    assert "line 1: this is no record" in told


def test_folder_that_others_may_read(
    configure: Configure, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A note with the remedy."""
    state.chmod(0o755)
    assert "others may read windows and keys; chmod 700 it" in _check(configure(), capsys)[1]


def test_clock_that_nobody_sets(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Certificates are judged by it."""
    monkeypatch.setenv("PATH", "/nowhere")
    told = _check(configure(extra="[broker.tls]"), capsys)[1]
    assert "nothing says that the clock is right" in told
