# SPDX-License-Identifier: Apache-2.0
"""A federation whose processes can be started with a fault, and what must hold in spite of it."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.exported import sharing
from tests.system.fleet import CLASSES, COORDINATOR, Fleet, a_job, marked, recording

from fedmill_coordinator.config import load
from fedmill_coordinator.demo.processes import program
from fedmill_coordinator.demo.recipes.plan import Plan, Plant
from fedmill_shared.job import Job

LAUNCHER = Path(__file__).parent / "launch.py"
DEATH_SECONDS = 90.0  # a coordinator with its torch takes ten on a busy machine


def a_quiet_plant(number: int) -> Plant:
    """An agent with a training and a test recording of every class, and no live stream."""
    sources = [
        recording(f"{fault}-{split}", fault=fault, split=split, seed=number)
        for fault in CLASSES
        for split in ("train", "test")
    ]
    return Plant(f"agent-{number}", sources)


class FaultyFleet(Fleet):
    """Owns a federation; any process can be started under the launcher."""

    def command(self, name: str) -> list[str]:
        """Command line of the coordinator or an agent."""
        if name == COORDINATOR:
            return program("fedmill_coordinator", "serve", self.layout.coordinator)
        return program("fedmill_agent", "run", self.layout.agents[name])

    def start_faulty(self, name: str, point: str, then: str = "kill") -> None:
        """Start the coordinator or an agent with a fault; it counts no failed starts before."""
        (self.state_folder(name) / "starts.json").unlink(missing_ok=True)
        _python, _m, *rest = self.command(name)
        launcher = [sys.executable, str(LAUNCHER), point, "--then", then, "--", *rest]
        with marked(self.folder):
            self._daemons.start(name, sharing(launcher))

    def end_of(self, name: str, seconds: float = DEATH_SECONDS) -> int:
        """Wait until a process has ended by itself; its exit code."""
        child = self._daemons._children.pop(name)
        try:
            return child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            raise

    def runs(self, name: str) -> bool:
        """Whether a process was started and has not ended."""
        child = self._daemons._children.get(name)
        return child is not None and child.poll() is None

    def state_folder(self, name: str) -> Path:
        """State folder of the coordinator or an agent."""
        if name == COORDINATOR:
            return Path(load(self.layout.coordinator).coordinator.state)
        return self.state(name)

    def log_of(self, name: str) -> str:
        """All that the coordinator or an agent wrote."""
        path = self.layout.logs / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def check_books(self, *, every_agent: bool = True) -> None:
        """Every round was closed once, and no update stands in two, or twice in one."""
        assert [record.round for record in self.rounds()] == list(
            range(1, self.job.federation.rounds + 1)
        )
        used: Counter[str] = Counter()
        for record in self.rounds():
            assert record.state == "closed"
            updates = self.store.updates(self.job.name, record.round)
            rows = Counter((update.agent, update.base) for update in updates)
            assert max(rows.values()) == 1
            included = sorted(update.agent for update in updates if update.state == "included")
            assert sorted(record.included) == included
            used.update(update.sha256 for update in updates if update.state == "included")
            if every_agent:
                assert included == self.agents
        assert max(used.values()) == 1
        versions = [version.number for version in self.store.versions(self.job.name)]
        assert versions == list(range(self.job.federation.rounds + 1))
        assert not any(self.parcels(agent) for agent in self.agents)
        for name in (COORDINATOR, *self.agents):
            assert "Traceback" not in self.log_of(name)


@contextmanager
def faulty(
    folder: Path, job: Job | None = None, *, agents: int = 2, start: Sequence[str] = ()
) -> Iterator[FaultyFleet]:
    """A federation of which only the broker and these processes run yet."""
    plan = Plan(job or a_job(), [a_quiet_plant(number + 1) for number in range(agents)])
    with FaultyFleet(folder, plan) as fleet:
        fleet.start_broker()
        fleet.start(*start)
        yield fleet
