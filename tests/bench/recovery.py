# SPDX-License-Identifier: Apache-2.0
"""Deaths in the middle of a round: kill -9 of the coordinator, of an agent, and of the broker.

Real broker, coordinator and agents, and rounds that need every agent. The trainers of some are
frozen until the round waits with the updates of the others, durable; then something is killed and
started again at once, and the trainers are thawed.
"""

import argparse
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from msgspec import structs
from tests.bench.fleet import rig_plan
from tests.bench.harness import Figure, at_most, figure, folder
from tests.bench.transfer import events
from tests.system.fleet import COORDINATOR, Fleet, federation

from fedmill_coordinator.store.records import RoundRecord, UpdateRecord
from fedmill_shared.errors import FedmillError, UsageError
from fedmill_shared.job import Mlp

SUMMARY = "kill -9 of coordinator, agent and broker in mid-round: seconds, work that is lost"
LIMIT = 5.0
"""Seconds from the kill of the coordinator until the round that was open has closed."""
OTHERS = 3
"""Kills of an agent, and of the broker."""
BETWEEN = 2
"""Rounds that close after each recovery before the next kill."""
ROUNDS = 1_000_000
CALM_SECONDS = 0.5
"""No update has come for so long: what was on its way has come too."""
START_SECONDS = 180.0
Rows = dict[str, tuple[str, str, int]]
"""Agent -> base, SHA-256 and arrival of its update."""


@dataclass(frozen=True, slots=True)
class Stall:
    """A round that waits.

    Attributes:
        round: its number.
        rows: the updates that are there.
        frozen: trainers of the agents that it waits for.
    """

    round: int
    rows: Rows
    frozen: list[psutil.Process]


@dataclass(frozen=True, slots=True)
class Recovery:
    """A kill: seconds until the round had closed, and updates that it had and has no more."""

    seconds: float
    changed: int


