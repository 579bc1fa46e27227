# SPDX-License-Identifier: Apache-2.0
"""How long each agent usually takes from the opening of a round to its update, and what follows.

The estimate is that of TCP's retransmission timer (Jacobson; RFC 6298, section 2): a smoothed mean
plus four times a smoothed deviation. A round need not wait for its deadline if everybody it asked
should have answered long ago.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from fedmill_coordinator.store.records import RoundRecord, UpdateRecord
from fedmill_shared.job import Federation

MEAN_GAIN = 1 / 8
DEVIATION_GAIN = 1 / 4
DEVIATIONS = 4.0
KNOWN_AFTER = 3
"""Updates of an agent before its estimate is believed."""
SHORTEST_SECONDS = 10.0
"""No agent is given up sooner, however fast it was: a gateway may swap, or its trainer start."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is known of one agent, s."""

    mean: float
    deviation: float
    count: int = 1

    @property
    def usual(self) -> float:
        """It rarely takes longer than this, s."""
        return self.mean + DEVIATIONS * self.deviation


def observe(before: Estimate | None, seconds: float) -> Estimate:
    """``before`` and one more update that took ``seconds`` (RFC 6298, rules 2.2 and 2.3)."""
    if before is None:
        return Estimate(seconds, seconds / 2)
    deviation = before.deviation + DEVIATION_GAIN * (abs(before.mean - seconds) - before.deviation)
    mean = before.mean + MEAN_GAIN * (seconds - before.mean)
    return Estimate(mean, deviation, before.count + 1)


def learn(rounds: Iterable[RoundRecord], updates: Iterable[UpdateRecord]) -> dict[str, Estimate]:
    """Estimates of all agents from stored ``updates``, oldest first, of stored ``rounds``."""
    opened = {record.round: record.opened_ns for record in rounds}
    found: dict[str, Estimate] = {}
    for update in updates:
        if update.round in opened:
            seconds = max(0.0, (update.received_ns - opened[update.round]) / 1e9)
            found[update.agent] = observe(found.get(update.agent), seconds)
    return found


def deadline_seconds(
    settings: Federation, asked: Collection[str], known: Mapping[str, Estimate]
) -> float:
    """How long a round that asks these agents may stay open, s."""
    estimates = [known[agent] for agent in asked if agent in known]
    sure = len(estimates) == len(asked) and all(e.count >= KNOWN_AFTER for e in estimates)
    if not settings.patience or not estimates or not sure:
        return settings.deadline_seconds
    patience = settings.patience * max(estimate.usual for estimate in estimates)
    floor = max(SHORTEST_SECONDS, settings.earliest_seconds)
    return min(settings.deadline_seconds, max(floor, patience))


def slow(settings: Federation, known: Mapping[str, Estimate]) -> set[str]:
    """Agents that usually miss the deadline."""
    return {
        agent
        for agent, estimate in known.items()
        if estimate.count >= KNOWN_AFTER and estimate.mean > settings.deadline_seconds
    }
