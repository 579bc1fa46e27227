# SPDX-License-Identifier: Apache-2.0
"""The agent's audit log is written beside the loop, in turn, and whole at the end."""

from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from fedmill_agent.audited import AuditDesk, audit_log
from fedmill_agent.background import Background
from fedmill_agent.config import AgentSection
from fedmill_shared.audit import FILE, AuditLog
from fedmill_shared.audit.files import full_files
from fedmill_shared.audit.verifying import entries, verify
from fedmill_shared.clock import ManualClock


def section(folder: Path, **fields: int) -> AgentSection:
    """Of an agent whose state is in ``folder``."""
    return AgentSection(id="gw1", state=str(folder), **fields)


@pytest.fixture
def desk(tmp_path: Path) -> AuditDesk:
    """Of an agent without a thread yet."""
    return AuditDesk(section(tmp_path), ManualClock(), structlog.get_logger())


def _record(desk: AuditDesk, subject: str) -> None:
    desk.record(who="daemon", what="model.served", subject=subject, before="a", after="b")


class Slow(Background):
    """A thread that has not come to its work yet."""

    def __init__(self) -> None:
        super().__init__()
        self.work: list[Callable[[], object]] = []

    def submit(
        self,
        work: Callable[[], object],
        done: Callable[..., object],
        failed: Callable[..., object],
    ) -> None:
        """Leave it."""
        self.work.append(work)


def test_waits_for_no_disk(desk: AuditDesk, tmp_path: Path) -> None:
    """The loop goes on; the thread writes in the order of what happened."""
    slow = Slow()
    desk.through(slow)
    for subject in ("one", "two", "three"):
        _record(desk, subject)
    assert not (tmp_path / "audit.jsonl").exists()
    slow.work[0]()
    assert [each.subject for each in entries(tmp_path / "audit.jsonl")] == ["one", "two", "three"]


def test_nothing_is_lost_at_the_end(desk: AuditDesk, tmp_path: Path) -> None:
    """What the thread did not come to is written by whoever closes."""
    desk.through(Slow())
    _record(desk, "one")
    desk.close()
    _record(desk, "two")
    assert verify(tmp_path / "audit.jsonl").records == 2


def test_head_follows_every_writer(desk: AuditDesk, tmp_path: Path) -> None:
    """Commands write the same log; an unchanged file is not read again."""
    assert desk.head() == ""
    _record(desk, "one")
    log = AuditLog(tmp_path / "audit.jsonl", ManualClock())
    assert desk.head() == str(log.head())
    log.record(who="anna", what="enrolled", subject="gw1")
    assert desk.head() == str(log.head())
    assert desk.head().startswith("2:")


def test_disk_that_fails_ends_nothing(desk: AuditDesk, tmp_path: Path) -> None:
    """It is told as an event."""
    (tmp_path / "audit.jsonl").mkdir()
    with capture_logs() as logs:
        _record(desk, "one")
    assert [each["event"] for each in logs] == ["audit.failed"]
    assert desk.failed == 1
    assert desk.head() == ""


def test_is_as_large_as_the_configuration_lets_it(tmp_path: Path) -> None:
    """The daemon and the commands keep to one bound; the newest records stay."""
    log = audit_log(section(tmp_path, audit_max_bytes=40_000), ManualClock())
    for number in range(200):
        log.record(who="anna", what="test.done", subject=str(number), after="x" * 500)
    assert sum(each.stat().st_size for each in [*full_files(log.path), log.path]) <= 50_000
    verdict = verify(log.path)
    assert verdict.ok, verdict.flaws
    assert verdict.first > 100


def test_folder_that_has_another_path_now(tmp_path: Path) -> None:
    """As where root acts as its owner, from within."""
    assert audit_log(section(Path("state")), ManualClock(), tmp_path).path == tmp_path / FILE
