# SPDX-License-Identifier: Apache-2.0
"""The daemon's handle on its training process: started for work, kept warm, ended when idle."""

import signal
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from typing import Literal

from fedmill_agent.config import TrainingSection
from fedmill_agent.training import protocol
from fedmill_agent.training.process import ChildProcess, Process
from fedmill_shared.clock import Clock
from fedmill_shared.errors import TrainerError


@dataclass(frozen=True, slots=True)
class TrainerAnswered:
    """The training process has done, or refused, one piece of work."""

    answer: protocol.Answer


@dataclass(frozen=True, slots=True)
class TrainerDied:
    """The training process ended with work in hand.

    Attributes:
        code: its exit code, negative for a signal; None where it is not known.
        numbers: the tasks, in the order they came.
        reason: why, in words, as far as it is known.
    """

    code: int | None
    numbers: tuple[int, ...]
    reason: str = field(default="", compare=False)


PATIENT = (protocol.Train, protocol.TrainAlone, protocol.Choose, protocol.Warm)
"""Work that may be paused, unless other work waits behind it: statistics and evaluations are short,
and the fleet waits for them."""

END_SECONDS = 60.0
"""For a process that says no more to end by itself, as one that hangs at its exit does not."""
LEAVE_SECONDS = 5.0
"""For a process that was killed: one that waits for a broken disk goes only when that answers."""

Change = Literal["paused", "resumed"]
Sink = Callable[[TrainerAnswered | TrainerDied], None]


@dataclass(slots=True)
class _InHand:
    """The request that the child works on.

    Attributes:
        request: the task.
        began: when that was, later by the time it was paused.
        unwritten: what the child has not been sent of it yet.
        paused: since when it is, if it is.
    """

    request: protocol.Request
    began: float
    unwritten: bytes
    paused: float | None = None


