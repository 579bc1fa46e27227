# SPDX-License-Identifier: Apache-2.0
"""Which agents count for nothing for a while, and why, in words for whoever goes and looks.

An agent whose updates pull against most others over ``rounds`` of its rounds is put in quarantine:
its updates still come and are judged, and weigh nothing. Once they fit on average over three times
as many it counts again. In fleets too small for averages the direction of every single update
decides, and as many rounds as put an agent in let it out. Length alone puts nobody in: it is
clipped, and a plant that alone knows a fault has the longest updates of all. Nothing is remembered
for that but what the reports of the rounds hold.

In rounds of one or two updates there are no others to agree with, and nobody comes in.

A broken sensor is far more common than an attacker. So the reason names the agent's signals that
differ from the fleet's, which each agent tells with its updates.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from msgspec import Struct, structs

from fedmill_coordinator.aggregation.robust.base import Verdict
from fedmill_coordinator.aggregation.robust.verdicts import stands_apart
from fedmill_coordinator.rounds.contrary import LEAST_AGENTS, agreeing, contrary
from fedmill_shared.signals.shift import SignalShift

OFF_MEAN = 3.0
"""Standard deviations of the fleet by which the mean of a signal that is off differs."""
OFF_SPREAD = 3.0
"""Times the fleet's spread, or of the fleet's its own, from which on a signal is off."""
RELEASE = 3
"""Times as many rounds an agent has to fit on average to come out as put it in."""
Told = Mapping[str, Mapping[int, Verdict]]
"""Agent -> round -> verdict, of each round that it was in, the oldest first."""

_MOST_SIGNALS = 2  # that a reason names
_MOST_SIGMAS = 1000.0  # that it tells: an agent may claim a number of 300 digits


@dataclass(frozen=True, slots=True)
class Judged:
    """A round that was closed: its number, and the verdict on each agent of it."""

    round: int
    verdicts: Mapping[str, Verdict]


class Quarantine(Struct, frozen=True):
    """An agent that counts for nothing.

    Attributes:
        agent: its identity.
        since_round: first round in which it does not count.
        reason: what was found then, and what to look at.
        rounds_left: rounds of its own that it stays at least.
        agreements: round -> its agreement then, of the rounds since it came in that decide.
    """

    agent: str
    since_round: int
    reason: str
    rounds_left: int
    agreements: dict[int, float] = {}


def quarantines(
    judged: Sequence[Judged],
    rounds: int,
    *,
    standing: Sequence[Quarantine] = (),
    shifts: Mapping[str, Sequence[SignalShift]],
) -> list[Quarantine]:
    """Agents in quarantine in the round after the last of ``judged``, by name.

    Never half of the agents or more: where most stand apart nobody can tell who is wrong. Those
    that are in quarantine stay first, then those come that stood apart most.

    Args:
        judged: closed rounds, the oldest first; ``rounds`` of every agent's own, or all there are.
        rounds: how many in a row put an agent in quarantine and let it out again; 0: none is.
        standing: what this function gave for the last round of ``judged``.
        shifts: agent -> signals as it told them last; an agent that told nothing is missing.
    """
    if not judged or not rounds:
        return []
    told = _by_agent(judged)
    inside = {each.agent for each in standing}
    verdicts = {agent: list(entries.values()) for agent, entries in told.items()}
    small = len(told.keys() | inside) < LEAST_AGENTS
    before = [_extended(each, told, RELEASE * rounds) for each in standing]
    kept = _remaining_few(before, told, rounds) if small else _remaining(before, verdicts, rounds)
    room = (len(told.keys() | inside) - 1) // 2 - len(kept)
    reasons = (_apart if small else _against)(verdicts, rounds, inside)
    first = judged[-1].round + 1
    new = [
        Quarantine(
            agent, first, _reason(found, shifts.get(agent)), rounds * (1 if small else RELEASE)
        )
        for agent, found in list(reasons.items())[: max(0, room)]
    ]
    return sorted([*kept, *new], key=lambda each: each.agent)


def _against(
    verdicts: Mapping[str, Sequence[Verdict]], rounds: int, inside: Collection[str]
) -> dict[str, str]:
    """Agents that pull against most others on average, the worst first, and why they come in."""
    found = sorted(contrary(verdicts, rounds, inside).items(), key=lambda item: (item[1], item[0]))
    why = "its last updates pull against most others"
    return {a: f"{why} (cosine {average:.2f})" for a, average in found if a not in inside}


def _apart(
    verdicts: Mapping[str, Sequence[Verdict]], rounds: int, inside: Collection[str]
) -> dict[str, str]:
    """The same of fleets too small for averages: agents that stood apart every time."""
    found = {
        agent: each[-rounds:]
        for agent, each in verdicts.items()
        if agent not in inside and len(each) >= rounds and all(map(stands_apart, each[-rounds:]))
    }
    trust = {
        agent: sum(each.trust or 0.0 for each in verdicts) for agent, verdicts in found.items()
    }
    ordered = sorted(found, key=lambda agent: (trust[agent], agent))
    return {a: f"its last update {found[a][-1].statistic or 'stood apart'}" for a in ordered}


def _by_agent(judged: Sequence[Judged]) -> Told:
    found: dict[str, dict[int, Verdict]] = {}
    for each in judged:
        for agent, verdict in each.verdicts.items():
            found.setdefault(agent, {})[each.round] = verdict
    return found


def _extended(before: Quarantine, told: Told, most: int) -> Quarantine:
    """With what its last rounds said, which may lie further back than ``told`` reaches."""
    since = {
        number: verdict.agreement
        for number, verdict in told.get(before.agent, {}).items()
        if number >= before.since_round and verdict.agreement is not None
    }
    known = sorted({**before.agreements, **since}.items())[-most:]
    return structs.replace(before, agreements=dict(known))


def _remaining(
    standing: Sequence[Quarantine], verdicts: Mapping[str, Sequence[Verdict]], rounds: int
) -> list[Quarantine]:
    """Those that do not come out yet, by what they agreed with most others on average.

    Towards the end of a training honest and wrong updates look more alike: an average over few
    rounds would let an attacker in again.
    """
    span = RELEASE * rounds
    own = {e.agent: [Verdict(agreement=each) for each in e.agreements.values()] for e in standing}
    near = agreeing({**verdicts, **own}, span, own.keys())
    return [
        structs.replace(each, rounds_left=max(1, span - len(each.agreements)))
        for each in standing
        if len(each.agreements) < span or each.agent not in near
    ]


def _remaining_few(standing: Sequence[Quarantine], told: Told, rounds: int) -> list[Quarantine]:
    """The same in fleets too small for averages: by the direction of every single update."""
    kept = []
    for before in standing:
        left = rounds
        for number, verdict in reversed([*told.get(before.agent, {}).items()]):
            if number < before.since_round or stands_apart(verdict):
                break
            left -= verdict.trust is not None
        if left > 0:
            kept.append(structs.replace(before, rounds_left=left))
    return kept


def _reason(update: str, shifts: Sequence[SignalShift] | None) -> str:
    if shifts is None:
        return f"{update}: check its sensors and labels"
    off = sorted((each for each in shifts if _degree(each) >= 1), key=_degree, reverse=True)
    if not off:
        return f"{update}; no signal is off: check the labels"
    signals = "; ".join(map(_signal, off[:_MOST_SIGNALS]))
    which = "this sensor" if len(off) == 1 else "these sensors"
    return f"{signals}; {update}: check {which}"


def _degree(shift: SignalShift) -> float:
    """How far a signal is off; from 1 on it is."""
    narrower = 1 / max(shift.spread_ratio, 1e-9)
    return max(abs(shift.mean_sigmas) / OFF_MEAN, max(shift.spread_ratio, narrower) / OFF_SPREAD)


def _signal(shift: SignalShift) -> str:
    if abs(shift.mean_sigmas) >= OFF_MEAN:
        where = "above" if shift.mean_sigmas > 0 else "below"
        sigmas = abs(shift.mean_sigmas)
        told = f"{sigmas:.1f}" if sigmas < _MOST_SIGMAS else f"over {_MOST_SIGMAS:.0f}"
        return f"{shift.signal}: mean {told} standard deviations {where} the fleet's"
    return f"{shift.signal}: spread {shift.spread_ratio:.2g} times the fleet's"
