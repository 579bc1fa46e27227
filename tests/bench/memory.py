# SPDX-License-Identifier: Apache-2.0
"""Memory of an agent that has taken part in a job and scores a live stream with its model."""

import argparse
import time
from pathlib import Path

from tests.bench.fleet import Fleet, fleet, rig_plan
from tests.bench.harness import Figure, at_least, at_most, figure, folder

from fedmill_agent.status import Status, read_status
from fedmill_shared.job import Wdcnn

SUMMARY = "memory of an agent with a model, after a job and while it scores"
MODEL = Wdcnn(channels=[16, 32, 64, 128, 128], hidden=128)
"""About 100,000 parameters."""

LENGTH = 1024
ROUNDS = 5
AGENTS = 2
RSS_LIMIT = 75.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the bench."""
    parser.add_argument("--seconds", type=float, default=15.0, help="scoring before the look")
    parser.add_argument("--folder", type=Path, help="work here and leave the files")


def run(options: argparse.Namespace) -> list[Figure]:
    """Run a short job, let the agents score for a while, and look.

    Raises:
        FedmillError: the federation failed.
    """
    plan = rig_plan("bench-memory", MODEL, agents=AGENTS, length=LENGTH, rounds=ROUNDS, live=True)
    with folder(options.folder) as place, fleet(plan, place) as running:
        running.wait("the job", running.finished)
        name = next(iter(running.layout.agents))
        scored = _heartbeat(running, name).state.jobs[plan.job.name].windows_scored
        time.sleep(options.seconds)
        status = _heartbeat(running, name)
        daemon, trainer = Path(f"/proc/{status.pid}"), running.trainer(name)
        memory = rollup((daemon / "smaps_rollup").read_text())
        peak = rollup((daemon / "status").read_text())
        foreign = torch_files((daemon / "maps").read_text())
        trainer_bytes = trainer.memory_info().rss
        layout = running.manifest()
    live = status.state.jobs[plan.job.name].windows_scored - scored
    return [
        at_most("agent RSS", memory["Rss"], "MiB", RSS_LIMIT),
        figure("agent PSS", memory["Pss"], "MiB"),
        figure("agent private", memory["Private_Clean"] + memory["Private_Dirty"], "MiB"),
        figure("agent peak RSS", peak["VmHWM"], "MiB"),
        at_most("torch files mapped by the agent", len(foreign), "1", 0),
        at_least("live windows scored meanwhile", live, "1", 1),
        figure("model elements", layout.size, "1"),
        figure("trainer RSS", trainer_bytes / 2**20, "MiB"),
    ]


def rollup(text: str) -> dict[str, float]:
    """MiB by name, of the lines ``Name: number kB`` in a file of ``/proc``."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        parts = value.split()
        if len(parts) == 2 and parts[1] == "kB":
            found[name] = int(parts[0]) / 1024
    return found


def torch_files(maps: str) -> set[str]:
    """Files of torch that ``/proc/PID/maps`` names."""
    paths = {line.split(maxsplit=5)[5] for line in maps.splitlines() if line.count("/")}
    return {path for path in paths if "/torch/" in path or "libtorch" in path}


def _heartbeat(running: Fleet, name: str) -> Status:
    """The daemon's next word about itself, a few seconds from now."""
    state = running.layout.agents[name].parent / "state"
    begin = time.time_ns()
    running.wait(f"heartbeat of {name}", lambda: read_status(state).state.sent_ns > begin)
    return read_status(state)