class TrainerProcess:
    """Owns the training process and the thread that reads its answers.

    Requests are written one at a time, each once the one before it is answered: the pipe is empty
    then, and whoever writes never waits for a process that is busy or stopped.
    """

    def __init__(self, settings: TrainingSection, sink: Sink, clock: Clock) -> None:
        """Nothing is started before the first ``submit``."""
        self._settings = settings
        self._sink = sink
        self._clock = clock
        self._lock = threading.Lock()
        self._child: Process | None = None
        self._reader: threading.Thread | None = None
        self._leaving: dict[Process, float] = {}
        self._queue: deque[protocol.Request] = deque()
        self._hand: _InHand | None = None
        self._last_use = clock.monotonic()

    def adopt(self, settings: TrainingSection) -> None:
        """From now on; what only counts when the process is started waits for that."""
        self._settings = settings

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._child.pid if self._child is not None else None

    @property
    def busy(self) -> bool:
        """Whether work is in hand."""
        with self._lock:
            return self._hand is not None

    def submit(self, request: protocol.Request) -> None:
        """Hand over work; the answer comes to the sink. Never waits for the child.

        Raises:
            TrainerError: the process cannot be started.
        """
        with self._lock:  # a child that is dying takes this task into its report, or is not used
            child = self._child or self._start()
            self._last_use = self._clock.monotonic()
            self._queue.append(request)
            self._begin_next(child)

    def tick(self) -> None:
        """End the process if it has been idle, or busy with one thing, for too long."""
        now, longest = self._clock.monotonic(), self._settings.timeout_seconds
        with self._lock:
            child, hand = self._child, self._hand
            hung = [each for each, since in self._leaving.items() if now - since > END_SECONDS]
            if child is not None and hand is not None and hand.paused is None:
                _write(child, hand)
        for each in hung:
            each.kill()
        if child is None:
            return
        if hand is None and now - self._last_use > self._settings.idle_seconds:
            self.stop()
        elif hand is not None and hand.paused is None and now - hand.began > longest:
            child.kill()

    def hold(self, *, wanted: bool) -> Change | None:
        """Pause work in hand that may be, or let it go on: the process stands still meanwhile.

        Returns what has changed by that, if anything has.
        """
        with self._lock:
            child, hand = self._child, self._hand
            if child is None or hand is None:
                return None
            waiting = (hand.request, *self._queue)
            patient = all(isinstance(request, PATIENT) for request in waiting)
            if hand.paused is not None:
                if wanted and patient:
                    return None
                self._resume(child, hand)
                return "resumed"
            if not (wanted and patient):
                return None
            if not child.signal(signal.SIGSTOP):
                return None
            hand.paused = self._clock.monotonic()
            return "paused"

    def stop(self) -> None:
        """End the process now; work in hand is dropped without a word."""
        with self._lock:
            child, self._child = self._child, None
            self._give_up()
            leaving = list(self._leaving)
        for each in leaving:  # whoever stops may be at its own end, and look at none any more
            each.kill()
        if child is not None:
            child.kill()
            if self._reader is not None:
                self._reader.join(LEAVE_SECONDS)

    def _start(self) -> Process:
        child = self._process()
        self._child = child
        self._reader = threading.Thread(
            target=self._read, args=(child,), name="trainer-reader", daemon=True
        )
        self._reader.start()
        return child

    def _process(self) -> Process:
        """A new one.

        Raises:
            TrainerError: there is none.
        """
        if not self._settings.socket:
            return ChildProcess(self._settings.nice)
        from fedmill_agent.training.called import CalledProcess  # noqa: PLC0415  services only

        return CalledProcess(self._settings.socket)

    def _begin_next(self, child: Process) -> None:
        """Write the next request if none is in hand; the lock is held."""
        if self._hand is None and self._queue:
            request = self._queue.popleft()
            self._hand = _InHand(request, self._clock.monotonic(), _wire(request))
            _write(child, self._hand)

    def _resume(self, child: Process, hand: _InHand) -> None:
        """Let work go on if it is paused; the lock is held."""
        if hand.paused is not None:
            hand.began += self._clock.monotonic() - hand.paused
            hand.paused = None
            child.signal(signal.SIGCONT)

    def _give_up(self) -> tuple[int, ...]:
        """Forget all tasks, and name them in the order they came; the lock is held."""
        hand, self._hand = self._hand, None
        numbers = [hand.request.number] if hand is not None else []
        numbers += [request.number for request in self._queue]
        self._queue.clear()
        return tuple(numbers)

    def _read(self, child: Process) -> None:
        try:
            with suppress(ConnectionError):  # it died with something unread
                self._listen(child)
        except TrainerError:
            child.kill()
        with self._lock:  # first: once it is waited for, nothing can be said to it any more
            ours = self._child is child
            numbers = self._give_up() if ours else ()
            if ours:
                self._child = None
                self._leaving[child] = self._clock.monotonic()
        ended = child.wait()
        with self._lock:
            self._leaving.pop(child, None)
        if ours:
            self._sink(TrainerDied(ended.code, numbers, ended.reason))

    def _listen(self, child: Process) -> None:
        """Take answers until the process ends.

        Raises:
            TrainerError: what came is no answer.
            ConnectionError: the connection to it broke.
        """
        stream = child.open()
        if stream is None:
            return
        while (answer := protocol.receive_answer(stream)) is not None:
            with self._lock:
                if self._child is child:
                    if self._hand is not None:
                        self._resume(child, self._hand)  # it had answered just before a pause
                    self._hand = None
                    self._begin_next(child)
                self._last_use = self._clock.monotonic()
            self._sink(TrainerAnswered(answer))


def _wire(request: protocol.Request) -> bytes:
    """The request as the child reads it."""
    stream = BytesIO()
    protocol.send(stream, request)
    return stream.getvalue()


def _write(child: Process, hand: _InHand) -> None:
    """Write what the pipe takes; the rest of a request that is larger goes with the next tick."""
    with suppress(BlockingIOError, BrokenPipeError):  # full, or dead: the reading thread tells
        while hand.unwritten:
            hand.unwritten = hand.unwritten[child.write(hand.unwritten) :]
