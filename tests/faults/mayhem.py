# SPDX-License-Identifier: Apache-2.0
"""Everything that goes wrong in a plant, one thing after the other, drawn from a seed.

Processes are killed at any time and at named points of their code, power is cut in the middle of a
write, disks refuse, the broker forgets everything, and the network delays, cuts, halves, doubles,
swaps and loses messages.
"""

import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil  # type: ignore[import-untyped]  # ships no types
from tests.exported import sharing
from tests.faults.federation import LAUNCHER, FaultyFleet
from tests.faults.proxy import Proxy
from tests.system.fleet import COORDINATOR, POLL_SECONDS, marked

from fedmill_coordinator.demo.recipes.plan import Plan
from fedmill_shared.errors import FedmillError

NEVER = "before-fsync:1000000000"
COORDINATOR_POINTS = (
    "before-fsync",
    "after-rename",
    "before-commit",
    "after-commit",
    "before-round-close",
    "after-round-close",
    "after-update-add",
    "after-round-open",
    "after-publish",
)
AGENT_POINTS = (
    "before-fsync",
    "after-rename",
    "after-outbox-put",
    "before-outbox-take",
    "after-outbox-take",
    "before-residual-save",
    "after-residual-save",
    "after-shelf-activate",
    "after-trainer-submit",
    "before-publish",
)
DEEPEST = 40
"""A point is hit at one of its first so many calls."""
SPELL_SECONDS = 3.0
"""How long a bad network stays so."""
DOWN_SECONDS = 1.5
"""How long a process or the broker is away at most."""


