# SPDX-License-Identifier: Apache-2.0
"""A web server under a test's control, that can also behave as no web server should."""

import json
import math
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from fedmill_agent.sources.rest import RestOptions
from fedmill_coordinator.demo.broker import free_port

HOST = "127.0.0.1"

Reply = tuple[int, Mapping[str, str], bytes]
Page = Callable[[Mapping[str, str], Mapping[str, str]], Reply]
"""From the query and the header fields (small letters) of a request to what is answered."""


def document(value: object, **headers: str) -> Page:
    """A page that always has the same JSON."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return lambda _query, _headers: (200, headers, body)


def _missing(_query: Mapping[str, str], _headers: Mapping[str, str]) -> Reply:
    return 404, {}, b"no such page"


class Server:
    """Pages by path; it counts the connections and requests that it gets.

    Attributes:
        port: where it listens.
        pages: path -> what makes the answer.
        requests: path and header fields of all requests so far.
        connections: how many there were.
        raw: what is sent instead of any answer, piece by piece; None for nothing of that.
        seconds: between two pieces; it waits no longer when the server stops.
    """

    def __init__(self, port: int = 0, context: ssl.SSLContext | None = None) -> None:
        self.port = port or free_port()
        self.pages: dict[str, Page] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.connections = 0
        self.raw: Iterable[bytes] | None = None
        self.seconds = 0.05
        self._context = context
        self._stopped = threading.Event()
        self._http: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self._open: set[socket.socket] = set()

    @property
    def url(self) -> str:
        """Of its root."""
        return f"http{'s' if self._context else ''}://{HOST}:{self.port}/"

    def start(self) -> None:
        """Listen; returns once it does."""
        self._stopped.clear()
        self._http = _Listener((HOST, self.port), _handler(self))
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        """Close all connections and stop listening."""
        if self._http is None or self._thread is None:
            return
        self._stopped.set()
        self._http.shutdown()
        self.cut()
        self._http.server_close()  # joins the threads of all connections
        self._thread.join(10)
        self._http = self._thread = None

    def cut(self) -> None:
        """Close all connections, without a word."""
        for each in list(self._open):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        split = urlsplit(handler.path)
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.requests.append((handler.path, headers))
        if self.raw is not None:
            for piece in self.raw:
                handler.connection.sendall(piece)
                if self._stopped.wait(self.seconds):
                    return
            handler.close_connection = True
            return
        query = {name: values[0] for name, values in parse_qs(split.query).items()}
        status, more, body = self.pages.get(split.path, _missing)(query, headers)
        handler.send_response(status)
        for name, value in more.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def hang(self) -> None:
        """Accept requests and never answer, until it stops."""
        self.raw, self.seconds = [b""], 60.0

    def opened(self, connection: socket.socket) -> socket.socket:
        """A new connection, with TLS on it if so wished."""
        self.connections += 1
        if self._context is not None:
            connection = self._context.wrap_socket(connection, server_side=True)
        self._open.add(connection)
        return connection

    def closed(self, connection: socket.socket) -> None:
        """It is gone."""
        self._open.discard(connection)


class _Listener(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that break off are what tests are about."""


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            self.request = server.opened(self.request)
            super().setup()

        def finish(self) -> None:
            server.closed(self.request)
            try:
                super().finish()
            finally:
                self.request.close()

        def do_GET(self) -> None:
            server.answer(self)

        def log_message(self, *_: Any) -> None:
            """Nothing on standard error."""

    return Handler


class Stand:
    """A server with a temperature and a speed, each with a quality."""

    tags: ClassVar = ["temperature.value", "speed.value"]

    def __init__(self, folder: Path) -> None:
        self._server = Server()
        self._folder = folder
        self._said: dict[str, dict[str, object]] = {
            tag.removesuffix(".value"): {"value": 0.0, "quality": 0} for tag in self.tags
        }
        self._server.pages["/values"] = lambda _query, _headers: (
            200,
            {},
            json.dumps(self._said).encode(),
        )

    def options(self, **changes: Any) -> RestOptions:
        """Of a source that asks this server."""
        usual: dict[str, Any] = {
            "name": "line",
            "url": f"{self._server.url}values",
            "quality_path": "@.quality",
            "interval_seconds": 0.05,
            "silence_seconds": 1.0,
            "timeout_seconds": 1.0,
        }
        return RestOptions(**(usual | changes))

    def start(self) -> None:
        """Begin to listen."""
        self._server.raw = None
        self._server.start()

    def stop(self) -> None:
        """Stop listening, and close what is open."""
        self._server.stop()

    def say(self, tag: str, value: float) -> None:
        """A new good value."""
        self._say(tag, value, 192)

    def say_bad(self, tag: str) -> None:
        """A value of bad quality."""
        self._say(tag, 1.0, 0)

    def say_stale(self, tag: str) -> None:
        """A value that is old."""
        self._say(tag, 1.0, 500)

    def say_text(self, tag: str, text: str) -> None:
        """A text where a number was."""
        self._say(tag, text, 192)

    def garbage(self) -> None:
        """One answer is no JSON."""
        good = self._server.pages["/values"]

        def once(_query: Mapping[str, str], _headers: Mapping[str, str]) -> Reply:
            self._server.pages["/values"] = good
            return 200, {}, b'{"temperature": \xff'

        self._server.pages["/values"] = once

    def _say(self, tag: str, value: object, quality: int) -> None:
        shown = None if isinstance(value, float) and math.isnan(value) else value
        self._said[tag.removesuffix(".value")] = {"value": shown, "quality": quality}
