# SPDX-License-Identifier: Apache-2.0
"""Who takes part in one job: who has joined, delivered, is excused, and how long each takes."""

from collections import Counter
from collections.abc import Collection, Iterable

from fedmill_coordinator.fleet import Fleet
from fedmill_coordinator.rounds import pace
from fedmill_coordinator.store.records import RoundRecord, UpdateRecord

SILENT_AFTER = 2
"""Deadlines in a row that an agent lets pass before rounds no longer wait for it."""


class Attendance:
    """Owns what is known of the agents in the phase that a job is in.

    Attributes:
        joined: agents that have windows and want to take part.
        foreign: agents whose signals are not the job's.
        excused: agents that cannot deliver in this phase.
        done: agents that delivered what the phase collects, at whatever age.
        fresh: agents that delivered what the phase asked for.
        known: how long each agent takes for an update.
        missed: rounds in a row that had to close without an agent that they waited for.
    """

    def __init__(self, job: str, fleet: Fleet) -> None:
        """Nobody is known."""
        self._job = job
        self._fleet = fleet
        self.joined: set[str] = set()
        self.foreign: set[str] = set()
        self.excused: set[str] = set()
        self.done: set[str] = set()
        self.fresh: set[str] = set()
        self.known: dict[str, pace.Estimate] = {}
        self.missed: Counter[str] = Counter()

    def begin(self, done: Iterable[str], fresh: Iterable[str]) -> None:
        """A phase begins in which these have delivered already."""
        self.done, self.fresh = set(done), set(fresh)
        self.excused.clear()

    def present(self) -> set[str]:
        """Online agents that know of the job and do not refuse it."""
        return self._fleet.on_job(self._job) - self.foreign

    def ready(self) -> set[str]:
        """Online agents that can be asked for an update now."""
        return self._fleet.eligible(self._job) & self.joined - self.foreign

    def admit(self, agent: str) -> None:
        """An agent takes part, whatever stood against it before."""
        self.foreign.discard(agent)
        self.excused.discard(agent)
        self.joined.add(agent)

    def bar(self, agent: str) -> None:
        """An agent's signals are not the job's."""
        self.foreign.add(agent)
        self.joined.discard(agent)

    def deliver(self, agent: str, *, fresh: bool) -> None:
        """An agent delivered; ``fresh`` if it is what this phase asked for."""
        self.done.add(agent)
        self.missed.pop(agent, None)
        if fresh:
            self.fresh.add(agent)

    def missing(self, among: Collection[str]) -> int:
        """How many ``among`` these are still to deliver, and can be expected to."""
        return len(set(among) - self.fresh - self.excused - self.silent())

    def silent(self) -> set[str]:
        """Agents that are online and deliver nothing: asked all the same, and not waited for."""
        return {agent for agent, rounds in self.missed.items() if rounds >= SILENT_AFTER}

    def give_up(self, among: Collection[str]) -> None:
        """The deadline has passed without those ``among`` these that did not deliver."""
        self.missed.update(set(among) - self.fresh - self.excused)

    def learn(self, rounds: Iterable[RoundRecord], updates: Iterable[UpdateRecord]) -> None:
        """Take up from stored rounds and updates, oldest first, how long agents take."""
        self.known = pace.learn(rounds, updates)

    def took(self, agent: str, seconds: float) -> None:
        """An agent took ``seconds`` from the opening of a round to its update."""
        self.known[agent] = pace.observe(self.known.get(agent), seconds)