@dataclass(frozen=True, slots=True)
class Books:
    """What the whole job has come to.

    Attributes:
        retrained: updates that an agent made although it had made one for that round.
        wrong: rounds that are missing, doubled, abandoned, or without every agent exactly once.
        rounds: rounds that are closed.
    """

    retrained: int
    wrong: int
    rounds: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the bench."""
    parser.add_argument("--agents", type=int, default=10)
    parser.add_argument("--kills", type=int, default=5, help="of the coordinator")
    parser.add_argument("--folder", type=Path, help="work here and leave the files")


def run(options: argparse.Namespace) -> list[Figure]:
    """Kill the coordinator, then agents, then the broker, in one job.

    Raises:
        UsageError: too few agents or kills.
        FedmillError: the federation failed, or did not recover.
    """
    if options.agents < 2 or options.kills < 1:
        raise UsageError(f"--agents {options.agents}, --kills {options.kills}: at least 2 and 1")
    shares, others = (held(options.agents, n) for n in (options.kills, OTHERS))
    with folder(options.folder) as place, _started(place, options.agents) as fleet:
        coordinator = [_coordinator(fleet, _stall(fleet, share)) for share in shares]
        agents = [_agent(fleet, _stall(fleet, share)) for share in others]
        brokers = [_broker(fleet, _stall(fleet, share)) for share in others]
        books = _books(fleet)
    return figures_of(coordinator, agents, brokers, books)


def held(agents: int, kills: int) -> list[int]:
    """How many updates there are at each of the ``kills``: from one to all but one."""
    return [round(share) for share in np.linspace(1, agents - 1, kills)]


def figures_of(
    coordinator: Sequence[Recovery],
    agents: Sequence[Recovery],
    brokers: Sequence[Recovery],
    books: Books,
) -> list[Figure]:
    """How long each took, and what it cost."""
    kinds = {"agent": agents, "broker": brokers}
    seconds = {kind: [each.seconds for each in found] for kind, found in kinds.items()}
    first = [each.seconds for each in coordinator]
    changed = sum(each.changed for each in (*coordinator, *agents, *brokers))
    return [
        figure("coordinator killed: round closes after, p50", float(np.median(first)), "s"),
        at_most("coordinator killed: round closes after, max", max(first), "s", LIMIT),
        *(
            figure(f"{kind} killed: round closes after, {name}", float(value), "s")
            for kind, each in seconds.items()
            for name, value in (("p50", np.median(each)), ("max", max(each)))
        ),
        figure("kills", len(coordinator) + len(agents) + len(brokers), "1"),
        at_most("updates retrained", books.retrained, "1", 0),
        at_most("updates that were there, lost or changed", changed, "1", 0),
        at_most("rounds lost or doubled", books.wrong, "1", 0),
        figure("rounds", books.rounds, "1"),
    ]


def changed(before: Rows, after: Rows) -> int:
    """Updates of ``before`` that are gone or others in ``after``."""
    return sum(after.get(agent) != row for agent, row in before.items())


def rows_of(updates: Iterable[UpdateRecord]) -> Rows:
    """What must stay the same of the updates of one round."""
    return {update.agent: (update.base, update.sha256, update.received_ns) for update in updates}


def retrained(sent: Iterable[tuple[str, int]]) -> int:
    """How many updates are the second or a later one of an agent for a round."""
    return sum(count - 1 for count in Counter(sent).values())


def wrong(rounds: Sequence[RoundRecord], made: Sequence[int | None], agents: Sequence[str]) -> int:
    """Rounds that ended badly; ``made`` is the round of every version.

    The last round may be open. Each of the others closed once, with every agent, and made one
    version.
    """
    ended = [record for record in rounds if record.state != "open"]
    last = max((record.round for record in ended), default=0)
    closed = Counter(
        record.round
        for record in ended
        if record.state == "closed"
        and sorted(record.included) == sorted(agents)
        and record.accepted == len(agents)
    )
    versions = Counter(made)
    return sum(closed[n] != 1 or versions[n] != 1 for n in range(1, last + 1))


@contextmanager
def _started(place: Path, agents: int) -> Iterator[Fleet]:
    """A federation whose rounds are running.

    Raises:
        FedmillError: it failed, whatever was waited for.
    """
    small = Mlp(hidden=[16, 8])
    plan = rig_plan("recovery", small, agents=agents, length=256, rounds=ROUNDS, live=False)
    # A round that waits for a frozen trainer must not be given up or extended.
    rounds = structs.replace(plan.job.federation, deadline_seconds=3600.0, patience=0.0)
    job = structs.replace(plan.job, federation=rounds)
    try:
        with federation(place, job, plan.plants) as fleet:
            fleet.wait("the first rounds", lambda: fleet.closed() >= BETWEEN, START_SECONDS)
            yield fleet
    except AssertionError as error:  # how the fleet of the tests tells that it waited in vain
        raise FedmillError(str(error)) from error


def _stall(fleet: Fleet, share: int) -> Stall:
    """Have the open round wait with ``share`` updates.

    One agent holds a round up until all others have nothing to do: whoever is frozen then has
    begun no update of the next round, and that one waits for all of them.
    """
    number = fleet.closed()
    fleet.wait("rounds in between", lambda: fleet.closed() >= number + BETWEEN)
    turn = number % len(fleet.agents)
    agents = [*fleet.agents[turn:], *fleet.agents[:turn]]
    trainers = {agent: fleet.trainer(agent) for agent in agents}
    first, *others = agents
    trainers[first].suspend()
    _wait_calm(fleet, others)
    frozen = [trainers[agent] for agent in agents[share:]]
    for trainer in frozen:
        trainer.suspend()
    trainers[first].resume()
    waiting = _wait_calm(fleet, agents[:share])
    return Stall(waiting, _rows(fleet, waiting), frozen)


def _wait_calm(fleet: Fleet, agents: Sequence[str]) -> int:
    """Wait until the open round has the updates of ``agents`` and gets no other; its number."""
    seen: tuple[int, set[str]] = 0, set()
    since = time.monotonic()

    def calm() -> bool:
        nonlocal since, seen
        current = fleet.store.current_round(fleet.job.name)
        number = current.round if current is not None else 0
        now = number, set(_rows(fleet, number))
        if now != seen:
            since, seen = time.monotonic(), now
        return seen[1] == set(agents) and time.monotonic() - since >= CALM_SECONDS

    fleet.wait(f"a round with {len(agents)} updates", calm)
    return seen[0]


def _coordinator(fleet: Fleet, stall: Stall) -> Recovery:
    """Kill the coordinator."""
    killed_ns = time.time_ns()
    fleet.kill(COORDINATOR)
    _thaw(stall)
    fleet.start(COORDINATOR)
    return _recovered(fleet, stall, killed_ns)


def _agent(fleet: Fleet, stall: Stall) -> Recovery:
    """Kill an agent whose update is there; the others go on once it has joined again."""
    victim = min(stall.rows)
    joined = len(fleet.events(victim, "job.joined"))
    killed_ns = time.time_ns()
    fleet.kill(victim)
    fleet.start(victim)
    fleet.wait(f"return of {victim}", lambda: len(fleet.events(victim, "job.joined")) > joined)
    _thaw(stall)
    return _recovered(fleet, stall, killed_ns)


def _broker(fleet: Fleet, stall: Stall) -> Recovery:
    """Kill the broker, which comes back without a memory."""
    killed_ns = time.time_ns()
    fleet.kill_broker()
    _thaw(stall)
    fleet.start_broker()
    return _recovered(fleet, stall, killed_ns)


def _thaw(stall: Stall) -> None:
    for trainer in stall.frozen:
        trainer.resume()


def _recovered(fleet: Fleet, stall: Stall, killed_ns: int) -> Recovery:
    """Wait until the round has closed; its time and that of the kill are by the same clock."""
    name = fleet.job.name

    def closed_ns() -> int | None:
        record = fleet.store.round(name, stall.round)
        return None if record is None else record.closed_ns

    fleet.wait(f"close of round {stall.round}", lambda: closed_ns() is not None)
    seconds = ((closed_ns() or 0) - killed_ns) / 1e9
    return Recovery(seconds, changed(stall.rows, _rows(fleet, stall.round)))


def _rows(fleet: Fleet, number: int) -> Rows:
    return rows_of(fleet.store.updates(fleet.job.name, number))


def _books(fleet: Fleet) -> Books:
    """Look over the whole job, once the last recovery has proved to last."""
    number, name = fleet.closed(), fleet.job.name
    fleet.wait("rounds at the end", lambda: fleet.closed() >= number + BETWEEN)
    rounds = fleet.rounds()  # before the versions: a round that closes meanwhile has one more
    ended = [record for record in rounds if record.state != "open"]
    made = [version.round for version in fleet.store.versions(name)]
    sent = [
        (agent, int(line["round"]))
        for agent in fleet.agents
        for line in events(fleet.layout.logs / f"{agent}.log", "update.sent")
    ]
    return Books(retrained(sent), wrong(rounds, made, fleet.agents), len(ended))
