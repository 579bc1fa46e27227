# SPDX-License-Identifier: Apache-2.0
"""Runs a whole federation from recordings to report."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec import json

from fedmill_coordinator.config import CoordinatorConfig, load
from fedmill_coordinator.demo.baselines import Baselines, Fits
from fedmill_coordinator.demo.broker import broker, free_port
from fedmill_coordinator.demo.floor import Floor, Protocol, behind, listening
from fedmill_coordinator.demo.layout import Layout
from fedmill_coordinator.demo.plot import Curve, line_chart
from fedmill_coordinator.demo.processes import Processes, program
from fedmill_coordinator.demo.recipes import Plan
from fedmill_coordinator.demo.report import (
    Artifacts,
    Outcome,
    Report,
    heading,
    make_report,
    shown,
)
from fedmill_coordinator.demo.watch import View, look
from fedmill_coordinator.progress import metric_of
from fedmill_coordinator.registry.catalogue import export_bytes, find_version
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.store.sql import SqlStore
from fedmill_shared.errors import FedmillError, Interrupted, StoreError
from fedmill_shared.files import write_atomic
from fedmill_shared.job import Job
from fedmill_shared.models.manifest import Manifest

POLL_SECONDS = 0.25
FAREWELL_SECONDS = 10.0
"""How long agents may take to end and the coordinator to hear of it."""


def run_demo(
    data: str,
    plan: Plan,
    folder: Path,
    view: View,
    stopped: Callable[[], bool],
    *,
    protocol: Protocol | None = None,
) -> Report:
    """Federate, train the baselines, and report; every child has ended when this returns.

    With a ``protocol`` the recordings are played by simulated devices that speak it.

    Raises:
        Interrupted: ``stopped`` said so.
        FedmillError: a part of it failed.
    """
    started = time.monotonic()
    with broker(folder / "broker") as port, _floor(plan, protocol, folder) as floor:
        plan = floor.plan if floor is not None else plan
        layout = Layout.write(folder, plan, port)
        settings = load(layout.coordinator)
        with Processes(layout.logs) as processes:
            processes.start(
                "coordinator", program("fedmill_coordinator", "serve", layout.coordinator)
            )
            if floor is not None:
                processes.start("floor", program("fedmill_agent", *floor.command))
            for agent, path in layout.agents.items():
                processes.start(agent, program("fedmill_agent", "run", path))
            if floor is not None:
                _begin(layout, processes, stopped)
            _follow(settings, plan.job, processes, view, stopped)
            seconds = time.monotonic() - started
            _dismiss(settings, list(layout.agents), processes, stopped)
    baselines = _baselines(layout, view, stopped)
    with SqlStore.in_file(settings.database) as store:
        artifacts = _artifacts(store, settings, plan.job, folder, baselines)
        outcome = Outcome(data, plan, seconds, baselines, artifacts)
        return make_report(store, outcome, _manifest(store, plan.job))


@contextmanager
def _floor(plan: Plan, protocol: Protocol | None, folder: Path) -> Iterator[Floor | None]:
    """The lines of the plants, and for Sparkplug the plant's own broker, which is not ours."""
    if protocol is None:
        yield None
    elif protocol == "sparkplug":
        with broker(folder / "plant-broker") as port:
            yield behind(plan, protocol, folder, port)
    else:
        yield behind(plan, protocol, folder, free_port())


def _begin(layout: Layout, processes: Processes, stopped: Callable[[], bool]) -> None:
    """Let the machines begin once every agent reads them: no part is played to nobody."""
    while not listening([path.parent / "state" for path in layout.agents.values()]):
        _pause(stopped)
        processes.check()
    processes.begin("floor")


def _follow(
    settings: CoordinatorConfig,
    job: Job,
    processes: Processes,
    view: View,
    stopped: Callable[[], bool],
) -> None:
    while not settings.database.exists():
        _pause(stopped)
        processes.check()
    with SqlStore.in_file(settings.database) as store:
        while True:
            snapshot = look(store, job.name, job.federation.rounds)
            if snapshot is not None:
                view.update(snapshot)
                if snapshot.state == "finished":
                    return
                if snapshot.state == "stopped":
                    raise FedmillError(
                        f"job {job.name} was stopped after {snapshot.closed} rounds",
                        remedy=f"see {Path(settings.coordinator.state).parent / 'logs'}",
                    )
            _pause(stopped)
            processes.check()


def _dismiss(
    settings: CoordinatorConfig,
    agents: Sequence[str],
    processes: Processes,
    stopped: Callable[[], bool],
) -> None:
    """End the agents while the coordinator still listens.

    An agent's last words say what it scored since its last heartbeat. One that is too slow keeps
    the count of that heartbeat, and is ended with the others.
    """
    deadline = time.monotonic() + FAREWELL_SECONDS
    processes.dismiss(agents)
    with SqlStore.in_file(settings.database) as store:
        while processes.working(agents) or any(agent.online for agent in store.agents()):
            if time.monotonic() > deadline:
                return
            _pause(stopped)
            processes.check()


def _pause(stopped: Callable[[], bool]) -> None:
    if stopped():
        raise Interrupted("the demo was stopped", remedy="its folder holds what it had")
    time.sleep(POLL_SECONDS)


def _baselines(layout: Layout, view: View, stopped: Callable[[], bool]) -> Baselines:
    fits = Fits(stopped)
    total = len(layout.agents) + 1
    return fits.run(layout, lambda name: view.baseline(name, total))


def _manifest(store: Store, job: Job) -> Manifest:
    record = store.job(job.name)
    if record is None or record.manifest is None:
        raise StoreError(f"job {job.name} has no model")
    return json.decode(record.manifest, type=Manifest)


def _artifacts(
    store: Store, settings: CoordinatorConfig, job: Job, folder: Path, baselines: Baselines
) -> Artifacts:
    onnx, plot = folder / "model.onnx", folder / "learning-curves.svg"
    stable = find_version(store, job.name, "stable")
    write_atomic(onnx, export_bytes(store, Blobs(settings.blobs), stable))
    write_atomic(plot, _curves(store, job, baselines).encode())
    return Artifacts(onnx=str(onnx), database=str(settings.database), plot=str(plot))


def _curves(store: Store, job: Job, baselines: Baselines) -> str:
    scored = [(v, metric_of(store, job.name, v.version)) for v in store.versions(job.name)]
    points = [(v.round or 0, m.value) for v, m in scored if m is not None]
    metric = next((m.name for _, m in scored if m is not None), "metric")
    last = max((x for x, _ in points), default=1)
    levels = baselines.merged().items()
    lines = {"federated": points} | {name: [(0, y), (last, y)] for name, y in levels}
    factor, unit = (100.0, "%") if metric == "accuracy" else (1.0, job.labels.unit)
    curves = [
        Curve(
            f"{name} {shown(metric, line[-1][1])}",
            [(x, factor * y) for x, y in line],
            flat=name != "federated",
        )
        for name, line in lines.items()
        if line
    ]
    title = f"{job.name}: {heading(metric, '')}"
    return line_chart(title, "round", metric if unit == "1" else f"{metric} ({unit})", curves)
