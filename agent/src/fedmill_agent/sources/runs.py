# SPDX-License-Identifier: Apache-2.0
"""Which part or batch was in the machine when, as a tag of the source tells it."""

from collections import deque
from dataclasses import dataclass, field

from fedmill_agent.sources.live import GOOD, Readings

MOST_RUNS = 4096
"""Changes that wait for samples; of more the oldest are forgotten."""


@dataclass(slots=True)
class Runs:
    """Owns the changes that no sample has come to yet.

    Attributes:
        unit: the machine, which begins every name.
        current: name of the run at the last sample; empty for none.
    """

    unit: str
    current: str = ""
    _coming: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=MOST_RUNS))

    def push(self, readings: Readings) -> None:
        """Take in what the tag says; while it says nothing good, or 0, there is no run."""
        last = len(readings) - 1
        for index in range(len(readings)):
            name = readings.text if index == last else ""
            if not name and readings.quality[index] == GOOD and readings.values[index]:
                name = f"{readings.values[index]:.15g}"
            run = f"{self.unit}/{name}" if name else ""
            if run != (self._coming[-1][1] if self._coming else self.current):
                self._coming.append((int(readings.times_ns[index]), run))

    @property
    def change_ns(self) -> int | None:
        """When the next change comes; None if none is known."""
        return self._coming[0][0] if self._coming else None

    def turn(self) -> str | None:
        """Make the next change; the name of the run that it ends, None if it ends none."""
        before, self.current = self.current, self._coming.popleft()[1]
        return before if before and before != self.current else None

    def forget(self) -> None:
        """What was to come."""
        self._coming.clear()
