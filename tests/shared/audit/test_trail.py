# SPDX-License-Identifier: Apache-2.0
"""A daemon goes on where its audit log cannot be written, and says what is missing."""

from pathlib import Path

import pytest
import structlog
from structlog.testing import CapturingLogger, LogCapture

from fedmill_shared.audit import AuditLog
from fedmill_shared.audit.trail import Trail
from fedmill_shared.audit.verifying import entries
from fedmill_shared.clock import ManualClock


@pytest.fixture
def events() -> LogCapture:
    """What was logged."""
    return LogCapture()


@pytest.fixture
def trail(tmp_path: Path, events: LogCapture) -> Trail:
    """Into a folder that is not there yet."""
    log = structlog.wrap_logger(CapturingLogger(), processors=[events])
    return Trail(AuditLog(tmp_path / "state" / "audit.jsonl", ManualClock()), log)


def _record(trail: Trail, subject: str) -> None:
    trail.record(who="daemon", what="model.installed", subject=subject, before="a", after="b")


def test_failure_is_logged_and_counted(trail: Trail, events: LogCapture) -> None:
    """With what could not be recorded."""
    _record(trail, "press")
    _record(trail, "mill")
    assert trail.failed == 2
    assert [each["event"] for each in events.entries] == ["audit.failed"] * 2
    assert events.entries[1]["subject"] == "mill"
    assert "audit.jsonl" in events.entries[1]["error"]


def test_each_is_counted_by_others_too(trail: Trail, tmp_path: Path) -> None:
    """Also those from before somebody counted; what is written is not."""
    counted: list[str] = []
    _record(trail, "press")
    trail.count(lambda: counted.append("lost"))
    assert counted == ["lost"]
    _record(trail, "mill")
    (tmp_path / "state").mkdir()
    _record(trail, "saw")
    assert len(counted) == trail.failed == 2


def test_what_was_lost_is_told_when_the_disk_is_back(trail: Trail, tmp_path: Path) -> None:
    """Once, before the next record."""
    _record(trail, "press")
    _record(trail, "mill")
    (tmp_path / "state").mkdir()
    _record(trail, "saw")
    _record(trail, "drill")
    told = [(each.what, each.after) for each in entries(tmp_path / "state" / "audit.jsonl")]
    assert told == [
        ("audit.lost", "2 records could not be written"),
        ("model.installed", "b"),
        ("model.installed", "b"),
    ]
    assert trail.failed == 2


def test_log_that_is_broken(trail: Trail, tmp_path: Path, events: LogCapture) -> None:
    """Is a failure like that of a disk."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "audit.jsonl").write_bytes(b"nonsense\n")
    _record(trail, "press")
    assert trail.failed == 1
    assert "does not end with a record" in events.entries[0]["error"]
