# SPDX-License-Identifier: Apache-2.0
"""The agent in safe mode: it connects, says how it is, has its certificate renewed, nothing else.

No source is read, nothing is scored, trained or installed, and no store is opened: whatever it was
that ended five starts in a row is not touched. Without a certificate nobody would hear of it any
more. After an hour a start in full is tried once.
"""

import os
from functools import partial
from pathlib import Path

from fedmill_agent.audited import AuditDesk
from fedmill_agent.background import Background
from fedmill_agent.config import AgentConfig
from fedmill_agent.daemon import TICK_SECONDS, Due
from fedmill_agent.guard import guarded
from fedmill_agent.heartbeat import HEARTBEAT_SECONDS
from fedmill_agent.identity.opening import open_keeper
from fedmill_agent.identity.term import certificate_state
from fedmill_agent.line import Connect, Line, read
from fedmill_agent.reloading import Reloaded
from fedmill_agent.service import Service
from fedmill_agent.starts import Starts
from fedmill_agent.status import resident_bytes, status_of, write_status
from fedmill_shared import __version__, topics
from fedmill_shared.audit import DAEMON
from fedmill_shared.clock import Clock
from fedmill_shared.errors import FedmillError
from fedmill_shared.inbox import Inbox
from fedmill_shared.link.base import Connected, Disconnected, LinkEvent, Message, Unheard
from fedmill_shared.log import Logger
from fedmill_shared.messages import AgentState, RenewalAnswer
from fedmill_shared.protocol import NEWEST

SAFE_SECONDS = 3600.0
POLL_SECONDS = 0.1
WAITING = 64
REMEDY = (
    "mend what the reason names, then `systemctl restart fedmill-agent`; a changed configuration "
    "or software is started in full, too"
)


class SafeDaemon:
    """Owns a link to the broker, the certificate for it, and nothing else of an agent."""

    def __init__(
        self,
        config: AgentConfig,
        connect: Connect,
        clock: Clock,
        log: Logger,
        *,
        starts: Starts,
        service: Service,
    ) -> None:
        """Prepare; ``starts`` says why, and of ``config`` only identity and broker are used."""
        self._config = config
        self._clock = clock
        self._log = log
        self._starts = starts
        self._service = service
        self._inbox: Inbox[LinkEvent | Due] = Inbox((WAITING,))
        self._line = Line(config, connect, self._hear, log, clock)
        self._audit = AuditDesk(config.agent, clock, log)
        self._background = Background(lambda call: self._hear(Due(call)), clock)
        self._identity = open_keeper(
            config,
            self._line,
            self._audit,
            background=self._background,
            hurry=self._hurry,
            clock=clock,
            log=log,
        )
        self._beat_due = self._tick_due = 0.0
        self._asked = self._answered = 0
        self._stopping = False
        self._over_at = clock.monotonic() + SAFE_SECONDS

    def stop(self) -> None:
        """Ask the loop to end; safe inside a signal handler."""
        self._stopping = True

    def reload(self) -> None:
        """Somebody asks for a changed configuration, which only a restart brings."""
        self._asked += 1

    def run(self) -> None:
        """Work until ``stop``.

        Raises:
            FedmillError: it has lasted an hour; the service manager is to start it anew, in full.
        """
        reason = self._starts.reason
        self._log.error("agent.safe_mode", reason=reason, pid=os.getpid(), remedy=REMEDY)
        agent = self._config.agent.id
        self._audit.record(who=DAEMON, what="agent.safe_mode", subject=agent, after=reason)
        self._line.start()
        guarded(self._log, self._beat)
        self._service.begin()
        over = False
        try:
            while not self._stopping and not over:
                self.step(POLL_SECONDS)
                over = not self._starts.forced and self._clock.monotonic() >= self._over_at
        finally:
            self._service.end()
            self._inbox.close()
            self._background.close()
            self._line.leave(self._state(online=False))
            self._log.info("agent.stopped", agent=self._config.agent.id)
        if over:
            self._starts.try_again()
            raise FedmillError(
                f"safe mode has lasted {SAFE_SECONDS / 3600:g} h: a start in full is tried",
                remedy="nothing to do where a service manager starts it again",
            )

    def step(self, timeout: float) -> None:
        """Take one event, or wait ``timeout`` seconds for none; then say what is due.

        What the coordinator sends passes by, but for a certificate: it says again whatever matters.
        """
        event = self._inbox.get(timeout)
        if isinstance(event, Connected | Disconnected):
            self._line.turn(event)
            self._beat_due = 0.0
        elif event is not None:
            guarded(self._log, partial(self._take, event))
        if self._identity is not None and self._clock.monotonic() >= self._tick_due:
            self._tick_due = self._clock.monotonic() + TICK_SECONDS
            guarded(self._log, self._identity.tick)
        if self._asked > self._answered:
            self._answered, self._beat_due = self._asked, 0.0
        if self._clock.monotonic() >= self._beat_due:
            self._beat_due = self._clock.monotonic() + HEARTBEAT_SECONDS
            guarded(self._log, self._beat)
        self._service.turn(lambda: f"safe mode: {self._starts.reason}", self._late)

    def _hurry(self) -> None:
        self._beat_due = 0.0

    def _hear(self, event: LinkEvent | Due) -> None:
        """Hand in what the network says; its thread waits while much is waiting."""
        self._inbox.put(event, 0)

    def _take(self, event: LinkEvent | Due) -> None:
        match event:
            case Due(call):
                call()
            case Unheard():
                self._line.unheard(event)
            case Message() if self._identity and topics.kind_of(event.topic) == "certificate":
                _, said = read(event)
                if isinstance(said, RenewalAnswer):
                    self._identity.hear(said)

    def _late(self) -> dict[str, float]:
        late = {"link": self._line.late, "background": self._background.late}
        return {name: seconds for name, seconds in late.items() if seconds}

    def _beat(self) -> None:
        state = self._state(online=True)
        if self._line.connected:
            self._line.send("state", state)
        outcome = Reloaded(self._answered)
        if self._answered:
            outcome = Reloaded(self._answered, f"the agent is in safe mode: {REMEDY}")
        identity = self._identity.standing() if self._identity is not None else None
        status = status_of(
            state,
            connected=self._line.connected,
            trainer_pid=None,
            config=outcome,
            identity=identity,
        )
        write_status(Path(self._config.agent.state), status)

    def _state(self, *, online: bool) -> AgentState:
        identity = self._identity
        return AgentState(
            online=online,
            software=__version__,
            newest=NEWEST,
            labels=self._config.agent.labels,
            sent_ns=self._clock.now_ns(),
            resident_bytes=resident_bytes(),
            certificate=None if identity is None else certificate_state(identity.standing()),
            safe_mode=self._starts.reason if online else "",
        )
