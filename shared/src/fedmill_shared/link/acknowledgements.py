# SPDX-License-Identifier: Apache-2.0
"""Who waits for which message to be answered.

A broker on the same machine may answer a message on the link's thread before the thread that
published it has learned its number, and numbers are used again. So every message is entered, also
those that nobody waits for.
"""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class Acknowledgements(Generic[Answer]):
    """Owns the numbers of messages that are on their way; threads share it."""

    def __init__(self) -> None:
        """None is."""
        self._lock = threading.Lock()
        self._awaited: dict[int, Callable[[Answer], None] | None] = {}
        self._early: dict[int, Answer] = {}

    def enter(self, number: int, done: Callable[[Answer], None] | None) -> None:
        """The message ``number`` was published; ``done`` is told at once if it is answered."""
        with self._lock:
            if number not in self._early:
                self._awaited[number] = done
                return
            answer = self._early.pop(number)
        if done is not None:
            done(answer)

    def take(self, number: int, answer: Answer) -> None:
        """The message ``number`` is answered: who waits is told, now or when it is entered."""
        with self._lock:
            if number not in self._awaited:
                self._early[number] = answer
                return
            done = self._awaited.pop(number)
        if done is not None:
            done(answer)
