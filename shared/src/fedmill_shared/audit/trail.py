# SPDX-License-Identifier: Apache-2.0
"""What a daemon records: a disk that fails is told, and the daemon goes on."""

from collections.abc import Callable

from fedmill_shared.audit import DAEMON, AuditLog
from fedmill_shared.errors import AuditError, StoreError
from fedmill_shared.log import Logger


class Trail:
    """Records what a daemon does, and afterwards how much could not be recorded.

    Attributes:
        failed: records that could not be written since the start.
    """

    def __init__(self, audit: AuditLog, log: Logger) -> None:
        """Write to ``audit``."""
        self._audit = audit
        self._log = log
        self._lost = 0
        self._tell: Callable[[], object] = int
        self.failed = 0

    def count(self, tell: Callable[[], object]) -> None:
        """Have ``tell`` called for each record that cannot be written, or could not before now."""
        self._tell = tell
        for _ in range(self.failed):
            tell()

    def record(
        self, *, who: str, what: str, subject: str, before: str = "", after: str = ""
    ) -> None:
        """Record it, or log ``audit.failed`` and count it."""
        try:
            if self._lost:
                lost = f"{self._lost} records could not be written"
                self._audit.record(who=DAEMON, what="audit.lost", subject="audit", after=lost)
                self._lost = 0
            self._audit.record(who=who, what=what, subject=subject, before=before, after=after)
        except (StoreError, AuditError) as error:
            self._lost += 1
            self.failed += 1
            self._tell()
            self._log.error("audit.failed", what=what, subject=subject, error=str(error))

    def head(self) -> str:
        """Number and digest of the last record; empty where it cannot be read."""
        try:
            return str(self._audit.head())
        except (StoreError, AuditError):
            return ""
