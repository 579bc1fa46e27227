# SPDX-License-Identifier: Apache-2.0
"""What follows from something that is durable already, and has to be done whatever fails."""

from collections import deque
from collections.abc import Callable


class Agenda:
    """Owns the acts that are due, in their order."""

    def __init__(self) -> None:
        """Nothing is due."""
        self._due: deque[Callable[[], None]] = deque()

    def follow(self, *acts: Callable[[], None]) -> None:
        """Do what is due, and then ``acts``.

        Raises:
            StoreError: the disk fails an act; it and those after it are due the next time.
        """
        self._due.extend(acts)
        while self._due:
            self._due[0]()
            self._due.popleft()
