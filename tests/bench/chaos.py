# SPDX-License-Identifier: Apache-2.0
"""A federation that is hurt every few seconds, and whose books are checked afterwards.

Eight agents, real processes, real broker; what goes wrong is drawn by tests/faults/mayhem.py.
"""

import argparse
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil  # type: ignore[import-untyped]  # ships no types
from tests.bench.harness import Figure, at_least, at_most, figure, folder
from tests.faults.federation import FaultyFleet, a_quiet_plant
from tests.faults.mayhem import Mayhem
from tests.faults.replay import Outcome, replay
from tests.system.fleet import a_job

from fedmill_coordinator.demo.recipes.plan import Plan
from fedmill_coordinator.rounds.commands import ABORTED
from fedmill_coordinator.store.records import UpdateRecord
from fedmill_shared.errors import FedmillError, UsageError

SUMMARY = "random faults every few seconds: nothing lost, nothing counted twice, memory flat"
AGENTS = 8
GOAL = 6
SPARED = 2
"""Agents that only the network hurts: their processes live as long as the run."""
FAULT_SECONDS = 4.0
POLL_SECONDS = 0.05
SAMPLE_SECONDS = 1.0
GROWN_UP_SECONDS = 20.0
"""A process that is younger has not reached its size."""
DRIFT_LIMIT = 0.05
QUIET_ROUNDS = 3
PATIENCE_SECONDS = 180.0
JOB = "chaos"


@dataclass(frozen=True, slots=True)
class Books:
    """What became of every update that an agent finished.

    Attributes:
        sent: updates that the agents' logs name.
        stored: updates that the coordinator knows.
        lost: those of ``sent`` that are neither stored nor were refused.
        twice: those that stand in two rounds or twice in one, or that an agent has put into its
            next update although a round used them.
        fates: how many are included, late, or wait.
    """

    sent: int
    stored: int
    lost: int
    twice: int
    fates: Mapping[str, int]


