# SPDX-License-Identifier: Apache-2.0
"""Carries out that an agent is denied: it is gone, and so is what it left in open rounds."""

from collections.abc import Mapping

from fedmill_coordinator.pki.door import Door
from fedmill_coordinator.rounds.conductor import Conductor
from fedmill_coordinator.services import Services
from fedmill_shared.errors import StoreError
from fedmill_shared.link.base import Message
from fedmill_shared.messages import AgentState


class Denial:
    """Owns who was denied and may have left something; does nothing without a ``door``."""

    def __init__(self, door: Door | None, services: Services) -> None:
        """Nobody is denied yet; who was before the start is again, with the first step."""
        self._door = door
        self._services = services
        self._log = services.log
        self._left: set[str] = set()

    def greet(self) -> None:
        """The broker is there."""
        if self._door is not None:
            self._door.greet()

    def take(self, message: Message) -> bool:
        """Whether ``message`` is dealt with: it was about certificates, or of somebody denied.

        Raises:
            FrameError: it is no message of ours.
            StoreError: the disk fails; its sender asks again.
        """
        if self._door is None or not self._door.take(message):
            return False
        if message.topic.split("/")[2] in self._door.denied:
            self._services.counts.add("messages_denied")
        return True

    def step(self, conductors: Mapping[str, Conductor]) -> None:
        """Look who was revoked; what cannot be done now is done in a later step."""
        if self._door is None:
            return
        try:
            self._left |= self._door.step()
            for agent in sorted(self._left):
                self._deny(agent, conductors)
                self._left.discard(agent)
        except StoreError as error:
            self._log.error("store.failed", error=str(error))

    def _deny(self, agent: str, conductors: Mapping[str, Conductor]) -> None:
        services = self._services
        known = services.store.agent(agent)
        updates = sum(each.deny(agent) for each in conductors.values())
        # No will of it will be heard, so nobody else would ever say that it is gone.
        if known is not None:
            services.fleet.hear(agent, AgentState(online=False), retained=True)
        if updates or (known is not None and known.online):
            self._log.warning("agent.revoked", agent=agent, updates=updates)
