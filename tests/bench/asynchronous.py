# SPDX-License-Identifier: Apache-2.0
"""Seconds to the same accuracy, synchronous and FedBuff, on devices of which some are 16 x slower.

Six agents of the built-in rig, two of each speed; the bearings that the fastest have never seen
fail on slower ones only. Both runs are real federations and start from the same version 0. What
the synchronous one reaches in the end sets the level; every version is scored after its run.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec import structs
from numpy.typing import NDArray
from tests.bench.fleet import COORDINATOR, POLL_SECONDS, Fleet
from tests.bench.harness import Figure, at_least, figure, folder
from tests.exported import sharing
from tests.faults import slow

from fedmill_agent.places import windows_file
from fedmill_agent.store.windows import WindowStore
from fedmill_agent.training.worker import examples_of, quiet_torch
from fedmill_coordinator.config import load
from fedmill_coordinator.demo.broker import broker
from fedmill_coordinator.demo.layout import Layout
from fedmill_coordinator.demo.processes import Processes, program
from fedmill_coordinator.demo.recipes import Plan, Plant, rig
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.store.records import UpdateRecord, Verb, VersionRecord
from fedmill_coordinator.store.sql import SqlStore
from fedmill_shared.errors import FedmillError, UsageError
from fedmill_shared.job import Evaluation, Federation, Job
from fedmill_shared.learning.local import Examples, evaluate
from fedmill_shared.link.blocks import BLOB_LIMIT
from fedmill_shared.metrics import merge_all, primary
from fedmill_shared.models import build
from fedmill_shared.models.flat import FlatModel

SUMMARY = "FedBuff against synchronous rounds, devices 1:4:16 as slow: time to an accuracy"
SPEEDS = (1, 4, 16)
RIGS = 2
"""Each, by its seed, gives one agent of every speed."""
SPEED_UP = 3.0
LEVEL = 0.9
"""Of what the synchronous run reaches."""
SMOOTH = 3
DEADLINE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Version:
    """A model version: seconds from the opening of round 1 to its making, and its weights."""

    name: str
    seconds: float
    vector: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Arm:
    """One run, scored.

    Attributes:
        seconds: when each version was there; the first, which is version 0, at 0.
        accuracy: of each version on the held-out windows of all agents.
        staleness: rounds by which each update that was used was late.
        training: seconds that each training of the fastest agents took.
        start: name of version 0.
    """

    seconds: list[float]
    accuracy: list[float]
    staleness: list[int]
    training: list[float]
    start: str

    @property
    def final(self) -> float:
        """Mean accuracy of the last versions."""
        return float(np.mean(self.accuracy[-SMOOTH:]))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the bench."""
    parser.add_argument("--unit", type=float, default=0.5, help="seconds of a fast training")
    parser.add_argument("--rigs", type=int, default=RIGS, help="agents of each speed")
    parser.add_argument("--rounds", type=int, default=24, help="of the synchronous run")
    parser.add_argument("--goal", type=int, default=2, help="updates that FedBuff waits for")
    parser.add_argument("--exponent", type=float, default=0.0, help="of FedBuff's staleness")
    parser.add_argument("--momentum", type=float, default=0.0, help="of FedBuff's coordinator")
    parser.add_argument("--step", type=float, default=0.5, help="server learning rate of FedBuff")
    parser.add_argument("--folder", type=Path, help="work here and leave the files")


def run(options: argparse.Namespace) -> list[Figure]:
    """Run both and compare.

    Raises:
        UsageError: no rig, too few rounds, or an impossible unit or goal.
        FedmillError: a federation failed, or the two did not start from the same version.
    """
    agents = len(SPEEDS) * options.rigs
    if options.rounds < SMOOTH or options.unit <= 0 or not 1 <= options.goal <= agents:
        raise UsageError(f"--rounds {options.rounds}, --unit {options.unit:g}, --rigs or --goal")
    arms = []
    with folder(options.folder) as place:
        for name, plan in plans(options).items():
            print(f"{name} ...", file=sys.stderr)
            arms.append(_arm(plan, options.unit, place / name))
    together, apart = arms
    if together.start != apart.start:
        raise FedmillError("the two runs started from different models")
    return figures_of(together, apart, unit=options.unit)


