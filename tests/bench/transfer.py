# SPDX-License-Identifier: Apache-2.0
"""Transfer of a large model to an agent that joins late: clean, with losses, and after a kill.

Real broker, coordinator and agents. A first agent takes version 0 and sends one update of raw
float32; then the job is over, and each of the others pulls the snapshot of the last version.
"""

import argparse
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # ships no types
from msgspec import structs
from tests.bench.fleet import CLASSES, COORDINATOR, POLL_SECONDS, Fleet, rig_plan
from tests.bench.harness import Figure, at_least, figure, folder
from tests.bench.memory import rollup
from tests.faults.proxy import Proxy

from fedmill_coordinator.config import load
from fedmill_coordinator.demo.broker import broker
from fedmill_coordinator.demo.layout import Layout
from fedmill_coordinator.demo.processes import Processes, program
from fedmill_coordinator.demo.recipes import Plan
from fedmill_coordinator.store.sql import SqlStore
from fedmill_shared.errors import FedmillError, UsageError
from fedmill_shared.job import Compression, Mlp

SUMMARY = "download and upload of a large model: MB/s, losses, resumption, memory"
LENGTH = 256
SPEED_TARGET = 15.0
"""MB/s, of 10^6 bytes."""
LOSS = 0.05
KILL_AT = 0.25
"""Share of the snapshot that has arrived as the agent is killed."""
SLOW_SECONDS = 0.1
"""Delay of every packet until the kill, so that there is a middle to hit."""
KILL_POLL_SECONDS = 0.005
LARGEST_WIDTH = 4096
SMALLEST_MIB, LARGEST_MIB = 1, 64
TRAINS, CLEAN, LOSSY, KILLED = "trains", "clean", "lossy", "killed"
Fields = dict[str, str]


