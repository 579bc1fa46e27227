# SPDX-License-Identifier: Apache-2.0
"""Where every thread of a daemon hands in what happened, and one loop takes it out."""

import threading
from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """Queues in one, the lanes: the lowest number goes first, and each keeps its order.

    Who hands in to a bounded lane waits for room: a source reads no faster than the loop scores,
    and a network thread that waits leaves the rest with the broker.
    """

    def __init__(self, limits: Sequence[int]) -> None:
        """Empty lanes, one for each of ``limits``: the events it holds at most, 0 for any number.

        An unbounded lane is for what is small and bounded by its own nature.
        """
        self._lanes: list[tuple[int, deque[T]]] = [(limit, deque()) for limit in limits]
        self._changed = threading.Condition()
        self._closed = False

    def put(self, event: T, lane: int) -> bool:
        """Hand in an event, waiting for room in a bounded lane; False if the inbox is closed."""
        limit, events = self._lanes[lane]
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not limit or len(events) < limit)
            if self._closed:
                return False
            events.append(event)
            self._changed.notify_all()
            return True

    def get(self, timeout: float) -> T | None:
        """The next event of the lowest lane that has one; None after ``timeout`` seconds.

        A closed inbox still gives what it holds, and then None at once.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._first() is not None, timeout)
            first = self._first()
            if first is None:
                return None
            event = first.popleft()
            self._changed.notify_all()
            return event

    def waiting(self, lane: int) -> int:
        """Events that wait in a lane."""
        return len(self._lanes[lane][1])

    def close(self) -> None:
        """Let go of everybody who waits; nothing is taken in any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _first(self) -> deque[T] | None:
        return next((events for _, events in self._lanes if events), None)