@dataclass(slots=True)
class Memory:
    """RSS of grown-up processes over time, by name."""

    samples: dict[str, list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))

    def take(self, now: float, processes: Mapping[str, psutil.Process]) -> None:
        """One look at everything that runs."""
        for name, process in processes.items():
            with suppress(psutil.Error):
                if time.time() - process.create_time() >= GROWN_UP_SECONDS:
                    self.samples[name].append((now, process.memory_info().rss))

    def drift(self, name: str) -> float:
        """Median of the last third of the samples over that of the second, minus one."""
        sizes = [size for _, size in sorted(self.samples[name])]
        third = len(sizes) // 3
        if not third:
            return 0.0
        early, late = sizes[third : 2 * third], sizes[2 * third :]
        return float(np.median(late) / np.median(early) - 1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the bench."""
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0, help="decides which faults come when")
    parser.add_argument("--folder", type=Path, help="work here and leave the files")


def run(options: argparse.Namespace) -> list[Figure]:
    """Hurt the federation, then let it come to rest and check its books.

    Raises:
        UsageError: there is no time.
        FedmillError: a process ended by itself, or the federation does not come to rest.
    """
    if options.minutes <= 0:
        raise UsageError("--minutes must be more than 0")
    job = a_job(JOB, rounds=1_000_000, goal=GOAL, minimum=2, deadline_seconds=15.0, max_staleness=8)
    plan = Plan(job, [a_quiet_plant(number + 1) for number in range(AGENTS)])
    names = [plant.agent for plant in plan.plants]
    memory = Memory()
    with (
        folder(options.folder) as place,
        Mayhem(place, plan, seed=options.seed, spared=names[-SPARED:]) as mayhem,
    ):
        begin(mayhem)
        hurt(mayhem, options.minutes * 60, memory)
        mayhem.calm()
        come_to_rest(mayhem)
        fleet = mayhem.fleet
        books = audit(fleet)
        outcome = replay(fleet.store, fleet.blobs, JOB)
        rounds = Counter(r.state for r in fleet.rounds() if ABORTED not in r.report)
        return [
            *book_figures(books, outcome, rounds),
            *memory_figures(memory),
            figure("faults", mayhem.done.total(), "1"),
            *(figure(f"fault, {name}", n, "1") for name, n in sorted(mayhem.done.items())),
        ]


def chaos_plan(*, agents: int, goal: int) -> Plan:
    """A job without an end, whose rounds take well under a second, and its agents."""
    job = a_job(JOB, rounds=1_000_000, goal=goal, minimum=2, deadline_seconds=15.0, max_staleness=8)
    return Plan(job, [a_quiet_plant(number + 1) for number in range(agents)])


def audit(fleet: FaultyFleet) -> Books:
    """Compare what the agents say they sent with what the coordinator says it has."""
    stored: list[UpdateRecord] = [
        update
        for record in fleet.rounds()
        for update in fleet.store.updates(fleet.job.name, record.round)
    ]
    known = Counter(update.sha256 for update in stored)
    sent, refused, reused = set[str](), set[str](), set[str]()
    for agent in fleet.agents:
        sent |= {event["sha256"] for event in fleet.events(agent, "update.sent")}
        refused |= {event["sha256"] for event in fleet.events(agent, "update.refused")}
        reused |= {event["sha256"] for event in fleet.events(agent, "update.late")}
    keys = Counter((u.agent, u.round, u.base) for u in stored if u.included_in is not None)
    used = {update.sha256 for update in stored if update.included_in is not None}
    twice = sum(n > 1 for n in known.values()) + sum(n > 1 for n in keys.values())
    twice += len(used & reused)
    lost = sent - known.keys() - refused
    fates = Counter(update.state for update in stored)
    return Books(len(sent), len(stored), len(lost), twice, dict(fates))


def book_figures(books: Books, outcome: Outcome, rounds: Mapping[str, int]) -> list[Figure]:
    """What must be nought, and what it was nought of."""
    return [
        at_most("updates lost", books.lost, "1", 0),
        at_most("updates counted twice", books.twice, "1", 0),
        at_most("rounds aborted", rounds.get("abandoned", 0), "1", 0),
        at_most("rounds with other weights than the replay", len(outcome.wrong), "1", 0),
        at_least("final weights equal to the replay", float(outcome.final), "1", 1),
        at_most("updates that still wait", books.fates.get("received", 0), "1", 0),
        at_least("rounds closed", rounds.get("closed", 0), "1", QUIET_ROUNDS + 1),
        figure("updates sent", books.sent, "1"),
        figure("updates included", books.fates.get("included", 0), "1"),
        figure("updates late", books.fates.get("late", 0), "1"),
        figure("updates replayed", outcome.updates, "1"),
    ]


def memory_figures(memory: Memory) -> list[Figure]:
    """Growth of every process from the second to the last third of the run."""
    return [
        at_most(f"memory drift, {name}", max(0.0, memory.drift(name)), "1", DRIFT_LIMIT)
        for name in sorted(memory.samples)
    ]


def begin(mayhem: Mayhem) -> None:
    """Let the job start before anything goes wrong."""
    _wait(mayhem, "the first rounds", lambda: mayhem.fleet.closed() >= QUIET_ROUNDS)


def hurt(mayhem: Mayhem, seconds: float, memory: Memory, *, every: float = FAULT_SECONDS) -> None:
    """A fault ``every`` few seconds, with a look at the memory each second."""
    start = time.monotonic()
    strike_due = sample_due = start
    while (now := time.monotonic()) < start + seconds:
        mayhem.look_after()
        if now >= strike_due:
            mayhem.strike()
            strike_due = now + every
        if now >= sample_due:
            memory.take(now, mayhem.processes())
            sample_due = now + SAMPLE_SECONDS
        time.sleep(POLL_SECONDS)


def come_to_rest(mayhem: Mayhem) -> None:
    """Some rounds without a fault; then the job ends, and every update finds its fate."""
    fleet = mayhem.fleet
    closed = fleet.closed()
    _wait(mayhem, "rounds after the faults", lambda: fleet.closed() >= closed + QUIET_ROUNDS)
    result = fleet.run(
        "fedmill_coordinator", "jobs", "abort", fleet.layout.coordinator, JOB, "--yes"
    )
    if result.returncode:
        raise FedmillError(f"the job cannot be ended: {result.stdout} {result.stderr}")
    _wait(mayhem, "settled", lambda: not any(_parcels(fleet)))


def _parcels(fleet: FaultyFleet) -> Iterable[Sequence[Path]]:
    return (fleet.parcels(agent) for agent in fleet.agents)


def _wait(mayhem: Mayhem, what: str, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not done():
        mayhem.look_after()
        if time.monotonic() > deadline:
            raise FedmillError(
                f"{what}: not within {PATIENCE_SECONDS:g} s", remedy="see --folder and its logs"
            )
        time.sleep(POLL_SECONDS * 4)
