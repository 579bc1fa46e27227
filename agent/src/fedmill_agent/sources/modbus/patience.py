# SPDX-License-Identifier: Apache-2.0
"""How long what failed is left alone."""

from dataclasses import dataclass
from random import Random

_EXCUSED = 2


@dataclass(slots=True)
class Patience:
    """Owns the failures of one thing: it is tried again after a pause that doubles, with jitter.

    Attributes:
        first: longest pause (s) after the first failure.
        most: longest pause (s).
        failures: in a row.
    """

    first: float
    most: float
    random: Random
    failures: int = 0
    _until: float = 0.0

    def failed(self, now: float) -> None:
        """Count a failure at ``now`` (s): the pause is half to all of what the doubling gives."""
        pause = min(self.most, self.first * 2.0 ** min(self.failures, 32))
        self._until = now + pause * self.random.uniform(0.5, 1.0)
        self.failures += 1

    def forget(self) -> None:
        """It works again."""
        self.failures = 0
        self._until = 0.0

    def excuse(self) -> None:
        """It was late and not dead: no pause, but for the first failures only."""
        if self.failures <= _EXCUSED:
            self._until = 0.0

    def hurry(self) -> None:
        """Something has changed: no pause."""
        self._until = 0.0

    def may(self, now: float) -> bool:
        """Whether it is to be tried at ``now`` (s)."""
        return now >= self._until
