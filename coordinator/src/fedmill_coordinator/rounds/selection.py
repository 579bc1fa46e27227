# SPDX-License-Identifier: Apache-2.0
"""Which agents a round asks: those that were asked least go first, so that each has its turn.

More are asked than the goal needs, because some will go away or be late (Bonawitz et al. 2019,
"Towards federated learning at scale: system design", arXiv:1902.01046, section 2.2: 130 %).
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from fedmill_coordinator.rounds.pace import Estimate, slow
from fedmill_coordinator.store.records import RoundRecord
from fedmill_shared.job import Federation, Job
from fedmill_shared.seeds import seed_for


def cohort_size(settings: Federation) -> int:
    """How many agents a round asks; 0 for all."""
    return math.ceil(settings.goal * settings.over_selection)


def choose(
    ready: Collection[str],
    size: int,
    *,
    asked: Mapping[str, int],
    slow: Collection[str],
    seed: tuple[str, int],
) -> list[str]:
    """``size`` of the agents that are ``ready``, sorted by name.

    ``asked`` counts in how many rounds each was asked before. An agent that is ``slow``, which
    usually misses the deadline, waits one turn longer than the others. Who is equal is drawn by
    ``seed`` (job, round): the same choice every time, and another one in the next round.
    """

    def turn(agent: str) -> tuple[int, int]:
        return asked.get(agent, 0) + (agent in slow), seed_for(*seed, agent)

    return sorted(sorted(ready, key=turn)[:size])


def times_asked(rounds: Iterable[RoundRecord]) -> dict[str, int]:
    """In how many of ``rounds`` each agent was asked by name."""
    counts: dict[str, int] = {}
    for record in rounds:
        for agent in record.asked:
            counts[agent] = counts.get(agent, 0) + 1
    return counts


class Cohorts:
    """Owns how often each agent of one job was asked by name."""

    def __init__(self, job: Job, rounds: Iterable[RoundRecord]) -> None:
        """As ``rounds``, the ones before, tell."""
        self._job = job
        self._asked = Counter(times_asked(rounds))
        self._chosen = False

    def next(
        self,
        ready: Collection[str],
        known: Mapping[str, Estimate],
        number: int,
        silent: Collection[str] = (),
    ) -> list[str]:
        """Whom of those ``ready`` round ``number`` asks by name; nobody where all are asked.

        Args:
            ready: agents that can be asked.
            known: how long agents usually take.
            number: of the round.
            silent: agents that deliver nothing, and wait one turn longer as slow ones do.
        """
        size = cohort_size(self._job.federation)
        # A newcomer joins the queue where it stands, and has no past to catch up with. Who is there
        # at a start may have waited for its first turn since before it.
        least = min((self._asked[agent] for agent in ready if agent in self._asked), default=0)
        new = set(ready) - self._asked.keys()
        self._asked.update(dict.fromkeys(new, least if self._chosen else 0))
        self._chosen = True
        if not 0 < size < len(ready):
            return []
        return choose(
            ready,
            size,
            asked=self._asked,
            slow={*slow(self._job.federation, known), *silent},
            seed=(self._job.name, number),
        )

    def count(self, asked: Iterable[str]) -> None:
        """These were asked once more; that is durable."""
        self._asked.update(asked)
