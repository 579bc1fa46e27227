# SPDX-License-Identifier: Apache-2.0
"""Where every thread of the agent hands in what happened, and one loop takes it out."""

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """Two queues in one: control events always go first, bulk events wait for room.

    Bulk is bounded, so a fast source waits for the loop instead of filling the memory; control is
    what the network and the trainer say, small and bounded by their own windows.
    """

    def __init__(self, *, bulk_limit: int) -> None:
        """An empty inbox that holds at most ``bulk_limit`` bulk events."""
        self._control: deque[T] = deque()
        self._bulk: deque[T] = deque()
        self._bulk_limit = bulk_limit
        self._changed = threading.Condition()
        self._closed = False

    def put(self, event: T) -> None:
        """Hand in a control event; never waits."""
        with self._changed:
            self._control.append(event)
            self._changed.notify_all()

    def put_bulk(self, event: T) -> bool:
        """Hand in a bulk event, waiting for room; False if the inbox was closed instead."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._bulk) < self._bulk_limit)
            if self._closed:
                return False
            self._bulk.append(event)
            self._changed.notify_all()
            return True

    def get(self, timeout: float) -> T | None:
        """The next event, control first; None after ``timeout`` seconds without any."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._control or self._bulk), timeout)
            if self._control:
                return self._control.popleft()
            if self._bulk:
                event = self._bulk.popleft()
                self._changed.notify_all()
                return event
            return None

    def close(self) -> None:
        """Let go of everybody who waits to hand in."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
