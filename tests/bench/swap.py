# SPDX-License-Identifier: Apache-2.0
"""What a change of the model costs: windows that are lost, the longest pause, and time to serve.

The first part is a whole daemon in this process, whose loop is fed with windows on time while one
release follows the other; and then one version the other, where each serves as it comes. The second
is a fleet of real processes, and an order of an operator.
"""

import argparse
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import structs
from tests.agent.kit import Coordinator, Journal, Versions
from tests.bench.fleet import Fleet, fleet, rig_plan
from tests.bench.harness import Figure, at_least, at_most, figure, folder
from tests.bench.memory import MODEL

from fedmill_agent.config import AgentConfig, AgentSection, TrainingSection
from fedmill_agent.daemon import SOURCES, Daemon
from fedmill_agent.inference.scored import Scored
from fedmill_agent.line import subscriptions
from fedmill_agent.sources.base import Samples
from fedmill_agent.sources.rig import RigOptions
from fedmill_agent.sources.runner import SourceEvent
from fedmill_agent.streams import Fed
from fedmill_coordinator.demo.recipes.plan import Plan
from fedmill_shared.clock import SystemClock
from fedmill_shared.errors import FedmillError, UsageError
from fedmill_shared.job import Job, Labels, Mlp, Rollout, Signal, Task
from fedmill_shared.job import Window as WindowSection
from fedmill_shared.link.memory import MemoryLink
from fedmill_shared.messages import InstallState, ReleaseNotice

