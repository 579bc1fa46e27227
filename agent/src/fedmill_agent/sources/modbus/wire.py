# SPDX-License-Identifier: Apache-2.0
"""The TCP connection: one question at a time, answers told from what is none."""

import select
import socket
from collections import Counter, deque
from typing import Protocol

from fedmill_agent.sources.modbus.answer import GARBLED, SILENT, Answer
from fedmill_agent.sources.modbus.frames import Frame, Framing
from fedmill_agent.sources.modbus.plan import Request
from fedmill_shared.errors import SourceError

CONNECT_SECONDS = 3.0
MOST_GARBAGE = 100
"""Pieces of garbage without any answer between them, after which it is no Modbus server."""
_PIECE = 4096
_LATE = 64


class Wire(Protocol):
    """One connection.

    Attributes:
        counts: ``garbage`` and ``late answer``, beside what others count.
        late: devices whose answers came after they had been given up; the reader empties it.
    """

    counts: Counter[str]
    late: list[int]

    def ask(self, request: Request) -> None:
        """Send a question; the one before is answered or given up.

        Raises:
            SourceError: the connection is lost.
        """
        ...

    def receive(self, seconds: float) -> Answer | None:
        """The answer; None if none came yet. Waits for anything at all, and ``seconds`` at most.

        Raises:
            SourceError: the connection is lost, or what is there speaks no Modbus.
        """
        ...

    def give_up(self) -> Answer:
        """What to make of a question that is not answered in time."""
        ...

    def close(self) -> None:
        """Let go of the connection at once."""
        ...


class TcpWire:
    """A ``Wire`` over a connected socket."""

    def __init__(self, connected: socket.socket, place: str, counts: Counter[str]) -> None:
        self.counts = counts
        self.late: list[int] = []
        self._socket = connected
        self._place = place
        self._framing = Framing()
        self._transaction = 0
        self._asked: Request | None = None
        self._given_up: deque[tuple[int, int]] = deque(maxlen=_LATE)
        self._held = b""
        self._odd = False  # something that is no answer came since the question
        self._garbage = 0  # pieces of it since the last answer

    def ask(self, request: Request) -> None:
        """See ``Wire``."""
        self._transaction = self._transaction % 0xFFFF + 1
        self._asked, self._odd = request, False
        try:
            self._socket.sendall(self._framing.question(request, self._transaction))
        except OSError as error:
            raise self._lost(error) from error

    def receive(self, seconds: float) -> Answer | None:
        """See ``Wire``."""
        try:
            if not select.select([self._socket], [], [], max(0.0, seconds))[0]:
                return None
            piece = self._socket.recv(_PIECE)
        except (OSError, ValueError) as error:
            raise self._lost(error) from error
        if not piece:
            raise SourceError(
                f"{self._place} closed the connection",
                remedy="see how many connections it allows, and whether it was restarted",
            )
        self._held += piece
        answer = None
        while self._held:
            length, frame = self._framing.cut(self._held)
            if not length:
                break
            self._held = self._held[length:]
            answer = self._sort(frame) or answer
        return answer

    def give_up(self) -> Answer:
        """See ``Wire``."""
        if self._asked is not None:
            self._given_up.append((self._transaction, self._asked.device))
        self._asked = None
        if self._held:
            self._held = b""
            self._throw_away()
        return GARBLED if self._odd else SILENT

    def close(self) -> None:
        """See ``Wire``."""
        self._socket.close()

    def _sort(self, frame: Frame | None) -> Answer | None:
        if frame is None:
            self._throw_away()
            return self._done(GARBLED) if self._asked is not None else None
        if self._asked is None or frame.transaction != self._transaction:
            if (frame.transaction, frame.device) in self._given_up:
                self._given_up.remove((frame.transaction, frame.device))
                self.counts["late answer"] += 1
                self.late.append(frame.device)
            else:
                self._throw_away()
            return None
        answer = self._framing.answer(frame, self._asked)
        if answer is GARBLED:
            self._throw_away()
        else:
            self._garbage = 0
        return self._done(answer)

    def _done(self, answer: Answer) -> Answer:
        self._asked = None
        return answer

    def _throw_away(self) -> None:
        self._odd = True
        self.counts["garbage"] += 1
        self._garbage += 1
        if self._garbage > MOST_GARBAGE:
            raise SourceError(
                f"{self._place} answers, and not in Modbus TCP",
                remedy="check the port, and that a gateway speaks Modbus TCP and no RTU over TCP",
            )

    def _lost(self, error: Exception) -> SourceError:
        reason = getattr(error, "strerror", None) or error
        return SourceError(
            f"the connection to {self._place} is lost: {reason}",
            remedy="see that the device is on and the network is there",
        )


def connect(host: str, port: int, counts: Counter[str]) -> TcpWire:
    """A connection to ``host`` and ``port`` that adds to ``counts``.

    Raises:
        SourceError: it cannot be reached within three seconds.
    """
    place = f"{host}:{port}"
    try:
        connected = socket.create_connection((host, port), CONNECT_SECONDS)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(
            f"{place} cannot be reached: {reason}",
            remedy="check `host` and `port`, that the device is on, and that a firewall lets it by",
        ) from error
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return TcpWire(connected, place, counts)
