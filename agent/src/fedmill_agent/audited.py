# SPDX-License-Identifier: Apache-2.0
"""The audit log as the daemon writes it: on the thread that waits for a slow disk, in turn."""

from collections import deque
from functools import partial
from pathlib import Path

from fedmill_agent.background import Background
from fedmill_agent.config import AgentSection
from fedmill_agent.inference.installing.around import nothing
from fedmill_shared.audit import FILE, AuditLog
from fedmill_shared.audit.trail import Trail
from fedmill_shared.clock import Clock
from fedmill_shared.log import Logger


def audit_log(section: AgentSection, clock: Clock, folder: Path | None = None) -> AuditLog:
    """The audit log of an agent; ``folder`` is its state folder, where it has another path now."""
    state = Path(section.state) if folder is None else folder
    return AuditLog(state / FILE, clock, max_bytes=section.audit_max_bytes)


class AuditDesk:
    """Takes records without waiting for the disk; it raises nothing, and drops none."""

    def __init__(self, section: AgentSection, clock: Clock, log: Logger) -> None:
        """Records are written at once until ``through`` names a thread for it."""
        audit = audit_log(section, clock)
        self._path = audit.path
        self._trail = Trail(audit, log)
        self._disk = Background()
        self._waiting: deque[partial[None]] = deque()
        self._seen: tuple[int, int] | None = None
        self._head = ""

    @property
    def failed(self) -> int:
        """Records that could not be written since the start."""
        return self._trail.failed

    def through(self, disk: Background) -> None:
        """Write by ``disk`` from now on."""
        self._disk = disk

    def record(
        self, *, who: str, what: str, subject: str, before: str = "", after: str = ""
    ) -> None:
        """Have it recorded soon; a failure is logged as ``audit.failed``."""
        told = {"who": who, "what": what, "subject": subject, "before": before, "after": after}
        self._waiting.append(partial(self._trail.record, **told))
        self._disk.submit(self._write, lambda _: nothing(), lambda _: nothing())

    def close(self) -> None:
        """Write what still waits, here and now; the thread has ended."""
        self._disk = Background()
        self._write()

    def head(self) -> str:
        """Number and digest of the last record, whoever wrote it; empty before the first."""
        try:
            stat = self._path.stat()
        except OSError:
            return ""
        seen = stat.st_ino, stat.st_size
        if seen != self._seen:
            self._head, self._seen = self._trail.head(), seen
        return self._head

    def _write(self) -> None:
        while True:
            try:
                write = self._waiting.popleft()
            except IndexError:
                return
            write()