SUMMARY = "windows lost and longest pause of swaps under load; a release on ten agents"
PAUSE_LIMIT_MS = 10.0
COMMIT_LIMIT_SECONDS = 5.0
LENGTH = 1024
RATE_HZ = 12_000.0
VERSIONS = 6
QUIET_SECONDS = 3.0
PATIENCE_SECONDS = 120.0
SOURCE = "line"
Release = Literal["each", "manual"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the bench."""
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument("--interval-ms", type=float, default=5.0, help="between two windows")
    parser.add_argument("--rest-ms", type=float, default=50.0, help="between two swaps")
    parser.add_argument("--agents", type=int, default=10)
    parser.add_argument("--releases", type=int, default=5, help="orders to the fleet")
    parser.add_argument("--folder", type=Path, help="work here and leave the files")


def run(options: argparse.Namespace) -> list[Figure]:
    """Swap, and release.

    Raises:
        UsageError: there is nothing to measure.
        FedmillError: a version was rejected, or the fleet failed.
    """
    if min(options.swaps, options.agents, options.releases) < 1 or options.interval_ms <= 0:
        raise UsageError("at least one swap, agent and release, and some time between windows")
    with folder(options.folder) as place:
        pace = Pace(options.swaps, options.interval_ms / 1e3, options.rest_ms / 1e3)
        return [
            *_swaps(place / "releases", pace, "manual"),
            *_swaps(place / "versions", pace, "each"),
            *_releases(place / "fleet", options.agents, options.releases),
        ]


@dataclass(frozen=True, slots=True)
class Pace:
    """So many swaps; seconds between two windows, and behind a swap."""

    swaps: int
    interval: float
    rest: float


@dataclass
class Feed:
    """Hands windows to a daemon on time, and notes when each was due and when it was scored.

    Attributes:
        due: end of each window (ns) -> when it was handed in, seconds.
        scored: end of each window (ns) -> when it was scored, each time.
    """

    daemon: Daemon
    ticket: int
    interval: float
    due: dict[int, float] = field(default_factory=dict)
    scored: dict[int, list[float]] = field(default_factory=dict)
    ended: threading.Event = field(default_factory=threading.Event)

    def observe(self, scored: Scored) -> None:
        """Note a batch."""
        now = time.perf_counter()
        for window in scored.windows:
            self.scored.setdefault(window.end_ns, []).append(now)

    def run(self) -> None:
        """Hand in windows until told to end."""
        period = round(1e9 / RATE_HZ)
        values = np.random.default_rng(0).normal(size=(1, LENGTH))
        start, number = time.perf_counter(), 0
        while not self.ended.is_set():
            wait = start + number * self.interval - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            first = number * LENGTH * period
            samples = Samples("run", SOURCE, first, period, values)
            self.due[first + (LENGTH - 1) * period] = time.perf_counter()
            event = Fed("bench-swap", self.ticket, SourceEvent(SOURCE, samples))
            self.daemon._inbox.put(event, SOURCES)
            number += 1


@contextmanager
def _daemon(place: Path, coordinator: Coordinator) -> Iterator[Daemon]:
    """A daemon with one source that says nothing itself; it does not train."""
    config = AgentConfig(
        agent=AgentSection(id="a", state=str(place)),
        training=TrainingSection(enabled=False),
        sources=[RigOptions(name=SOURCE, split="live", speed=1e-6)],
    )

    def connect(sink: Any, will: Any) -> MemoryLink:
        return MemoryLink(coordinator.broker, subscriptions("a"), sink, will)

    daemon = Daemon(config, connect, SystemClock(), Journal())
    daemon._line.start()
    try:
        yield daemon
    finally:
        daemon._close()


def _swaps(place: Path, pace: Pace, release: Release) -> list[Figure]:
    """Lead one version after the other to what serves, as the job says, while windows come."""
    versions = Versions(_job(release))
    for seed in range(1, VERSIONS):
        versions.advance(seed=seed)
    coordinator = Coordinator.of(versions)
    with _daemon(place, coordinator) as daemon:
        coordinator.offer(versions.job, state="running")
        lead = _lead(daemon, coordinator, versions, release)
        lead(1)
        work = daemon._seats._seats[versions.job.name]._work
        if work is None:
            raise FedmillError("the agent refused the job")
        feed = Feed(daemon, work.streams.ticket(SOURCE), pace.interval)
        work.scorer.observe(feed.observe)
        thread = threading.Thread(target=feed.run)
        thread.start()
        try:
            _go_on(daemon, QUIET_SECONDS)
            swapping = time.perf_counter()
            for number in range(2, pace.swaps + 2):
                lead(number)
                _go_on(daemon, pace.rest)
            ended = time.perf_counter()
        finally:
            feed.ended.set()
            while thread.is_alive():  # it may wait for room
                daemon.step(0.01)
            thread.join()
        _until(daemon, lambda: len(feed.scored) == len(feed.due), PATIENCE_SECONDS / 10)
    what = "releases" if release == "manual" else "versions as they come"
    return _figures(feed, what, pace.swaps, (swapping, ended))


def _lead(
    daemon: Daemon, coordinator: Coordinator, versions: Versions, release: Release
) -> Callable[[int], None]:
    """What brings the so-many-th model to serve; they come again and again."""
    each = release == "each"
    notices = [structs.replace(versions.notice(n), serve=each) for n in range(VERSIONS)]
    if each:  # nobody broadcasts here, and a delta would be waited for
        notices = [structs.replace(notice, delta=None, base="") for notice in notices]
    else:
        coordinator.tell("version", notices[0])

    def lead(number: int) -> None:
        notice = notices[(number - 1) % VERSIONS]
        if each:
            coordinator.tell("version", notice)
            _until(daemon, lambda: _serves(daemon, notice.version))
        else:
            told = ReleaseNotice(job=notice.job, release=number, notice=notice)
            coordinator.tell("release", told)
            _until(daemon, lambda: _committed(daemon, number))

    return lead


def _figures(feed: Feed, what: str, swaps: int, between: tuple[float, float]) -> list[Figure]:
    began, ended = between
    waits = {end: feed.scored[end][0] - due for end, due in feed.due.items() if end in feed.scored}
    during = [wait for end, wait in waits.items() if began <= feed.due[end] <= ended]
    before = [wait for end, wait in waits.items() if feed.due[end] < began]
    again = sum(len(times) > 1 for times in feed.scored.values())
    return [
        at_least(f"{what}: swaps", swaps, "1", swaps),
        figure(f"{what}: windows meanwhile", len(during), "1"),
        at_most(f"{what}: windows dropped", len(feed.due) - len(waits), "1", 0),
        at_most(f"{what}: windows scored twice", again, "1", 0),
        at_most(f"{what}: longest pause", max(during) * 1e3, "ms", PAUSE_LIMIT_MS),
        figure(f"{what}: window to prediction p50", float(np.median(during)) * 1e3, "ms"),
        figure(f"{what}: longest pause without swaps", max(before) * 1e3, "ms"),
        figure(f"{what}: seconds per swap, gates and rest included", (ended - began) / swaps, "s"),
    ]


def _job(release: Release) -> Job:
    return Job(
        job=Task(name="bench-swap"),
        signals=[Signal(name="vibration", unit="g", rate_hz=RATE_HZ)],
        window=WindowSection(length=LENGTH),
        labels=Labels(classes=["normal", "outer", "inner", "ball"]),
        model=MODEL,
        rollout=Rollout(release=release),
    )


def _committed(daemon: Daemon, release: int) -> bool:
    """Whether the agent serves this release.

    Raises:
        FedmillError: it has refused it.
    """
    phase = daemon._seats.phases().get("bench-swap")
    report = phase.install if phase is not None else None
    if report is None or report.release != release:
        return False
    if report.state in (InstallState.REJECTED, InstallState.ROLLED_BACK):
        raise FedmillError(f"release {release}: {report.state} at {report.gate}: {report.reason}")
    return bool(report.state == InstallState.COMMITTED)


def _serves(daemon: Daemon, version: str) -> bool:
    phase = daemon._seats.phases().get("bench-swap")
    report = phase.install if phase is not None else None
    return report is not None and report.serving == version


def _go_on(daemon: Daemon, seconds: float) -> None:
    began = time.monotonic()
    _until(daemon, lambda: time.monotonic() - began >= seconds)


def _until(daemon: Daemon, done: Any, seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise FedmillError(f"the daemon did not get there in {seconds:g} s")
        daemon.step(0.05)


def _releases(place: Path, agents: int, releases: int) -> list[Figure]:
    """Order releases of a finished job; seconds until every agent serves each."""
    plan = rig_plan(
        "bench-release", Mlp(hidden=[64, 32]), agents=agents, length=256, rounds=4, live=True
    )
    rollout = Rollout(release="manual", rings=["canary", "fleet"])
    job = msgspec.structs.replace(plan.job, rollout=rollout)
    with fleet(Plan(job, plan.plants), place) as running:
        running.wait("rounds", running.finished)
        seconds = [_release(running, number, agents) for number in range(1, releases + 1)]
    return [
        at_most(
            f"order to active on {agents} agents, canary first, longest",
            max(seconds),
            "s",
            COMMIT_LIMIT_SECONDS,
        ),
        figure("the same, median", float(np.median(seconds)), "s"),
        figure("releases", releases, "1"),
    ]


def _release(running: Fleet, number: int, agents: int) -> float:
    """Seconds from the order for release ``number`` until all agents have told that they serve."""
    store, job = running.store, running.job.name
    versions = store.versions(job)
    version = versions[-1 - number % 2].version
    argument = msgspec.json.encode({"version": version, "ring": "", "force": True}).decode()
    began = time.monotonic()
    store.give_order(job, "promote", "bench", time.time_ns(), argument=argument)

    def done() -> bool:
        found = store.installs(job, number)
        failed = [each for each in found if each.state in ("rejected", "rolled_back", "timed_out")]
        if failed:
            raise FedmillError(f"release {number}: {failed[0].agent}: {failed[0].reason}")
        return sum(each.state == "committed" for each in found) == agents

    running.wait(f"release {number}", done, poll=0.01)
    return time.monotonic() - began
