# SPDX-License-Identifier: Apache-2.0
"""One persistent connection to a web server, for GET requests with bounds on time and size."""

import http.client
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from fedmill_agent.sources.rest.deadline import DeadlineSocket
from fedmill_shared.errors import SourceError

MOST_REDIRECTS = 3
_MOVED = frozenset({301, 302, 303, 307, 308})
_PIECE = 1 << 16
# a connection that the server closed between two questions ends in one of these
_STALE = (http.client.RemoteDisconnected, ConnectionError)


class TooLarge(Exception):  # noqa: N818  named for what the answer is
    """The answer has more bytes than are read."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered.

    Attributes:
        status: as HTTP numbers it.
        reason: in the server's words.
        headers: names in small letters.
        body: of status 200 only; empty else.
        url: what was asked in the end.
        told: in words, where a redirection was not followed; else empty.
    """

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes
    url: str
    told: str = ""


class Client:
    """Owns the connection; makes a new one where the server closes it between two questions."""

    def __init__(
        self,
        url: str,
        *,
        context: ssl.SSLContext | None,
        headers: Mapping[str, str],
        seconds: float,
        largest: int,
    ) -> None:
        """Prepare to ask the server of ``url``; nothing is connected yet.

        Args:
            url: scheme, host and port count.
            context: for https.
            headers: sent with every question.
            seconds: for a whole answer, connecting included.
            largest: bytes of a body.
        """
        self._server = urlsplit(url)
        self._context = context
        self._headers = {"Accept": "*/*", "User-Agent": "fedmill-agent", **headers}
        self._seconds = seconds
        self._largest = largest
        self._connection: http.client.HTTPConnection | None = None
        self._socket: DeadlineSocket | None = None

    @property
    def place(self) -> str:
        """Host and port, for people."""
        return f"{self._server.hostname}:{_port(self._server)}"

    def get(self, url: str, extra: Mapping[str, str]) -> Answer:
        """The answer to GET ``url``; redirections within the server are followed.

        Raises:
            SourceError: the server cannot be reached, breaks off, or takes too long.
            TooLarge: its answer is larger than allowed.
        """
        end = time.monotonic() + self._seconds
        for _ in range(MOST_REDIRECTS + 1):
            answer = self._answer(url, extra, end)
            target = answer.headers.get("location", "")
            if answer.status not in _MOVED or not target:
                return answer
            url = _joined(url, target)
            if not self.serves(url):
                told = f"leads to {_shown(url)}, another server, where it is not followed"
                return Answer(answer.status, answer.reason, answer.headers, b"", url, told)
        told = f"leads on more than {MOST_REDIRECTS} times"
        return Answer(answer.status, answer.reason, answer.headers, b"", url, told)

    def serves(self, url: str) -> bool:
        """Whether ``url`` is on the server of this connection."""
        try:
            other = urlsplit(url)
            return (other.scheme, other.hostname, _port(other)) == (
                self._server.scheme,
                self._server.hostname,
                _port(self._server),
            )
        except ValueError:
            return False

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
        if self._socket is not None:
            self._socket.shut()
        self._connection = self._socket = None

    def _answer(self, url: str, extra: Mapping[str, str], end: float) -> Answer:
        try:
            reused = self._connection is not None
            try:
                return self._ask(url, extra, end)
            except _STALE:
                self.close()
                if not reused:
                    raise
                return self._ask(url, extra, end)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise SourceError(
                f"{self.place}: {_words(error, self._seconds)}", remedy=_remedy(error)
            ) from error
        except TooLarge:
            self.close()
            raise

    def _ask(self, url: str, extra: Mapping[str, str], end: float) -> Answer:
        connection, connected = self._connected(end)
        connected.allow(end - time.monotonic())
        split = urlsplit(url)
        target = (split.path or "/") + (f"?{split.query}" if split.query else "")
        connection.request("GET", target, headers={**self._headers, **extra})
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        body = self._body(response)
        if response.will_close:
            self.close()
        return Answer(
            response.status,
            response.reason[:100],
            headers,
            body if response.status == http.client.OK else b"",
            url,
        )

    def _body(self, response: http.client.HTTPResponse) -> bytes:
        """All of it, so that the connection can be used again.

        Raises:
            TooLarge: it is larger than allowed.
        """
        if (response.length or 0) > self._largest:
            raise TooLarge
        body = bytearray()
        while piece := response.read1(_PIECE):
            body += piece
            if len(body) > self._largest:
                raise TooLarge
        if response.length:
            raise http.client.IncompleteRead(bytes(body[:1]), response.length)
        response.close()  # all is read: the connection is free for the next question
        return bytes(body)

    def _connected(self, end: float) -> tuple[http.client.HTTPConnection, DeadlineSocket]:
        if self._connection is None or self._socket is None:
            host, port = self._server.hostname or "", _port(self._server)
            left = max(0.01, end - time.monotonic())
            connection = (
                http.client.HTTPSConnection(host, port, timeout=left, context=self._context)
                if self._server.scheme == "https"
                else http.client.HTTPConnection(host, port, timeout=left)
            )
            try:
                connection.connect()
            except OSError:
                connection.close()  # the socket is open where only TLS failed
                raise
            self._socket = DeadlineSocket(connection.sock)
            connection.sock = self._socket
            connection.auto_open = 0
            self._connection = connection
        return self._connection, self._socket


def _port(split: SplitResult) -> int:
    return split.port or (443 if split.scheme == "https" else 80)


def _joined(url: str, target: str) -> str:
    """Where ``target`` leads from ``url``; as it is, where it is no URL at all."""
    try:
        return urljoin(url, target)
    except ValueError:
        return target


def _shown(url: str) -> str:
    """Scheme and host of a URL that a server sent, without what it may want to have said."""
    try:
        split = urlsplit(url)
    except ValueError:
        return "what is no URL"
    return f"{split.scheme}://{split.hostname}"[:100]


def _words(error: Exception, seconds: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {seconds:g} s"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {getattr(error, 'verify_message', '') or error.reason or error}"
    if isinstance(error, http.client.HTTPException):
        return f"answers no HTTP, or breaks off ({type(error).__name__})"
    return str(getattr(error, "strerror", None) or error)


def _remedy(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return "check `ca_file`, and that the host in `url` is the one in the certificate"
    if isinstance(error, TimeoutError):
        return "check host and port in `url`, the firewall, and `timeout_seconds`"
    return "check host and port in `url`, and that the server runs"
