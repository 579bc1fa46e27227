# SPDX-License-Identifier: Apache-2.0
"""A socket on which a whole answer has one deadline, however slowly its bytes trickle."""

import io
import socket
import time
from typing import Any


class DeadlineSocket:
    """What ``http.client`` needs of a socket; every wait on it ends at the deadline."""

    def __init__(self, plain: socket.socket) -> None:
        """Own ``plain``, connected, perhaps with TLS on it."""
        self._plain = plain
        self._end = 0.0
        self._readers = 0
        self._closed = False

    def allow(self, seconds: float) -> None:
        """From now on everything has to be done within so many seconds."""
        self._end = time.monotonic() + seconds

    def wait(self) -> None:
        """Set how long the next call may take.

        Raises:
            TimeoutError: the deadline is over.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline is over")
        self._plain.settimeout(left)

    def sendall(self, data: Any) -> None:
        """Send all of ``data``."""
        self.wait()
        self._plain.sendall(data)

    def recv_into(self, buffer: Any) -> int:
        """Receive what is there, at least one byte unless the other side is done."""
        self.wait()
        return self._plain.recv_into(buffer)

    def makefile(self, _mode: str) -> io.BufferedReader:
        """What comes, as a file."""
        self._readers += 1
        return io.BufferedReader(_Incoming(self))

    def close(self) -> None:
        """Close the socket, once nobody reads from it any more: the way of ``socket.socket``."""
        self._closed = True
        if self._readers <= 0:
            self._plain.close()

    def leave(self) -> None:
        """One that ``makefile`` made is closed."""
        self._readers -= 1
        if self._closed:
            self.close()

    def shut(self) -> None:
        """Close the socket, whoever reads from it."""
        self._plain.close()


class _Incoming(io.RawIOBase):
    def __init__(self, connected: DeadlineSocket) -> None:
        super().__init__()
        self._connected = connected

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._connected.recv_into(buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._connected.leave()
