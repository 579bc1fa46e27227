# SPDX-License-Identifier: Apache-2.0
"""What the daemon needs of its training process, however it was started; and one way: as a child.

The other way, in a service of its own, is in ``called.py``.
"""

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, Protocol, cast

from fedmill_agent.training.memory_events import MemoryEvents, own_group
from fedmill_shared.errors import TrainerError
from fedmill_shared.lean import without

with without(later={"locale": {}}):  # decodes what a process says, for those who want text
    import subprocess


ENDED_BY_US = "ended by the agent"
"""It worked on one thing for too long, hung at its exit, or answered what is no answer."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a training process ended.

    Attributes:
        code: its exit code, negative for a signal; None where only its parent knows.
        reason: the same in words, as far as it can be told.
    """

    code: int | None
    reason: str


class Process(Protocol):
    """A training process; one thread writes, signals and kills, another reads and waits."""

    @property
    def pid(self) -> int | None:
        """Process id; None while it is not known."""
        ...

    def open(self) -> BinaryIO | None:
        """Its answers, once it is there; None if it ended before. Waits for it."""
        ...

    def write(self, data: bytes) -> int:
        """Hand over some of ``data``; how many bytes. Never waits.

        Raises:
            BlockingIOError: it takes nothing now.
            BrokenPipeError: it has ended.
        """
        ...

    def signal(self, number: int) -> bool:
        """Send it a signal; False where that cannot be done yet. One that has ended gets none."""
        ...

    def kill(self) -> None:
        """End it."""
        ...

    def wait(self) -> Ended:
        """How it ended, after its answers did; let go of everything."""
        ...


class ChildProcess:
    """Owns a child of this process and its pipes."""

    def __init__(self, nice: int) -> None:
        """Start it.

        Raises:
            TrainerError: it cannot be started.
        """
        environment = dict(os.environ, OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")
        self._killed = False
        self._memory = MemoryEvents(own_group())
        try:
            self._child = subprocess.Popen(
                # -P: nothing is imported from the folder that the daemon happens to run in
                [sys.executable, "-P", "-m", "fedmill_agent.training", str(nice)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
            )
        except OSError as error:
            raise TrainerError(f"training process cannot be started: {error}") from error
        os.set_blocking(cast("BinaryIO", self._child.stdin).fileno(), False)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._child.pid

    def open(self) -> BinaryIO:
        """Its answers."""
        return cast("BinaryIO", self._child.stdout)

    def write(self, data: bytes) -> int:
        """Hand over some of ``data``; how many bytes."""
        return os.write(cast("BinaryIO", self._child.stdin).fileno(), data)

    def signal(self, number: int) -> bool:
        """Send it a signal."""
        self._child.send_signal(number)
        return True

    def kill(self) -> None:
        """End it."""
        self._killed = True
        self._child.kill()

    def wait(self) -> Ended:
        """How it ended."""
        code = self._child.wait()
        for stream in (self._child.stdin, self._child.stdout):
            with suppress(OSError):  # a request that never went out is of no use any more
                cast("BinaryIO", stream).close()
        killed_for_memory = self._memory.killed
        return Ended(code, _reason(code, killed_for_memory=killed_for_memory, by_us=self._killed))


def _reason(code: int, *, killed_for_memory: bool, by_us: bool) -> str:
    if killed_for_memory:
        return "killed for memory: it took more than its control group may have"
    if by_us and code == -9:
        return ENDED_BY_US
    if code >= 0:
        return f"it ended by itself with exit code {code}: its own last words stand above"
    if code == -9:
        return "killed, most likely for memory"
    return f"ended by signal {-code}"