class Mayhem:
    """Owns a federation behind two bad networks, and keeps its processes alive.

    Attributes:
        fleet: the federation.
        done: how often each fault was done.
        spared: agents that only the network hurts.
    """

    def __init__(self, folder: Path, plan: Plan, *, seed: int, spared: Sequence[str]) -> None:
        """Prepare the folder; nothing runs before the context is entered."""
        self.fleet = FaultyFleet(folder, plan)
        self.done: Counter[str] = Counter()
        self.spared = spared
        self._random = random.Random(seed)
        self._networks: list[Proxy] = []
        self._due: list[tuple[float, Callable[[], None]]] = []
        self._snapshots: dict[str, Path] = {}
        self._down: set[str] = set()
        self._faults: list[Callable[[], str]] = [
            self._kill,
            self._kill_coordinator,
            self._kill_trainer,
            self._kill_broker,
            self._kill_at_a_point,
            self._cut_power,
            self._refuse_the_disk,
            self._damage_windows,
            *[self._network] * 5,
        ]

    def __enter__(self) -> Self:
        self.fleet.__enter__()
        self.fleet.start_broker()
        chance = random.Random(self._random.random())
        for configs in ([self.fleet.layout.coordinator], self.fleet.layout.agents.values()):
            network = Proxy(self.fleet.port, chance).__enter__()
            self._networks.append(network)
            for path in configs:
                text = path.read_text()
                path.write_text(text.replace(f"{self.fleet.port}", f"{network.port}"))
        for name in (COORDINATOR, *self.fleet.agents):
            self._start(name)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for network in self._networks:
            network.heal()
        try:
            self.fleet.__exit__(kind, error, trace)
        finally:
            for network in self._networks:
                network.__exit__()

    def strike(self) -> str:
        """Do one fault, chosen at random; its name."""
        name = self._random.choice(self._faults)()
        self.done[name] += 1
        return name

    def look_after(self) -> None:
        """Do what is due: start again what has died, and end bad spells.

        Raises:
            FedmillError: a process ended that nobody had killed.
        """
        now = time.monotonic()
        for due, act in [each for each in self._due if each[0] <= now]:
            self._due.remove((due, act))
            act()
        for name in (COORDINATOR, *self.fleet.agents):
            child = self.fleet._daemons._children.get(name)
            if name in self._down or child is None or (code := child.poll()) is None:
                continue
            if code != -signal.SIGKILL:
                lines = self.fleet.log_of(name).strip().splitlines()
                raise FedmillError(f"{name} ended with exit code {code}: {lines[-1:]}")
            self._revive(name)

    def calm(self) -> None:
        """No more faults: mend everything, and start afresh what was started with a fault."""
        while self._due or self._down:
            self.look_after()
            time.sleep(POLL_SECONDS)
        for network in self._networks:
            network.heal()
        for name in (COORDINATOR, *self.fleet.agents):
            if name not in self.spared:
                self.fleet.kill(name)
                self._revive(name)
        self.look_after()

    def processes(self) -> dict[str, psutil.Process]:
        """What runs now, by name: daemons, trainers and the broker."""
        found: dict[str, psutil.Process] = {}
        for name in (COORDINATOR, *self.fleet.agents):
            with suppress(psutil.Error, KeyError):
                found[name] = self.fleet.process(name)
                for trainer in self.fleet.trainers(name) if name != COORDINATOR else []:
                    found[f"trainer of {name}"] = trainer
        with suppress(psutil.Error, ValueError):
            found["broker"] = self.fleet.broker()
        return found

    # Faults

    def _kill(self) -> str:
        self._end(self._victim())
        return "agent killed"

    def _kill_coordinator(self) -> str:
        self._end(COORDINATOR)
        return "coordinator killed"

    def _kill_trainer(self) -> str:
        name = self._victim()
        with suppress(psutil.Error, KeyError):
            for trainer in self.fleet.trainers(name):
                trainer.kill()
        return "trainer killed"

    def _kill_broker(self) -> str:
        with suppress(psutil.Error, ValueError):
            self.fleet.kill_broker()
            self._later(self._random.uniform(0, DOWN_SECONDS), self.fleet.start_broker)
        return "broker killed"

    def _kill_at_a_point(self) -> str:
        name, point = self._point()
        self._replace(name, point, "kill")
        return "killed at a point"

    def _cut_power(self) -> str:
        name, point = self._point()
        snapshot = self.fleet.folder / "snapshots" / f"{name}-{self._random.getrandbits(32):08x}"
        snapshot.parent.mkdir(exist_ok=True)
        self._snapshots[name] = snapshot
        self._replace(name, point, f"cut:{snapshot}")
        return "power cut"

    def _refuse_the_disk(self) -> str:
        name, _ = self._point()
        number = self._random.randint(1, DEEPEST)
        kind = self._random.choice(["ENOSPC", "EROFS"])
        self._replace(name, f"before-fsync:{number}", f"fail:{kind}")
        return "disk full" if kind == "ENOSPC" else "disk read-only"

    def _damage_windows(self) -> str:
        """Overwrite the head of an agent's window store, as a dying card does."""
        name = self._victim()
        if self._end(name):
            for path in self.fleet.state_folder(name).glob("jobs/*/windows-*.sqlite"):
                with path.open("r+b") as file:
                    file.write(self._random.randbytes(4096))
        return "window store damaged"

    def _network(self) -> str:
        network = self._random.choice(self._networks)
        kind = self._random.choice(
            ["cut", "halve", "refuse", "delay", "duplicate", "reorder", "drop"]
        )
        match kind:
            case "cut":
                network.cut()
            case "halve":
                network.halve()
            case "refuse":
                network.refuse(refusing=True)
                network.cut()
                self._later(DOWN_SECONDS, lambda: network.refuse(refusing=False))
            case "delay":
                network.delay(self._random.uniform(0.02, 0.3))
            case "duplicate":
                network.duplicate(0.3)
            case "reorder":
                network.reorder(0.3)
            case "drop":
                network.drop(0.1)
        self._later(SPELL_SECONDS, network.heal)
        return f"network: {kind}"

    # Parts

    def _victim(self) -> str:
        return self._random.choice([a for a in self.fleet.agents if a not in self.spared])

    def _point(self) -> tuple[str, str]:
        name = COORDINATOR if self._random.random() < 0.4 else self._victim()
        points = COORDINATOR_POINTS if name == COORDINATOR else AGENT_POINTS
        return name, f"{self._random.choice(points)}:{self._random.randint(1, DEEPEST)}"

    def _end(self, name: str) -> bool:
        """Kill a process, and start it again after a while; False if it is down already."""
        if name in self._down or self.fleet._daemons._children[name].poll() is not None:
            return False
        self.fleet.kill(name)
        self._down.add(name)
        self._later(self._random.uniform(0, DOWN_SECONDS), lambda: self._revive(name))
        return True

    def _replace(self, name: str, point: str, then: str) -> None:
        """Kill a process, and start it again with a fault inside."""
        if name in self._down or self.fleet._daemons._children[name].poll() is not None:
            return
        self.fleet.kill(name)
        self._start(name, point, then)

    def _revive(self, name: str) -> None:
        """Start a process again, on what a power cut has left of its disk."""
        self._down.discard(name)
        snapshot = self._snapshots.pop(name, None)
        if snapshot is not None and snapshot.exists():
            state = self.fleet.state_folder(name)
            shutil.rmtree(state)
            snapshot.rename(state)
            if name == COORDINATOR:  # what was open of its database has been replaced
                self.fleet.store.close()
        self._start(name)

    def _start(self, name: str, point: str = NEVER, then: str = "kill") -> None:
        _python, _m, *rest = self.fleet.command(name)
        keep = ["--keep-blobs"] if name == COORDINATOR else []
        command = [sys.executable, str(LAUNCHER), point, "--then", then, *keep, "--", *rest]
        with marked(self.fleet.folder):
            self.fleet._daemons.start(name, sharing(command))

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        self._due.append((time.monotonic() + seconds, act))
