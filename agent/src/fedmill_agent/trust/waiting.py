# SPDX-License-Identifier: Apache-2.0
"""Notices that wait until what signs them was checked, or until fresh metadata comes."""

from collections import deque
from dataclasses import dataclass

from fedmill_shared.messages import JobNotice, ReleaseNotice

Notice = JobNotice | ReleaseNotice
PATIENCE_SECONDS = 20.0
"""How long the metadata behind a notice may take to come and to be checked."""
EACH = 2
"""Notices of one kind and job that wait at most: a forged one displaces no true one."""
MOST = 64
"""Notices that wait at most, of all jobs."""


@dataclass(slots=True)
class Held:
    """A notice, until when it is waited for (monotonic s), and whether that was told."""

    notice: Notice
    due: float
    told: bool = False


class Waiting:
    """Owns the notices that could not be taken yet, the oldest first."""

    def __init__(self) -> None:
        """Nothing waits."""
        self._held: deque[Held] = deque()

    def hold(self, notice: Notice, now: float) -> Held:
        """Let ``notice`` wait; one that does already keeps its place."""
        for each in self._held:
            if _same(each.notice, notice):
                each.notice = notice
                return each
        alike = [each for each in self._held if _kind(each.notice) == _kind(notice)]
        if len(alike) >= EACH:
            self._held.remove(alike[0])
        elif len(self._held) >= MOST:
            self._held.popleft()
        held = Held(notice, now + PATIENCE_SECONDS)
        self._held.append(held)
        return held

    def all(self) -> list[Held]:
        """Everything that waits."""
        return list(self._held)

    def drop(self, held: Held) -> None:
        """It is taken, or of no use any more."""
        self._held.remove(held)


def _kind(notice: Notice) -> tuple[type, str]:
    return type(notice), notice.job


def _same(one: Notice, other: Notice) -> bool:
    """Whether the two differ in nothing that is signed."""
    if isinstance(one, JobNotice) and isinstance(other, JobNotice):
        return (one.job, one.text) == (other.job, other.text)
    if isinstance(one, ReleaseNotice) and isinstance(other, ReleaseNotice):
        return (one.job, one.release, one.notice) == (other.job, other.release, other.notice)
    return False
