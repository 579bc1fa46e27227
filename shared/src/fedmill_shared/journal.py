# SPDX-License-Identifier: Apache-2.0
"""What a log needs that goes to journald: how grave each line is, and no storm of one kind."""

import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import TextIO

from structlog import DropEvent
from structlog.typing import EventDict

BURST = 60
INTERVAL_SECONDS = 60.0
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_CURBED = ("warning", "error", "critical")


def goes_to_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether ``stream`` is the one that systemd connected to the journal (``JOURNAL_STREAM``)."""
    told = environment.get("JOURNAL_STREAM", "")
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or no file at all
        return False
    return told == f"{found.st_dev}:{found.st_ino}"


class Grave:
    """A processor that puts the priority of sd-daemon(3) before a line that is rendered."""

    def __init__(self, render: Callable[[object, str, EventDict], str]) -> None:
        """``render`` makes the line."""
        self._render = render

    def __call__(self, logger: object, method: str, event: EventDict) -> str:
        """The line, as in ``<3>timestamp=... level=error ...``."""
        level = str(event.get("level", method))
        return f"<{_PRIORITIES.get(level, 6)}>{self._render(logger, method, event)}"


class Calm:
    """A processor that lets 60 warnings and errors of one name through in a minute.

    The last of them says so with ``more_left_out``; the first one after it tells by ``left_out``
    how many there were meanwhile.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` tells seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: dict[str, tuple[float, int]] = {}  # since when, and how many

    def __call__(self, _logger: object, method: str, event: EventDict) -> EventDict:
        """The event, perhaps with a word about others.

        Raises:
            DropEvent: there were too many of them.
        """
        if event.get("level", method) not in _CURBED:
            return event
        name, now = str(event.get("event")), self._clock()
        with self._lock:
            since, count = self._windows.get(name, (now, 0))
            left_out = 0
            if now - since >= INTERVAL_SECONDS:
                since, count, left_out = now, 0, max(0, count - BURST)
            self._windows[name] = (since, count + 1)
        if count >= BURST:
            raise DropEvent
        if left_out:
            event["left_out"] = left_out
        if count == BURST - 1:
            event["more_left_out"] = f"for {INTERVAL_SECONDS - (now - since):.0f} s"
        return event
