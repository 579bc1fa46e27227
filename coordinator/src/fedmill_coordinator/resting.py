# SPDX-License-Identifier: Apache-2.0
"""Lets a job rest that the disk has failed, so that the others go on."""

from collections.abc import Iterator
from contextlib import contextmanager

from fedmill_shared.clock import Clock
from fedmill_shared.errors import FedmillError
from fedmill_shared.log import Logger

HOLD_SECONDS = 2.0
"""How long a job rests whose state could not be stored, before it is tried again."""


class Rests:
    """Owns until when each job rests from one kind of work."""

    def __init__(self, clock: Clock, log: Logger, *failures: type[FedmillError]) -> None:
        """No job rests; those that are struck by ``failures`` will."""
        self._clock = clock
        self._log = log
        self._failures = failures
        self._until: dict[str, float] = {}

    def over(self, job: str) -> bool:
        """Whether ``job`` may be worked for."""
        now = self._clock.monotonic()
        return now >= self._until.get(job, now)

    @contextmanager
    def after_failure(self, job: str) -> Iterator[None]:
        """Let ``job`` rest if what is done for it fails; what was not done is due afterwards."""
        try:
            yield
        except self._failures as error:
            self._until[job] = self._clock.monotonic() + HOLD_SECONDS
            self._log.error("store.failed", job=job, error=str(error))
