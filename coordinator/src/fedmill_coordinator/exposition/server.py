# SPDX-License-Identifier: Apache-2.0
"""A listener that answers ``GET /metrics`` and nothing else, within bounds.

Each of a few threads takes one connection at a time, reads one small request, answers and closes:
nobody can make it hold more memory, threads or time than that.
"""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from fedmill_shared.errors import FedmillError
from fedmill_shared.log import Logger

THREADS = 4
WAITING = 8
"""Connections that wait for a thread."""
LARGEST_REQUEST = 8192
SECONDS = 5.0
"""For a whole request, and for its answer."""
POLL_SECONDS = 0.5
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
}


class MetricsServer:
    """Owns a listening socket and the threads that answer on it."""

    def __init__(self, host: str, port: int, tell: Callable[[], bytes], log: Logger) -> None:
        """Listen, and answer with what ``tell`` says; it is called by one thread at a time.

        Raises:
            FedmillError: the address cannot be listened on. No ConfigError: a network that comes up
                after this program is no fault of a file, and the service is to be tried again.
        """
        self._tell = tell
        self._log = log
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family, backlog=WAITING)
        except OSError as error:
            raise FedmillError(
                f"[metrics]: {host}:{port} cannot be listened on: {error.strerror or error}",
                remedy="give an address of this machine and a port that is free",
            ) from error
        self._socket.settimeout(POLL_SECONDS)
        self._threads = [
            threading.Thread(target=self._work, name=f"metrics-{number}", daemon=True)
            for number in range(THREADS)
        ]

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._socket.getsockname()[1])

    def start(self) -> None:
        """Begin to answer."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Answer nobody any more, and end the threads."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._socket.close()

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:  # nobody came
                continue
            except OSError:  # somebody was gone at once, or there is no room for another file
                self._stopping.wait(POLL_SECONDS)
                continue
            with connection, suppress(OSError):
                self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        request = _read(connection)
        status, body = self._answer(request) if request else (400, b"")
        head = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\n"
            f"Content-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n"
            f"{'Allow: GET' + chr(13) + chr(10) if status == 405 else ''}"
            "X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
        )
        connection.settimeout(SECONDS)
        connection.sendall(head.encode() + body)

    def _answer(self, request: bytes) -> tuple[int, bytes]:
        if len(request) >= LARGEST_REQUEST:
            return 431, b""
        words = request.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return 400, b""
        method, target, _ = words
        if method != b"GET":
            return 405, b""
        if target.split(b"?", 1)[0] != b"/metrics":
            return 404, b""
        try:
            with self._lock:
                return 200, self._tell()
        except FedmillError as error:
            self._log.error("metrics.failed", error=str(error))
            return 500, b""


def _read(connection: socket.socket) -> bytes:
    """The head of one request; empty if it does not come whole, and in time."""
    data, deadline = b"", time.monotonic() + SECONDS
    while b"\r\n\r\n" not in data and len(data) < LARGEST_REQUEST:
        left = deadline - time.monotonic()
        if left <= 0:
            return b""
        connection.settimeout(left)
        piece = connection.recv(LARGEST_REQUEST - len(data))
        if not piece:
            return b""
        data += piece
    return data