def plans(options: argparse.Namespace) -> dict[str, Plan]:
    """The two federations: they differ in how rounds close and in the step that one takes.

    The synchronous one keeps the recipe's server learning rate and momentum, with less of either
    it is slower. FedBuff goes without momentum: late updates act as one themselves (Mitliagkas et
    al. 2016, "Asynchrony begets momentum", arXiv:1605.09774), and with both it diverges; and its
    steps are shorter, because there are more of them. The learning rate of the agents is constant,
    so that nothing depends on how long a run was meant to be; FedBuff's is meant to last about
    half as long.
    """
    base = rig.plan(0).job
    plants = _plants(options.rigs)
    common = structs.replace(base.federation, deadline_seconds=DEADLINE_SECONDS, patience=0.0)
    together = structs.replace(
        common, rounds=options.rounds, goal=0, minimum=len(plants), max_staleness=0
    )
    apart = structs.replace(
        common,
        rounds=max(SMOOTH, options.rounds * SPEEDS[-1] // options.goal),
        goal=options.goal,
        minimum=options.goal,
        max_staleness=1_000_000,
        staleness_exponent=options.exponent,
        server_momentum=options.momentum,
        server_learning_rate=options.step,
    )
    return {
        "synchronous": Plan(_job(base, together), plants),
        "FedBuff": Plan(_job(base, apart), plants),
    }


def reached(accuracies: Sequence[float], level: float) -> int | None:
    """The first version at which the mean of the last three accuracies is at ``level``, if any."""
    for last in range(SMOOTH - 1, len(accuracies)):
        if np.mean(accuracies[last - SMOOTH + 1 : last + 1]) >= level:
            return last
    return None


def stays(accuracies: Sequence[float], level: float) -> int | None:
    """The first version from which on that mean never is below ``level`` again, if any."""
    lasts = range(SMOOTH - 1, len(accuracies))
    low = [n for n in lasts if np.mean(accuracies[n - SMOOTH + 1 : n + 1]) < level]
    first = low[-1] + 1 if low else SMOOTH - 1
    return first if first < len(accuracies) else None


def figures_of(together: Arm, apart: Arm, *, unit: float) -> list[Figure]:
    """The speed-up, which is 0 where the level is never reached, and how each run went."""
    level = LEVEL * together.final
    last, first = (reached(arm.accuracy, level) for arm in (together, apart))
    speed_up = 0.0
    if last is not None and first is not None:
        speed_up = together.seconds[last] / apart.seconds[first]
    return [
        at_least("speed-up to the level", speed_up, "1", SPEED_UP),
        figure("level of accuracy", level, "1"),
        *_of_one("synchronous", together, level, unit),
        *_of_one("FedBuff", apart, level, unit),
    ]


def _of_one(name: str, arm: Arm, level: float, unit: float) -> list[Figure]:
    rounds, tail = len(arm.seconds) - 1, np.percentile(arm.training, 95) / unit
    first, good = reached(arm.accuracy, level), stays(arm.accuracy, level)
    found = []
    if first is not None:
        found = [
            figure(f"{name}: time to the level", arm.seconds[first], "s"),
            figure(f"{name}: rounds to the level", first, "1"),
        ]
    if good is not None:
        found.append(figure(f"{name}: time until it stays there", arm.seconds[good], "s"))
    return [
        *found,
        figure(f"{name}: rounds", rounds, "1"),
        figure(f"{name}: time of a round", arm.seconds[-1] / rounds, "s"),
        figure(f"{name}: final accuracy", arm.final, "1"),
        figure(f"{name}: mean staleness", float(np.mean(arm.staleness)), "rounds"),
        figure(f"{name}: updates used", len(arm.staleness), "1"),
        figure(f"{name}: fastest training, p95 / unit", float(tail), "1"),
    ]


def _pairs(rigs: int) -> list[tuple[int, int]]:
    """Seed of the rig and factor of every agent."""
    return [(seed, factor) for factor in SPEEDS for seed in range(rigs)]


def _rigs(plan: Plan) -> int:
    return len(plan.plants) // len(SPEEDS)


def _agent(seed: int, factor: int) -> str:
    return f"rig-{seed}-x{factor}"


def _plants(rigs: int) -> list[Plant]:
    """An agent for each pair, without live streams: they would only take processor time."""
    machines = {seed: rig.plan(seed).plants for seed in range(rigs)}
    return [
        Plant(
            _agent(seed, factor),
            [s for s in machines[seed][SPEEDS.index(factor)].sources if s["split"] != "live"],
        )
        for seed, factor in _pairs(rigs)
    ]


def _job(base: Job, federation: Federation) -> Job:
    return structs.replace(
        base,
        learning=structs.replace(base.learning, schedule="constant"),
        federation=federation,
        evaluation=Evaluation(every=0),
    )


def _arm(plan: Plan, unit: float, place: Path) -> Arm:
    """Run one federation to its end and score what it made."""
    with _started(plan, unit, place) as running:
        versions = _collect(running)
        used = _used(running)
    fastest = {_agent(seed, SPEEDS[0]) for seed in range(_rigs(plan))}
    return Arm(
        seconds=[version.seconds for version in versions],
        accuracy=_score(running, versions),
        staleness=[number - update.round for update, number in used],
        training=[update.seconds for update, _ in used if update.agent in fastest],
        start=versions[0].name,
    )


@contextmanager
def _started(plan: Plan, unit: float, place: Path) -> Iterator[Fleet]:
    """The federation, at the moment when all agents have told their statistics.

    The job is paused until then: FedBuff would agree on those of the first agents.
    """
    with broker(place / "broker") as port:
        layout = Layout.write(place, plan, port)
        database = load(layout.coordinator).database
        with Processes(layout.logs) as processes:
            command = sharing(program("fedmill_coordinator", "serve", layout.coordinator))
            processes.start(COORDINATOR, command)
            while not database.exists():
                processes.check()
                time.sleep(POLL_SECONDS)
            with SqlStore.in_file(database) as store:
                running, job = Fleet(plan.job, layout, store, processes), plan.job.name
                running.wait("the job", lambda: store.job(job) is not None)
                _order(running, "pause")
                for seed, factor in _pairs(_rigs(plan)):
                    _start_agent(running, _agent(seed, factor), unit * factor)
                running.wait("statistics", lambda: len(store.moments(job)) == len(plan.plants))
                _order(running, "resume")
                yield running


def _start_agent(running: Fleet, name: str, seconds: float) -> None:
    path = running.layout.agents[name]
    command = [sys.executable, str(slow.HERE), str(seconds), "run", str(path)]
    running.processes.start(name, command)


def _order(running: Fleet, verb: Verb) -> None:
    """Have the coordinator carry out an order of its operator."""
    number = running.store.give_order(running.job.name, verb, "bench", time.time_ns())

    def done() -> bool:
        order = running.store.order(number)
        return order is not None and order.done_ns is not None

    running.wait(f"order to {verb}", done)


def _collect(running: Fleet) -> list[Version]:
    """All versions of the run, each read before its weights are forgotten.

    Raises:
        FedmillError: a process ended, it takes too long, or weights were forgotten.
    """
    job, store = running.job, running.store
    blobs = Blobs(load(running.layout.coordinator).blobs)
    found: list[tuple[VersionRecord, NDArray[np.float32]]] = []

    def read() -> None:
        for record in store.versions(job.name)[len(found) :]:
            if record.weights is None:
                raise FedmillError(f"version {record.number} was forgotten before it was read")
            data = blobs.get(record.weights, BLOB_LIMIT)
            found.append((record, np.frombuffer(data, "<f4")))

    limit = time.monotonic() + DEADLINE_SECONDS
    while running.closed() < job.federation.rounds:
        running.processes.check()
        if time.monotonic() > limit:
            raise FedmillError(f"{running.layout.folder}: not within {DEADLINE_SECONDS:g} s")
        read()
        time.sleep(POLL_SECONDS)
    read()
    opened = store.rounds(job.name)[0].opened_ns
    return [
        Version(record.version, max(0.0, (record.created_ns - opened) / 1e9), vector)
        for record, vector in found
    ]


def _used(running: Fleet) -> list[tuple[UpdateRecord, int]]:
    """Every update that went into a version, and the round that took it."""
    name = running.job.name
    rounds = range(1, running.job.federation.rounds + 1)
    updates = (update for number in rounds for update in running.store.updates(name, number))
    return [(update, update.included_in) for update in updates if update.included_in is not None]


def _score(running: Fleet, versions: Sequence[Version]) -> list[float]:
    """Accuracy of each version on the held-out windows of all agents.

    Windows overlap; those that are scored follow each other without.
    """
    job = running.job
    step = max(1, job.window.length // job.stride)
    held: list[Examples] = []
    for path in running.layout.agents.values():
        file = windows_file(str(path.parent / "state"), job)
        with WindowStore.reader(file) as store:
            every = examples_of(job, store.load("test", task=job.job.task))
        held.append(Examples(every.inputs[::step], every.targets[::step], every.last[::step]))
    quiet_torch()
    model = FlatModel(build(job, 0))
    accuracies = []
    for version in versions:
        model.load(version.vector)
        statistics = [evaluate(model, job, examples)[0] for examples in held]
        accuracies.append(primary(merge_all(statistics))[1])
    return accuracies
