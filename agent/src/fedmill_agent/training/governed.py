# SPDX-License-Identifier: Apache-2.0
"""The training process under its governor: whether this machine may train, and who makes way."""

from collections.abc import Callable

from fedmill_agent.config import TrainingSection
from fedmill_agent.governor import INTERVAL, Gauge, Governor
from fedmill_agent.training import protocol
from fedmill_agent.training.child import Sink, TrainerProcess
from fedmill_shared.clock import Clock
from fedmill_shared.log import Logger


class GovernedTrainer:
    """Owns the training process and its governor."""

    def __init__(
        self,
        settings: TrainingSection,
        sink: Sink,
        clock: Clock,
        log: Logger,
        *,
        turned: Callable[[], None],
    ) -> None:
        """``sink`` takes the answers; ``turned`` is called when leave to train comes or goes."""
        self._process = TrainerProcess(settings, sink, clock)
        self._governor = Governor(settings, Gauge(), clock)
        self._clock = clock
        self._log = log
        self._turned = turned
        self._obstacle = ""
        self._look_due = 0.0

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid

    def adopt(self, settings: TrainingSection) -> None:
        """From now on."""
        self._process.adopt(settings)
        self._governor.adopt(settings)

    def submit(self, request: protocol.Request) -> None:
        """Hand over work; the answer comes to the sink.

        Raises:
            TrainerError: the process cannot be started.
        """
        self._process.submit(request)

    def obstacle(self) -> str:
        """Why this machine may not train now; empty if it may."""
        return self._governor.reason()

    def tick(self) -> None:
        """End the process if it has been idle, or busy with one thing, for too long."""
        self._process.tick()

    def look(self) -> None:
        """Look at the machine where that is due.

        Training in hand makes way within a second, and goes on after.
        """
        now = self._clock.monotonic()
        if now < self._look_due:
            return
        self._look_due = now + INTERVAL
        obstacle = self._governor.reason()
        if bool(obstacle) != bool(self._obstacle):  # its numbers change each time
            self._obstacle = obstacle
            self._log.info("training.held" if obstacle else "training.allowed", reason=obstacle)
            self._turned()
        pressing = self._governor.pressing()
        change = self._process.hold(wanted=bool(pressing))
        if change == "paused":
            self._log.info("training.paused", reason=pressing)
        elif change == "resumed":
            self._log.info("training.resumed")

    def stop(self) -> None:
        """End the process."""
        self._process.stop()
