# SPDX-License-Identifier: Apache-2.0
"""What works in a thread of its own until it is asked to end."""

import threading
from abc import ABC, abstractmethod


class Threaded(ABC):
    """Owns a thread, which runs ``_run`` once and looks now and then whether it was stopped.

    The process does not wait for it at its end.
    """

    def __init__(self, name: str) -> None:
        """``name`` is that of the thread."""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; this does not wait for it."""
        self._stopped.set()

    def join(self, timeout: float) -> None:
        """Wait until it has, at most ``timeout`` seconds; not where it never began."""
        if self._thread.is_alive():
            self._thread.join(timeout)

    @abstractmethod
    def _run(self) -> None:
        """The work."""
