# SPDX-License-Identifier: Apache-2.0
"""What is said of a machine, beside a daemon that works on."""

import os
from pathlib import Path

import pytest

from fedmill_shared.audit import FILE, AuditLog
from fedmill_shared.clock import ManualClock
from fedmill_shared.support import machine


def test_files_that_go_away_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon renames its temporary files all the time; the others are listed."""
    for name in ("a", ".status.tmp", "c/d"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    real = Path.lstat

    def gone(path: Path) -> os.stat_result:
        if path.name == ".status.tmp":
            path.unlink(missing_ok=True)
        return real(path)

    monkeypatch.setattr(Path, "lstat", gone)
    assert [each["name"] for each in machine.listing(tmp_path)] == ["a", "c/", "c/d"]


def test_of_many_files_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And that there are more."""
    monkeypatch.setattr(machine, "MOST_FILES", 2)
    for name in "abc":
        (tmp_path / name).touch()
    assert [each["name"] for each in machine.listing(tmp_path)] == ["a", "b", "..."]


def test_of_the_audit_log_the_last_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it is: it is never held in memory whole."""
    monkeypatch.setattr(machine, "AUDIT_RECORDS", 2)
    log = AuditLog(tmp_path / FILE, ManualClock())
    for number in range(5):
        log.record(who="anna", what="job.paused", subject=str(number))
    found = machine.audited(tmp_path / FILE)
    records = found["records"]
    assert isinstance(records, list)
    assert [each.subject for each in records] == ["3", "4"]
