# SPDX-License-Identifier: Apache-2.0
"""What the agent says of itself every few seconds: to the coordinator, and on its own disk."""

from pathlib import Path

from fedmill_agent.config import AgentConfig
from fedmill_agent.line import Line
from fedmill_agent.memory import return_memory
from fedmill_agent.plant import Plant
from fedmill_agent.reloading import ConfigFile, Reloaded
from fedmill_agent.seats import Seats
from fedmill_agent.status import resident_bytes, write_status
from fedmill_agent.training.governed import GovernedTrainer
from fedmill_shared import __version__
from fedmill_shared.clock import Clock
from fedmill_shared.messages import AgentState
from fedmill_shared.protocol import NEWEST

HEARTBEAT_SECONDS = 5.0


class Heartbeat:
    """Knows when the next word is due, and whom to ask for it."""

    def __init__(
        self,
        config: AgentConfig,
        clock: Clock,
        line: Line,
        seats: Seats,
        *,
        trainer: GovernedTrainer,
        plant: Plant,
        file: ConfigFile | None,
    ) -> None:
        """The first one is due at once; ``file`` tells what became of a changed configuration."""
        self._labels = config.agent.labels
        self._folder = Path(config.agent.state)
        self._clock = clock
        self._line = line
        self._seats = seats
        self._trainer = trainer
        self._plant = plant
        self._file = file
        self._due = 0.0

    def adopt(self, config: AgentConfig) -> None:
        """From now on."""
        self._labels = config.agent.labels

    def soon(self) -> None:
        """Something has changed that others should know: it is due now."""
        self._due = 0.0

    def due(self) -> bool:
        """Whether it is time."""
        return self._clock.monotonic() >= self._due

    def beat(self) -> None:
        """Say it.

        Raises:
            StoreError: the disk takes it no more; the coordinator has been told.
        """
        self._due = self._clock.monotonic() + HEARTBEAT_SECONDS
        return_memory()
        state = self.state()
        if self._line.connected:
            self._line.send("state", state)
        write_status(
            self._folder,
            state,
            connected=self._line.connected,
            trainer_pid=self._trainer.pid,
            disk=self._plant.disk.status(),
            sources=self._plant.standings(),
            config=self._file.outcome if self._file is not None else Reloaded(),
        )

    def state(self) -> AgentState:
        """What there is to say.

        Raises:
            StoreError: a store cannot be counted.
        """
        return AgentState(
            online=True,
            software=__version__,
            newest=NEWEST,
            labels=self._labels,
            sent_ns=self._clock.now_ns(),
            resident_bytes=resident_bytes(),
            jobs=self._seats.phases(),
        )
