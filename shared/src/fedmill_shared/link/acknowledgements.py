# SPDX-License-Identifier: Apache-2.0
"""Who waits for which message to be acknowledged.

A broker on the same machine may acknowledge a message on the link's thread before the thread that
published it has learned its number, and numbers are used again. So every message is entered, also
those that nobody waits for.
"""

import threading
from collections.abc import Callable

Done = Callable[[], None]


class Acknowledgements:
    """Owns the numbers of messages that are on their way; threads share it."""

    def __init__(self) -> None:
        """None is."""
        self._lock = threading.Lock()
        self._awaited: dict[int, Done | None] = {}
        self._early: set[int] = set()

    def enter(self, number: int, done: Done | None) -> bool:
        """The message ``number`` was published; whether it is acknowledged already."""
        with self._lock:
            if number in self._early:
                self._early.discard(number)
                return True
            self._awaited[number] = done
            return False

    def take(self, number: int) -> Done | None:
        """The message ``number`` is acknowledged; whom to tell, if that is known by now."""
        with self._lock:
            if number not in self._awaited:
                self._early.add(number)
                return None
            return self._awaited.pop(number)
