# SPDX-License-Identifier: Apache-2.0
"""What the daemon has to do with the agent's identity: watch it, renew it, sign in with it."""

from collections.abc import Callable
from pathlib import Path

from fedmill_agent.background import Background
from fedmill_agent.config import AgentConfig
from fedmill_agent.identity.children import Children
from fedmill_agent.identity.facts import Facts
from fedmill_agent.identity.folder import IdentityFolder
from fedmill_agent.identity.place import Place, identity_folder
from fedmill_agent.identity.renewal import Renewal
from fedmill_agent.identity.term import IdentityTold
from fedmill_agent.identity.watch import Watch, Worker
from fedmill_agent.line import Line
from fedmill_shared.audit import DAEMON, Audit
from fedmill_shared.clock import Clock
from fedmill_shared.log import Logger
from fedmill_shared.messages import RenewalAnswer


class Keeper:
    """Owns the watch over the identity, and its renewal where that is ours to do."""

    def __init__(
        self,
        place: Place,
        config: AgentConfig,
        line: Line,
        audit: Audit,
        *,
        background: Background,
        hurry: Callable[[], None],
        clock: Clock,
        log: Logger,
        worker: Worker | None = None,
    ) -> None:
        """``hurry`` lets others hear soon of what has changed."""
        self._agent = config.agent.id
        self._line = line
        self._audit = audit
        self._hurry = hurry
        folder = IdentityFolder(identity_folder(Path(config.agent.state)))
        hands = worker or Children(folder.path, self._agent)
        self._watch = Watch(place, folder, hands, background, self._changed, clock=clock, log=log)
        self._renewal = (
            Renewal(
                hands,
                lambda request: line.send("renew", request),
                background,
                clock=clock,
                log=log,
            )
            if place.ours
            else None
        )

    def tick(self) -> None:
        """Do what is due about once a second."""
        self._watch.tick()
        if self._renewal is not None:
            self._renewal.tick(self._watch.facts, connected=self._line.connected)

    def hear(self, answer: RenewalAnswer) -> None:
        """The coordinator answers a request for renewal."""
        if self._renewal is not None:
            self._renewal.hear(answer)

    def standing(self) -> IdentityTold:
        """Where the agent stands with its certificate."""
        return self._watch.standing()

    def _changed(self, before: Facts | None, after: Facts) -> None:
        """Sign in with another certificate; session and outbox stay, nothing is restarted."""
        self._line.renew()
        self._hurry()
        serial = before.serial if before is not None else ""
        self._audit.record(
            who=DAEMON,
            what="certificate.changed",
            subject=self._agent,
            before=serial,
            after=after.serial,
        )