@dataclass(frozen=True, slots=True)
class Transfer:
    """One blob or update that came: bytes of it, those that were there before, and seconds."""

    size: int
    resumed: int
    seconds: float

    @classmethod
    def of(cls, fields: Fields) -> "Transfer":
        """What a line of a log says."""
        resumed = int(fields.get("resumed_bytes", 0))
        return cls(int(fields["bytes"]), resumed, float(fields["seconds"]))

    @property
    def speed(self) -> float:
        """MB/s of what really came."""
        return (self.size - self.resumed) / 1e6 / max(self.seconds, 1e-9)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the bench."""
    parser.add_argument("--mib", type=int, default=20, help="size of the model in MiB")
    parser.add_argument("--folder", type=Path, help="work here and leave the files")


def run(options: argparse.Namespace) -> list[Figure]:
    """Measure all transfers, one after the other.

    Raises:
        UsageError: a size that no model has.
        FedmillError: the federation failed.
    """
    plan = _plan(options.mib)
    with folder(options.folder) as place, _started(plan, place) as (running, port):
        running.wait("the job", running.finished)
        logs, least = running.layout.logs, running.manifest().size * 4
        first = [Transfer.of(line) for line in events(logs / f"{TRAINS}.log", "blob.received")]
        sent = [Transfer.of(line) for line in events(logs / "coordinator.log", "update.received")]
        running.processes.dismiss([TRAINS])
        clean = _download(running, CLEAN, running.layout, least)
        agent = _peak(running.processes.pid(CLEAN))
        with Proxy(port) as proxy:
            layout = Layout.write(place / "behind the proxy", plan, proxy.port)
            proxy.drop(LOSS, match=lambda topic: "/block" in topic, direction="down")
            lossy, lost = _download(running, LOSSY, layout, least), proxy.counts["dropped"]
            proxy.heal()
            resumed = _download_twice(running, layout, least, proxy)
        children = psutil.Process().children()
        brokers = [child.pid for child in children if child.name() == "mosquitto"]
        return [
            *download_figures(clean, lossy, lost, resumed),
            *other_figures([each for each in first if each.size >= least], sent),
            figure("agent peak RSS", agent, "MiB"),
            figure("broker peak RSS", max(map(_peak, brokers)), "MiB"),
            figure("coordinator peak RSS", _peak(running.processes.pid(COORDINATOR)), "MiB"),
        ]


def download_figures(
    clean: Transfer, lossy: Transfer, lost: int, resumed: Transfer
) -> list[Figure]:
    """What late agents made of the snapshot; ``lost`` is the number of blocks."""
    return [
        at_least("download", clean.speed, "MB/s", SPEED_TARGET),
        figure("snapshot", clean.size, "B"),
        figure("download, 5 % lost", lossy.speed, "MB/s"),
        at_least("blocks lost", lost, "1", 1),
        figure("download, after kill -9", resumed.speed, "MB/s"),
        at_least("bytes that the kill did not lose", resumed.resumed, "B", 1),
    ]


def other_figures(first: list[Transfer], sent: list[Transfer]) -> list[Figure]:
    """The broadcast of version 0 to the first agent, and its update, as far as they are logged."""
    broadcast = [figure("broadcast of version 0", each.speed, "MB/s") for each in first[:1]]
    update = [figure("upload of an update, fp32", each.speed, "MB/s") for each in sent[:1]]
    return [*broadcast, *update]


def widths(params: int) -> list[int]:
    """Hidden widths of the three-layer perceptron that is closest to ``params`` parameters.

    Raises:
        UsageError: it would be too wide or too narrow.
    """
    classes, choices = len(CLASSES), []
    for first in range(64, LARGEST_WIDTH + 1, 64):
        second = round((params - first * (LENGTH + 1) - classes) / (first + 1 + classes))
        if 1 <= second <= LARGEST_WIDTH:
            size = first * (LENGTH + 1) + second * (first + 1) + classes * (second + 1)
            choices.append((abs(size - params), [first, second]))
    if not choices:
        raise UsageError(f"no model has {params} parameters", remedy="choose another --mib")
    return min(choices)[1]


def events(log: Path, name: str) -> Iterator[Fields]:
    """The fields of every event called ``name`` in a log."""
    if log.exists():
        for line in log.read_text(errors="replace").splitlines():
            fields = dict(re.findall(r'(\w+)=("[^"]*"|\S+)', line))
            if fields.get("event") == name:
                yield fields


def _plan(mib: int) -> Plan:
    if not SMALLEST_MIB <= mib <= LARGEST_MIB:
        raise UsageError(f"--mib {mib}", remedy=f"{SMALLEST_MIB} to {LARGEST_MIB}")
    model = Mlp(hidden=widths(mib * 2**18))
    plan = rig_plan("bench-transfer", model, agents=1, length=LENGTH, rounds=1, live=False)
    job = structs.replace(plan.job, compression=Compression(uplink="fp32", downlink="fp32"))
    [plant] = plan.plants
    return Plan(job, [replace(plant, agent=name) for name in (TRAINS, CLEAN, LOSSY, KILLED)])


@contextmanager
def _started(plan: Plan, place: Path) -> Iterator[tuple[Fleet, int]]:
    """Broker, coordinator and the agent that trains; the port of the broker."""
    with broker(place / "broker") as port:
        layout = Layout.write(place, plan, port)
        text = layout.coordinator.read_text()
        text = text.replace("[coordinator]", '[coordinator]\nlog_level = "debug"')
        layout.coordinator.write_text(text)
        database = load(layout.coordinator).database
        with Processes(layout.logs) as processes:
            command = program("fedmill_coordinator", "serve", layout.coordinator)
            processes.start(COORDINATOR, command)
            processes.start(TRAINS, program("fedmill_agent", "run", layout.agents[TRAINS]))
            while not database.exists():
                processes.check()
                time.sleep(POLL_SECONDS)
            with SqlStore.in_file(database) as store:
                yield Fleet(plan.job, layout, store, processes), port


def _download(running: Fleet, name: str, layout: Layout, least: int) -> Transfer:
    """Start the agent ``name``, until the snapshot of ``least`` bytes has come and is installed."""
    running.processes.start(name, program("fedmill_agent", "run", layout.agents[name]))
    log = running.layout.logs / f"{name}.log"
    running.wait(f"version of {name}", lambda: any(events(log, "version.installed")))
    received = map(Transfer.of, events(log, "blob.received"))
    return next(each for each in received if each.size >= least)


def _download_twice(running: Fleet, layout: Layout, least: int, proxy: Proxy) -> Transfer:
    """The same, with the agent killed in the middle and started again."""
    processes = running.processes
    proxy.delay(SLOW_SECONDS, direction="down")
    processes.start(KILLED, program("fedmill_agent", "run", layout.agents[KILLED]))
    state = layout.agents[KILLED].parent / "state"
    running.wait("middle of the transfer", _arrived(state, KILL_AT * least), KILL_POLL_SECONDS)
    os.kill(processes.pid(KILLED), signal.SIGKILL)
    while processes.working([KILLED]):
        time.sleep(KILL_POLL_SECONDS)
    if any(events(running.layout.logs / f"{KILLED}.log", "version.installed")):
        raise FedmillError("the transfer was over before the kill", remedy="choose a larger --mib")
    proxy.heal()
    return _download(running, KILLED, layout, least)


def _arrived(state: Path, size: float) -> Callable[[], bool]:
    """Whether a blob in work has come that far; its blocks come in order."""

    def check() -> bool:
        try:
            sizes = [path.stat().st_size for path in state.glob("jobs/*/versions-*/spool/*.part")]
        except FileNotFoundError:  # whole and moved since it was listed
            return False
        return max(sizes, default=0) >= size

    return check


def _peak(pid: int) -> float:
    """Most memory that a process has had, MiB."""
    return rollup(Path(f"/proc/{pid}/status").read_text())["VmHWM"]
