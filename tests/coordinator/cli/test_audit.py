# SPDX-License-Identifier: Apache-2.0
"""``fedmill audit``, and what the commands record before they give an order."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import structlog
from click.testing import Result

from fedmill_coordinator.anchors import FOLDER, Anchors
from fedmill_coordinator.cli import orders
from fedmill_coordinator.store.sql import SqlStore
from fedmill_shared.audit import FILE, AuditLog
from fedmill_shared.audit.person import who
from fedmill_shared.audit.verifying import entries
from fedmill_shared.clock import ManualClock

Run = Callable[..., Result]


def _log(path: Path, count: int = 3) -> AuditLog:
    path.parent.mkdir(exist_ok=True)
    log = AuditLog(path, ManualClock())
    for number in range(count):
        log.record(who="anna", what="order.pause", subject=f"job {number}", after="paused")
    return log


@pytest.fixture
def log(empty: Path) -> AuditLog:
    """Three records of the coordinator."""
    return _log(empty.parent / "state" / FILE)


@pytest.fixture
def heads(empty: Path, log: AuditLog) -> Anchors:
    """What agents told of their logs."""
    return Anchors(empty.parent / "state" / FOLDER, structlog.get_logger())


class TestVerify:
    def test_whole_log(self, run: Run, empty: Path, log: AuditLog) -> None:
        """Its head is shown, to be kept elsewhere."""
        result = run("audit", "verify", "--config", empty)
        assert result.exit_code == 0
        assert "records 1 to 3, chain whole" in result.stdout
        assert f"head {log.head()}" in result.stdout
        assert "only a head kept elsewhere" in result.stdout

    def test_changed_log(self, run: Run, empty: Path, log: AuditLog) -> None:
        """Exit code 26, with file and line."""
        log.path.write_bytes(log.path.read_bytes().replace(b"job 1", b"job X"))
        result = run("audit", "verify", "--config", empty)
        assert result.exit_code == 26
        assert "audit.jsonl, line 3: record 2, the one before, is not as it was" in result.stdout
        assert "the audit log is broken" in result.stderr

    def test_with_a_head(self, run: Run, empty: Path, log: AuditLog) -> None:
        """What was kept elsewhere shows that the end is missing."""
        head = str(log.head())
        assert run("audit", "verify", "--config", empty, "--head", head).exit_code == 0
        lines = log.path.read_bytes().splitlines(keepends=True)
        log.path.write_bytes(b"".join(lines[:2]))
        result = run("audit", "verify", "--config", empty, "--head", head)
        assert result.exit_code == 26
        assert "shortened: it ends with record 2, and had 3" in result.stdout

    def test_json(self, run: Run, empty: Path, log: AuditLog) -> None:
        """The same for programs."""
        result = run("audit", "verify", "--config", empty, "--json")
        assert json.loads(result.stdout) == {
            "ok": True,
            "records": 3,
            "first": 1,
            "head": str(log.head()),
            "flaws": [],
            "more": 0,
        }

    def test_copy_of_an_agent(self, run: Run, empty: Path, tmp_path: Path, heads: Anchors) -> None:
        """Is judged by what the agent told."""
        copy = _log(tmp_path / "copies" / "gw1.jsonl", 5)
        heads.hear("gw1", str(copy.head()))
        command = ("audit", "verify", "--config", empty, "--agent", "gw1", copy.path)
        assert run(*command).exit_code == 0
        lines = copy.path.read_bytes().splitlines(keepends=True)
        copy.path.write_bytes(b"".join(lines[:4]))
        assert run(*command).exit_code == 26
        assert run("audit", "verify", "--config", empty, copy.path).exit_code == 0

    def test_copy_that_was_written_anew(
        self, run: Run, empty: Path, tmp_path: Path, heads: Anchors
    ) -> None:
        """It is longer than before, so that nobody was alarmed; an earlier head shows it."""
        copy = _log(tmp_path / "copies" / "gw1.jsonl", 5)
        heads.hear("gw1", str(copy.head()))
        copy.path.unlink()
        anew = AuditLog(copy.path, ManualClock())
        for _ in range(9):
            anew.record(who="otto", what="job.paused", subject="mill")
        heads.hear("gw1", str(anew.head()))
        result = run("audit", "verify", "--config", empty, "--agent", "gw1", copy.path)
        assert result.exit_code == 26
        assert "line 5: record 5 is not the one whose head was kept" in result.stdout

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["--agent", "gw1"], "there is none"),
            (["--agent", "gw9", "copy.jsonl"], "no head of its audit log is known"),
            (["--agent", "../x", "copy.jsonl"], "no head of its audit log is known"),
            (["--head", "7"], "N:HASH"),
        ],
    )
    def test_wrong_words(
        self, run: Run, empty: Path, heads: Anchors, words: list[str], told: str
    ) -> None:
        """Exit code 2."""
        result = run("audit", "verify", "--config", empty, *words)
        assert result.exit_code == 2
        assert told in result.stderr

    def test_no_log_yet(self, run: Run, empty: Path) -> None:
        """Exit code 21."""
        result = run("audit", "verify", "--config", empty)
        assert result.exit_code == 21
        assert FILE in result.stderr


class TestShow:
    def test_table(self, run: Run, empty: Path, log: AuditLog) -> None:
        """Who did what, the newest last."""
        result = run("audit", "show", "--config", empty, "--last", "2")
        assert "anna" in result.stdout
        assert "job 2" in result.stdout
        assert "job 0" not in result.stdout

    def test_json(self, run: Run, empty: Path, log: AuditLog) -> None:
        """Every field of every record."""
        rows = json.loads(run("audit", "show", "--config", empty, "--json").stdout)
        assert [each["n"] for each in rows] == [1, 2, 3]
        assert rows[0]["who"] == "anna"


class TestForget:
    def test_is_recorded(self, run: Run, empty: Path, log: AuditLog, heads: Anchors) -> None:
        """With the head that counted before."""
        heads.hear("gw1", f"9:{'a' * 64}")
        assert run("audit", "forget", "--config", empty, "gw1").exit_code == 0
        assert heads.kept("gw1") is None
        last = list(entries(log.path))[-1]
        assert (last.who, last.what, last.subject) == (who(), "audit.forgotten", "gw1")
        assert last.before == f"9:{'a' * 64}"


class TestOrders:
    @pytest.fixture(autouse=True)
    def alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No coordinator runs, and nobody waits for one."""
        monkeypatch.setattr(orders, "WAIT_SECONDS", 0.0)

    def test_are_recorded_with_who_gave_them(self, run: Run, plant: SimpleNamespace) -> None:
        """The user of the operating system, whatever the environment says."""
        run("jobs", "pause", plant.config, "tiny")
        (entry,) = entries(plant.config.parent / "state" / FILE)
        assert (entry.who, entry.what, entry.subject) == (who(), "ordered.pause", "tiny")

    def test_that_cannot_be_recorded_are_not_given(self, run: Run, plant: SimpleNamespace) -> None:
        """As on a full disk: an operator must know who did what."""
        (plant.config.parent / "state" / FILE).mkdir()
        result = run("jobs", "pause", plant.config, "tiny")
        assert result.exit_code == 21
        assert "audit.jsonl: cannot be written" in result.stderr
        with SqlStore.in_file(plant.database) as store:
            assert store.open_orders() == []
