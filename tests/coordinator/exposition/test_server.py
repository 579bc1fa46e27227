# SPDX-License-Identifier: Apache-2.0
"""The listener of metrics: one page, and bounds for everybody else."""

import errno
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from fedmill_coordinator.exposition import server
from fedmill_coordinator.exposition.server import LARGEST_REQUEST, THREADS, MetricsServer
from fedmill_shared.errors import FedmillError, StoreError
from fedmill_shared.log import get_logger

ROOT = Path(__file__).parents[3]
PAGE = b"fedmill_agents 3\n"
GET = b"GET /metrics HTTP/1.1\r\nHost: plant\r\n\r\n"


class Page:
    """What is told; how often it was asked for, and how many asked at once."""

    def __init__(self) -> None:
        self.asked = 0
        self.failing = False

    def tell(self) -> bytes:
        """The page."""
        self.asked += 1
        if self.failing:
            raise StoreError("the disk is gone")
        return PAGE


@pytest.fixture
def page() -> Page:
    """What is told."""
    return Page()


@pytest.fixture
def listener(page: Page) -> Iterator[MetricsServer]:
    """A listener on a free port of the loopback."""
    made = MetricsServer("127.0.0.1", 0, page.tell, get_logger())
    made.start()
    yield made
    made.stop()


def ask(listener: MetricsServer, request: bytes = GET, *, end: bool = False) -> tuple[int, bytes]:
    """Status and body of the answer to ``request``; 0 where there is none."""
    with socket.create_connection(("127.0.0.1", listener.port), timeout=30) as connection:
        connection.sendall(request)
        if end:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]) if head else 0, body


class TestPage:
    def test_is_told(self, listener: MetricsServer) -> None:
        """As Prometheus asks for it."""
        assert ask(listener) == (200, PAGE)
        assert ask(listener, GET.replace(b"/metrics", b"/metrics?name=x")) == (200, PAGE)
        assert ask(listener, GET.replace(b"1.1", b"1.0")) == (200, PAGE)

    def test_says_what_it_is(self, listener: MetricsServer) -> None:
        """Its format, its length, and that the connection ends."""
        with socket.create_connection(("127.0.0.1", listener.port), timeout=30) as connection:
            connection.sendall(GET)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        head = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")
        assert "Content-Type: text/plain; version=0.0.4; charset=utf-8" in head
        assert f"Content-Length: {len(PAGE)}" in head
        assert "Connection: close" in head

    def test_in_pieces(self, listener: MetricsServer) -> None:
        """A request may come byte by byte."""
        with socket.create_connection(("127.0.0.1", listener.port), timeout=30) as connection:
            for byte in GET:
                connection.sendall(bytes([byte]))
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")

    def test_a_disk_that_fails(self, listener: MetricsServer, page: Page) -> None:
        """It is told in the log, nothing of it to who asks; the next one is answered."""
        page.failing = True
        with capture_logs() as events:
            assert ask(listener) == (500, b"")
        assert [event["event"] for event in events] == ["metrics.failed"]
        page.failing = False
        assert ask(listener) == (200, PAGE)


class TestBounds:
    @pytest.mark.parametrize(
        ("request_", "status"),
        [
            (GET.replace(b"/metrics", b"/"), 404),
            (GET.replace(b"/metrics", b"/metrics/../etc/passwd"), 404),
            (GET.replace(b"/metrics", b"/-/quit"), 404),
            (GET.replace(b"GET", b"POST"), 405),
            (GET.replace(b"GET", b"DELETE"), 405),
            (b"GET /metrics\r\n\r\n", 400),
            (b"GET /metrics SIP/2.0\r\n\r\n", 400),
            (b"\r\n\r\n", 400),
            (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
            (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * LARGEST_REQUEST, 431),
        ],
    )
    def test_nothing_else_is_answered(
        self, listener: MetricsServer, page: Page, request_: bytes, status: int
    ) -> None:
        """Whatever is asked for."""
        assert ask(listener, request_)[0] == status
        assert page.asked == 0

    @pytest.mark.parametrize("request_", [b"", b"GET /metrics HTTP/1.1\r\n"])
    def test_who_leaves_early(self, listener: MetricsServer, page: Page, request_: bytes) -> None:
        """Is not answered with a page, and costs nobody else anything."""
        assert ask(listener, request_, end=True)[0] == 400
        assert page.asked == 0
        assert ask(listener) == (200, PAGE)

    def test_who_says_nothing(
        self, listener: MetricsServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As many as there are threads hold all of them, for a while; then it is over."""
        monkeypatch.setattr(server, "SECONDS", 0.2)
        silent = [
            socket.create_connection(("127.0.0.1", listener.port), timeout=30)
            for _ in range(THREADS)
        ]
        try:
            assert ask(listener) == (200, PAGE)
        finally:
            for connection in silent:
                connection.close()

    def test_many_at_once(self, listener: MetricsServer, page: Page) -> None:
        """They wait for each other, and each is answered."""
        found: list[tuple[int, bytes]] = []
        threads = [
            threading.Thread(target=lambda: found.append(ask(listener))) for _ in range(3 * THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [(200, PAGE)] * len(threads)
        assert page.asked == len(threads)

    def test_no_room_for_another_file(
        self, listener: MetricsServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is tried again after a while: a loop would take the processor from the daemon."""
        tries = list[int]()

        def full(_: object) -> None:
            tries.append(1)
            raise OSError(errno.EMFILE, "Too many open files")

        waited = threading.Event()
        real = listener._stopping.wait

        def wait(seconds: float) -> bool:
            waited.set()
            return real(seconds)

        monkeypatch.setattr(listener._stopping, "wait", wait)
        monkeypatch.setattr(socket.socket, "accept", full)
        assert waited.wait(30)
        monkeypatch.undo()
        assert len(tries) <= 2 * THREADS
        assert ask(listener) == (200, PAGE)

    def test_ends_at_once(self, page: Page) -> None:
        """Nobody is listening after that, and no thread is left."""
        made = MetricsServer("127.0.0.1", 0, page.tell, get_logger())
        port = made.port
        made.start()
        made.stop()
        assert not [each for each in threading.enumerate() if each.name.startswith("metrics-")]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)

    def test_an_address_that_is_taken(self, listener: MetricsServer, page: Page) -> None:
        """One line that names it, and what to do; the service is started again, as after others.

        A wrong file is not tried again, but the network may be up a minute later.
        """
        words = rf"127\.0\.0\.1:{listener.port} cannot be listened"
        with pytest.raises(FedmillError, match=words) as caught:
            MetricsServer("127.0.0.1", listener.port, page.tell, get_logger())
        unit = (ROOT / "deploy/systemd/fedmill-coordinator.service").read_text()
        [never_again] = re.findall(r"^RestartPreventExitStatus=(.*)$", unit, re.MULTILINE)
        assert str(caught.value.exit_code) not in never_again.split()
