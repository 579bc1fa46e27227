# SPDX-License-Identifier: Apache-2.0
"""A thread that brings labels from a file, a broker or a web server, for as long as it takes."""

from collections.abc import Callable
from importlib import import_module
from typing import Protocol

from fedmill_agent.labels.decode import Decoded, Shape
from fedmill_agent.labels.options import LabelOptions
from fedmill_agent.sources.guard import Guard
from fedmill_agent.threaded import Threaded
from fedmill_shared.clock import Clock
from fedmill_shared.errors import FedmillError
from fedmill_shared.link.backoff import full_jitter
from fedmill_shared.log import Logger
from fedmill_shared.pulse import Pulse

FIRST_WAIT = 1.0
LONGEST_WAIT = 30.0
READ_SECONDS = 0.5
STUCK_SECONDS = 3600.0
"""Labels come hours late anyway: where a share hangs that they are read from, an agent that scores
is not started anew every few minutes."""


class LabelInput(Protocol):
    """Somewhere that labels come from; used by one thread."""

    def read(self, timeout: float) -> Decoded:
        """What came since the last call; waits at most ``timeout`` seconds for something.

        Raises:
            FedmillError: nothing comes any more; ``close`` is called next, and later it is opened
                again.
        """
        ...

    def close(self) -> None:
        """Let go of everything within a few seconds."""
        ...


Open = Callable[[LabelOptions, Shape, Clock], LabelInput]
Take = Callable[[Decoded, str], int]


class LabelFeed(Threaded):
    """Owns whatever it is connected to."""

    def __init__(self, options: LabelOptions, take: Take, clock: Clock, log: Logger) -> None:
        """Prepare; ``take`` keeps labels, and raises StoreError where that fails."""
        super().__init__(f"labels-{options.name}")
        self._options = options
        self._take = take
        self._clock = clock
        self._log = log
        self._said, self._wait = "", FIRST_WAIT
        self._pulse = Pulse(clock, STUCK_SECONDS)

    @property
    def name(self) -> str:
        """As the configuration calls it."""
        return self._options.name

    @property
    def late(self) -> float:
        """Seconds for which the thread has been overdue; 0 while it reads or waits."""
        return self._pulse.late

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._pulse.beat()
            with Guard() as guard:  # nobody else would begin anew
                self._listen()
            if guard.fault is not None:
                self._say(_words(guard.fault))
                self._stopped.wait(full_jitter(self._wait))
                self._wait = min(2.0 * self._wait, LONGEST_WAIT)
        self._pulse.end()

    def _listen(self) -> None:
        """Until it is stopped, or the connection is lost."""
        options = self._options
        kind = str(options.__struct_config__.tag)
        opened: Open = import_module(f"fedmill_agent.labels.{kind}").open_labels
        shape = Shape(options.fields, options.unit, options.job)
        found = opened(options, shape, self._clock)
        try:
            self._log.info("labels.opened", labels=options.name, kind=kind)
            while not self._stopped.is_set():
                self._pulse.beat()
                self._keep(found.read(READ_SECONDS))
                self._said, self._wait = "", FIRST_WAIT
        finally:
            found.close()

    def _keep(self, decoded: Decoded) -> None:
        """Have labels kept, however long that takes: nobody sends them again."""
        while (decoded.records or decoded.faults) and not self._stopped.is_set():
            self._pulse.beat()
            try:
                self._take(decoded, self._options.name)
                decoded = Decoded()
            except FedmillError as error:
                self._say(str(error))
                self._stopped.wait(FIRST_WAIT)

    def _say(self, error: str) -> None:
        """Tell what is wrong once, until it works again or something else is wrong."""
        if error != self._said:
            self._log.error("labels.failed", labels=self._options.name, error=error)
        self._said = error


def _words(fault: Exception) -> str:
    return str(fault) if isinstance(fault, FedmillError) else f"{type(fault).__name__}: {fault}"
