# SPDX-License-Identifier: Apache-2.0
"""Steps that wait for the disk without holding up the daemon's loop, written as if they did not.

A flow is a generator: what it hands out is done beside the loop, and it goes on, on the loop, once
that is done. ``value = yield from beside(work)`` is all it has to say.
"""

from collections import deque
from collections.abc import Callable, Generator
from typing import TypeVar

from fedmill_agent.background import Background
from fedmill_shared.errors import FedmillError

MANY = 32
"""Flows of one job that wait only where the disk hardly moves, or somebody floods it."""

T = TypeVar("T")
Flow = Generator[Callable[[], object], None, T]


def beside(work: Callable[[], T]) -> Flow[T]:
    """What ``work`` gives, which is done beside the loop.

    Raises:
        FedmillError: whatever ``work`` raises of these.
    """
    given: list[T] = []
    yield lambda: given.append(work())
    return given[0]


class Flows:
    """Runs the flows of one job, one after the other: none sees what another has half done."""

    def __init__(self, background: Background) -> None:
        """What flows hand out is done there; without a loop they run through at once."""
        self._background = background
        self._waiting: deque[Flow[None]] = deque()
        self._running: Flow[None] | None = None
        self._closed = False

    @property
    def busy(self) -> bool:
        """Whether a flow is under way."""
        return self._running is not None

    @property
    def crowded(self) -> bool:
        """Whether so many flows wait that what can do without should."""
        return len(self._waiting) >= MANY

    def start(self, flow: Flow[None]) -> None:
        """Begin with ``flow``, or keep it until those before it are done; it handles its errors."""
        if self._closed:
            return
        self._waiting.append(flow)
        self._next()

    def at_once(self, flow: Flow[None]) -> None:
        """Run ``flow`` through here and now, and then what it has started."""
        self._running = flow
        try:
            _run_through(flow)
        finally:
            self._running = None
        self._next()

    def close(self) -> None:
        """Nothing goes on any more; what is being written still is."""
        self._closed = True
        self._waiting.clear()

    def _next(self) -> None:
        while self._waiting and self._running is None:
            self._running = self._waiting.popleft()
            self._go_on(None)

    def _go_on(self, error: FedmillError | None) -> None:
        """Let the flow under way take its next step."""
        flow = self._running
        if flow is None or self._closed:
            return
        try:
            work = next(flow) if error is None else flow.throw(error)
        except StopIteration:
            self._running = None
            self._next()
            return
        except BaseException:
            self._running = None
            raise
        self._background.submit(work, lambda _: self._go_on(None), self._go_on)


def _run_through(flow: Flow[None]) -> None:
    error: FedmillError | None = None
    while True:
        try:
            work = next(flow) if error is None else flow.throw(error)
        except StopIteration:
            return
        error = None
        try:
            work()
        except FedmillError as raised:
            error = raised
