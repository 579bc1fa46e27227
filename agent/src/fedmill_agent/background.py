# SPDX-License-Identifier: Apache-2.0
"""One thread for what would hold up the daemon's loop.

Sessions are made and measured there, layers fitted and thresholds computed. All jobs share it, so
that a gateway never does two such things at once.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from fedmill_shared.clock import Clock, SystemClock
from fedmill_shared.errors import FedmillError, ModelError
from fedmill_shared.pulse import Pulse

T = TypeVar("T")
Call = Callable[[], object]
JOIN_SECONDS = 5.0
LINGER_SECONDS = 2.0
"""How long the thread waits for more work: to begin another holds up the loop for some ms."""
STUCK_SECONDS = 3600.0
"""No piece of work takes longer on the slowest gateway: certificates, checks and installations
would wait behind one that hangs, and nobody would know."""


class Background:
    """Does one piece of work after the other; what each gives comes back on the loop.

    Without a loop to come back to, work is done at once, by whoever hands it in.
    """

    def __init__(
        self, post: Callable[[Call], object] | None = None, clock: Clock | None = None
    ) -> None:
        """``post`` has a function called on the loop; the thread ends a while after its work."""
        self._post = post
        self._pulse = Pulse(clock or SystemClock(), STUCK_SECONDS)
        self._lock = threading.Condition()
        self._work: deque[Call] = deque()
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def late(self) -> float:
        """Seconds for which a piece of work has been overdue; 0 while it advances."""
        return self._pulse.late

    def submit(
        self,
        work: Callable[[], T],
        done: Callable[[T], object],
        failed: Callable[[FedmillError], object],
    ) -> None:
        """Do ``work``; on the loop, ``done`` gets what it gives, ``failed`` what it raises."""

        def attempt() -> None:
            try:
                given = work()
            except FedmillError as error:
                self._back(lambda error=error: failed(error))  # type: ignore[misc]
            except MemoryError:
                self._back(lambda: failed(ModelError("there is too little memory for it")))
            else:
                self._back(lambda: done(given))

        if self._post is None:
            attempt()
            return
        with self._lock:
            if self._closed:
                return
            self._work.append(attempt)
            self._lock.notify()
            if self._thread is None:
                self._begin()

    def close(self) -> None:
        """Drop what waits, and wait for what is being done."""
        with self._lock:
            self._closed = True
            self._work.clear()
            self._lock.notify()
            thread = self._thread
        if thread is not None:
            thread.join(JOIN_SECONDS)

    def _begin(self) -> None:
        self._thread = threading.Thread(target=self._run, name="background", daemon=True)
        self._thread.start()

    def _back(self, call: Call) -> None:
        if self._post is None:
            call()
        else:
            self._post(call)

    def _run(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._work or self._closed, LINGER_SECONDS)
                if not self._work:
                    self._thread = None
                    return
                attempt = self._work.popleft()
            self._pulse.beat()
            try:
                attempt()
            except BaseException:  # a fault of the program: told as such, and what waits goes on
                self._pulse.end()
                with self._lock:
                    self._thread = None
                    if self._work:
                        self._begin()
                raise
            self._pulse.end()
