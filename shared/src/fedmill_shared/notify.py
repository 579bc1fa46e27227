# SPDX-License-Identifier: Apache-2.0
"""What a service says to its service manager: the protocol of systemd's sd_notify(3).

A datagram to the socket that ``NOTIFY_SOCKET`` names, which may be in the abstract namespace. No
library: it is one ``sendto``.
"""

import os
import socket
from collections.abc import MutableMapping

ADDRESS, WATCHDOG, WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
LONGEST_STATUS = 500
"""Characters of one: systemd shows it on a line."""


class Notifier:
    """Knows the way to the service manager; where there is none, nothing is said.

    Attributes:
        watchdog_seconds: how often it wants a sign of life, at the least; 0 for never.
    """

    def __init__(self, address: str = "", watchdog_seconds: float = 0.0) -> None:
        """``address`` is a path, or ``@`` and a name of the abstract namespace; empty for none."""
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.watchdog_seconds = watchdog_seconds if address else 0.0

    @property
    def listened_to(self) -> bool:
        """Whether somebody wants to know."""
        return bool(self._address)

    def ready(self, status: str) -> bool:
        """The service does what it is for; whether that was heard."""
        return self._say(f"READY=1\nSTATUS={_line(status)}")

    def status(self, status: str) -> bool:
        """What it does, in words for people."""
        return self._say(f"STATUS={_line(status)}")

    def alive(self) -> bool:
        """It advances."""
        return self._say("WATCHDOG=1")

    def patience(self, seconds: float) -> bool:
        """Its start advances, and may take as long from now on (systemd 236)."""
        return self._say(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def stopping(self) -> bool:
        """It was asked to end, and ends."""
        return self._say("STOPPING=1\nSTATUS=ends")

    def _say(self, text: str) -> bool:
        """Never waits: a manager that is busy hears of it the next time."""
        if not self._address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as way:
                way.setblocking(False)
                way.sendto(text.encode("utf-8", "replace"), self._address)
        except OSError:
            return False
        return True


def notifier(environment: MutableMapping[str, str]) -> Notifier:
    """The service manager that ``environment`` names, which no child of this process is to reach.

    Its names are taken out. A watchdog that is for another process, or is no number, is none.
    """
    address = environment.pop(ADDRESS, "")
    interval, process = environment.pop(WATCHDOG, ""), environment.pop(WATCHDOG_PID, "")
    if address[:1] not in ("/", "@") or len(address) < 2:  # what sd_notify(3) refuses, too
        return Notifier()
    ours = interval.isdecimal() and process in ("", str(os.getpid()))
    return Notifier(address, int(interval) / 1e6 if ours else 0.0)


def _line(text: str) -> str:
    """``text`` as one line: another would be an assignment of its own."""
    return " ".join(text.split())[:LONGEST_STATUS]
