# SPDX-License-Identifier: Apache-2.0
"""``fedmill-agent audit``."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fedmill_agent.cli import main
from fedmill_agent.config import load
from fedmill_shared.audit import FILE, AuditLog
from fedmill_shared.clock import ManualClock

Configure = Callable[..., Path]


@pytest.fixture
def config(configure: Configure) -> Path:
    """An agent that has done three things."""
    path = configure()
    state = Path(load(path).agent.state)
    state.mkdir(exist_ok=True)
    log = AuditLog(state / FILE, ManualClock())
    for number in range(3):
        log.record(who="daemon", what="model.served", subject=f"press {number}", after="abc")
    return path


def _log(config: Path) -> AuditLog:
    return AuditLog(Path(load(config).agent.state) / FILE, ManualClock())


def test_whole(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """How many records there are, and the head."""
    assert main(["audit", "verify", str(config)]) == 0
    told = capsys.readouterr().out
    assert "records 1 to 3, chain whole" in told
    assert f"head {_log(config).head()}" in told


def test_changed(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 26, and the line."""
    path = _log(config).path
    path.write_bytes(path.read_bytes().replace(b"press 0", b"press X"))
    assert main(["audit", "verify", str(config)]) == 26
    told = capsys.readouterr()
    assert "audit.jsonl, line 2: record 1, the one before, is not as it was" in told.out
    assert "the audit log is broken" in told.err


def test_shortened(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A head that was kept elsewhere tells."""
    log = _log(config)
    head = str(log.head())
    log.path.write_bytes(b"".join(log.path.read_bytes().splitlines(keepends=True)[:2]))
    assert main(["audit", "verify", str(config)]) == 0
    assert main(["audit", "verify", str(config), "--head", head, "--json"]) == 26
    last = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(last)["flaws"][0]["problem"].startswith("the log was shortened")


def test_show(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each of the last records, or all fields of all."""
    assert main(["audit", "show", str(config), "--last", "1"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line == "     3  2023-11-14 22:13:20  daemon  model.served  press 2: - -> abc"
    assert main(["audit", "show", str(config), "--last", "0", "--json"]) == 0
    assert [each["n"] for each in json.loads(capsys.readouterr().out)] == [1, 2, 3]


def test_changed_records_steer_no_terminal(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever can write the file can write what no record of ours has."""
    path = _log(config).path
    path.write_bytes(path.read_bytes().replace(b"press 2", rb"\u001b[2Jpress"))
    assert main(["audit", "show", str(config)]) == 0
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert "[2Jpress" in told


def test_fewer_than_none(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2."""
    assert main(["audit", "show", str(config), "--last", "-1"]) == 2
    assert "--last" in capsys.readouterr().err


def test_none_yet(configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 21."""
    assert main(["audit", "verify", str(configure())]) == 21
    assert FILE in capsys.readouterr().err
