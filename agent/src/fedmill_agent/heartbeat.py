# SPDX-License-Identifier: Apache-2.0
"""What the agent says of itself every few seconds: to the coordinator, and on its own disk."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from fedmill_agent.audited import AuditDesk
from fedmill_agent.background import Background
from fedmill_agent.config import AgentConfig
from fedmill_agent.identity.term import IdentityTold, certificate_state
from fedmill_agent.line import Line
from fedmill_agent.memory import return_memory
from fedmill_agent.plant import Plant
from fedmill_agent.reloading import ConfigFile, Reloaded
from fedmill_agent.seats import Seats
from fedmill_agent.status import resident_bytes, status_of, write_status
from fedmill_agent.training.governed import GovernedTrainer
from fedmill_shared import __version__
from fedmill_shared.clock import Clock
from fedmill_shared.errors import FedmillError
from fedmill_shared.messages import AgentState
from fedmill_shared.protocol import NEWEST

HEARTBEAT_SECONDS = 5.0
NEWS_SECONDS = 0.05
"""Least time between two words to the coordinator alone."""


class Heartbeat:
    """Knows when the next word is due, and whom to ask for it.

    Attributes:
        newest: the last word.
    """

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
        disk: Background | None = None,
        trust: Callable[[], str] = str,
        identity: Callable[[], IdentityTold] | None = None,
        audit: AuditDesk | None = None,
    ) -> None:
        """The first one is due at once; ``file`` tells what became of a changed configuration.

        ``disk`` writes the file: a slow disk holds up no window. ``trust`` says what is wrong
        with what is signed, ``identity`` where the agent stands with its certificate, if it needs
        one, and ``audit`` how far the audit log has come, and how much of it could not be written.
        """
        self._labels = config.agent.labels
        self._folder = Path(config.agent.state)
        self._clock = clock
        self._line = line
        self._seats = seats
        self._trainer = trainer
        self._plant = plant
        self._file = file
        self._disk = disk or Background()
        self._trust = trust
        self._identity = identity
        self._audit = audit
        self.newest = AgentState(online=True, newest=NEWEST)
        self._due = 0.0
        self._news = False
        self._news_due = 0.0
        self._writing = False
        self._failure: FedmillError | None = None

    def begin(self) -> None:
        """Leave a first word on the disk, here and now: whoever hears of us asks there.

        Raises:
            StoreError: the disk does not take it.
        """
        write_status(self._folder, self._status(self.state()))

    def adopt(self, config: AgentConfig) -> None:
        """From now on."""
        self._labels = config.agent.labels

    def soon(self) -> None:
        """Something has changed that others should know: it is due now."""
        self._due = 0.0

    def news(self) -> None:
        """The coordinator waits for something that has changed: it hears at once, others later."""
        self._news = True

    def due(self) -> bool:
        """Whether it is time."""
        now = self._clock.monotonic()
        return now >= self._due or (self._news and now >= self._news_due)

    def turn(self) -> None:
        """Say what is due.

        Raises:
            StoreError: as ``beat``, or a store cannot be counted.
        """
        if self._clock.monotonic() >= self._due:
            self.beat()
        else:
            self._tell()

    def beat(self) -> None:
        """Say it to the coordinator, and leave it on the disk.

        Raises:
            StoreError: the disk takes it no more, or did not the last time; the coordinator has
                been told.
        """
        self._due = self._clock.monotonic() + HEARTBEAT_SECONDS
        return_memory()
        self._leave(self._tell())

    def _tell(self) -> AgentState:
        self._news, self._news_due = False, self._clock.monotonic() + NEWS_SECONDS
        state = self.newest = self.state()
        if self._line.connected:
            self._line.send("state", state)
            self._line.wonder()
        return state

    def _leave(self, state: AgentState) -> None:
        """Have ``state`` written; not while what was said before still is."""
        if not self._writing:
            self._writing = True
            work = partial(write_status, self._folder, self._status(state))
            self._disk.submit(work, lambda _: self._written(None), self._written)
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _written(self, failure: FedmillError | None) -> None:
        self._writing, self._failure = False, failure

    def _status(self, state: AgentState) -> bytes:
        return status_of(
            state,
            connected=self._line.connected,
            trainer_pid=self._trainer.pid,
            disk=self._plant.disk.status(),
            sources=self._plant.standings(),
            drift=self._seats.drifts(),
            config=self._file.outcome if self._file is not None else Reloaded(),
            rights=self._line.rights,
            identity=self._identity() if self._identity is not None else None,
            audit_lost=self._audit.failed if self._audit is not None else 0,
        )

    def state(self) -> AgentState:
        """What there is to say.

        Raises:
            StoreError: a store cannot be counted.
        """
        disk, rights = self._plant.disk.status(), self._line.rights
        return AgentState(
            online=True,
            software=__version__,
            newest=NEWEST,
            labels=self._labels,
            sent_ns=self._clock.now_ns(),
            resident_bytes=resident_bytes(),
            jobs=self._seats.phases(),
            rights=rights.trouble if rights is not None else "",
            trust=self._trust(),
            certificate=None if self._identity is None else certificate_state(self._identity()),
            disk_free_bytes=max(1, disk.free_bytes) if disk is not None else 0,  # 0: not known
            audit=self._audit.head() if self._audit is not None else "",
        )
