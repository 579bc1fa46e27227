# SPDX-License-Identifier: Apache-2.0
"""The daemon's handle on its training process: started for work, kept warm, ended when idle."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, cast

from fedmill_agent.config import TrainingSection
from fedmill_agent.training import protocol
from fedmill_shared.clock import Clock
from fedmill_shared.errors import TrainerError


@dataclass(frozen=True, slots=True)
class TrainerAnswered:
    """The training process has done, or refused, one piece of work."""

    answer: protocol.Answer


@dataclass(frozen=True, slots=True)
class TrainerDied:
    """The training process ended with work in hand."""

    code: int
    numbers: tuple[int, ...]


Sink = Callable[[TrainerAnswered | TrainerDied], None]


class TrainerProcess:
    """Owns the child process, its pipes and the thread that reads its answers."""

    def __init__(self, settings: TrainingSection, sink: Sink, clock: Clock) -> None:
        """Nothing is started before the first ``submit``."""
        self._settings = settings
        self._sink = sink
        self._clock = clock
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._pending: dict[int, float] = {}
        self._last_use = clock.monotonic()

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._child.pid if self._child is not None else None

    @property
    def busy(self) -> bool:
        """Whether work is in hand."""
        with self._lock:
            return bool(self._pending)

    def submit(self, request: protocol.Request) -> None:
        """Hand over work; the answer comes to the sink.

        Raises:
            TrainerError: the process cannot be started.
        """
        with self._lock:  # a child that is dying takes this task into its report, or is not used
            child = self._child or self._start()
            self._pending[request.number] = self._last_use = self._clock.monotonic()
        try:
            protocol.send(cast("BinaryIO", child.stdin), request)
        except OSError:  # it has just died: the reading thread reports that
            return

    def tick(self) -> None:
        """End the process if it has been idle, or busy with one thing, for too long."""
        now = self._clock.monotonic()
        with self._lock:
            child, oldest = self._child, min(self._pending.values(), default=None)
        if child is None:
            return
        if oldest is None and now - self._last_use > self._settings.idle_seconds:
            self.stop()
        elif oldest is not None and now - oldest > self._settings.timeout_seconds:
            child.kill()

    def stop(self) -> None:
        """End the process now; work in hand is dropped without a word."""
        with self._lock:
            child, self._child = self._child, None
            self._pending.clear()
        if child is not None:
            child.kill()
            child.wait()
            if self._reader is not None:
                self._reader.join()

    def _start(self) -> subprocess.Popen[bytes]:
        environment = dict(os.environ, OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")
        try:
            child = subprocess.Popen(
                [sys.executable, "-m", "fedmill_agent.training", str(self._settings.nice)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
            )
        except OSError as error:
            raise TrainerError(f"training process cannot be started: {error}") from error
        self._child = child
        self._reader = threading.Thread(
            target=self._read, args=(child,), name="trainer-reader", daemon=True
        )
        self._reader.start()
        return child

    def _read(self, child: subprocess.Popen[bytes]) -> None:
        stream = cast("BinaryIO", child.stdout)
        try:
            while (answer := protocol.receive_answer(stream)) is not None:
                with self._lock:
                    self._pending.pop(answer.number, None)
                    self._last_use = self._clock.monotonic()
                self._sink(TrainerAnswered(answer))
        except TrainerError:
            child.kill()
        code = child.wait()
        with self._lock:
            ours = self._child is child
            numbers = tuple(self._pending) if ours else ()
            if ours:
                self._child = None
                self._pending.clear()
        _close(child)
        if ours:
            self._sink(TrainerDied(code, numbers))


def _close(child: "subprocess.Popen[bytes]") -> None:
    """Close the pipes; a request that never went out is of no use any more."""
    for stream in (child.stdin, child.stdout):
        with suppress(OSError):
            cast("BinaryIO", stream).close()
