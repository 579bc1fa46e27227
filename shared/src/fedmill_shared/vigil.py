# SPDX-License-Identifier: Apache-2.0
"""Tells the service manager that a daemon is ready, what it does, and that all of it advances.

Only the daemon's own loop says so: a loop that hangs says nothing. It asks its parts first, and
says nothing for a part that hangs either. The manager then ends the process and starts another.
"""

from collections.abc import Callable, Mapping

from fedmill_shared.clock import Clock
from fedmill_shared.log import Logger
from fedmill_shared.notify import Notifier

STATUS_SECONDS = 5.0
OFTEN = 4
"""Signs of life in the time in which one is wanted: a machine may be slow."""

AGAIN_SECONDS = 1.0
STEP_SECONDS = 300.0
"""The longest time between two steps of a start."""

Look = Callable[[], Mapping[str, float]]
"""Parts that hang, by name, and for how many seconds they have been overdue."""


class Vigil:
    """Owns the word of one daemon to its service manager; used by its loop alone."""

    def __init__(self, notifier: Notifier, clock: Clock, log: Logger) -> None:
        """Nothing is said before ``begin``."""
        self._notifier = notifier
        self._clock = clock
        self._log = log
        self._begun = False
        self._ready = False
        self._told = ""
        self._status_due = 0.0
        self._sign_due = 0.0
        self._missing: frozenset[str] = frozenset()

    def begin(self) -> None:
        """The daemon is ready from now on."""
        self._begun = True
        self._status_due = 0.0

    def turn(self, status: Callable[[], str], look: Look) -> None:
        """Say what is due; the loop has come round once more.

        ``status`` is asked every few seconds, ``look`` before each sign of life.
        """
        if not self._notifier.listened_to or not self._begun:
            return
        now = self._clock.monotonic()
        if now >= self._status_due:
            self._status_due = now + STATUS_SECONDS
            self._tell(status())
        if self._notifier.watchdog_seconds and now >= self._sign_due:
            if self._advances(look()):
                self._sign_due = now + self._notifier.watchdog_seconds / OFTEN
                self._notifier.alive()
            else:  # what hung may have waited for this loop alone
                self._sign_due = now + AGAIN_SECONDS

    def step(self) -> None:
        """The start, or something else that takes long and that the loop is busy with, advances.

        No part is asked: threads that hand in to the loop wait for it meanwhile.
        """
        if not self._begun:
            self._notifier.patience(STEP_SECONDS)
            return
        now = self._clock.monotonic()
        if self._notifier.watchdog_seconds and now >= self._sign_due:
            self._sign_due = now + self._notifier.watchdog_seconds / OFTEN
            self._notifier.alive()

    def end(self) -> None:
        """The daemon was asked to end, and does."""
        self._notifier.stopping()

    def _tell(self, status: str) -> None:
        if not self._ready:
            self._ready = self._notifier.ready(status)
            self._told = status if self._ready else ""
        elif status != self._told and self._notifier.status(status):
            self._told = status

    def _advances(self, late: Mapping[str, float]) -> bool:
        missing = frozenset(late)
        for part in sorted(missing - self._missing):
            self._log.error(
                "watchdog.withheld",
                part=part,
                overdue_seconds=round(late[part]),
                remedy="the service manager starts the process anew, unless the part goes on",
            )
        if self._missing and not missing:
            self._log.info("watchdog.resumed")
        self._missing = missing
        return not missing
