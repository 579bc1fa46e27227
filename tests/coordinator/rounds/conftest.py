# SPDX-License-Identifier: Apache-2.0
"""A conductor in a world of its own: store, blobs, clock, a voice that is written down, agents."""

from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import structlog
from msgspec import Struct, json

from fedmill_coordinator.fleet import Fleet
from fedmill_coordinator.rounds.conductor import Conductor
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.store.memory import MemoryStore
from fedmill_coordinator.store.records import JobRecord
from fedmill_coordinator.traffic import Traffic
from fedmill_shared.clock import ManualClock
from fedmill_shared.codec import CODECS
from fedmill_shared.codec.frame import FrameHeader, encode_frame, prefix
from fedmill_shared.files import sha256
from fedmill_shared.job import (
    Job,
)
from fedmill_shared.job_check import canonical
from fedmill_shared.link.blocks import blocks_of, parse_block
from fedmill_shared.messages import (
    AgentState,
    EvaluationReport,
    JobNotice,
    JobPhase,
    Join,
    MomentsReport,
    Receipt,
    RoundNotice,
    UpdateOffer,
    VersionNotice,
)
from fedmill_shared.metrics.classification import ClassificationStatistic
from fedmill_shared.models.manifest import LEARNED, Manifest
from fedmill_shared.schema import schema_hash
from fedmill_shared.seeds import seed_for
from fedmill_shared.signals.moments import Moments, collect

NAME = "tiny"


class Killed(BaseException):
    """What kill -9 is to the code: nothing after it runs, nothing catches it."""


class Fuse:
    """Kills at the n-th effect, right after it; never, for 0."""

    def __init__(self, at: int = 0) -> None:
        self.at = at
        self.burnt = 0

    def burn(self) -> None:
        """One more effect."""
        self.burnt += 1
        if self.burnt == self.at:
            raise Killed


class Fused:
    """``target`` whose ``effects`` burn the fuse."""

    def __init__(self, target: Any, effects: tuple[str, ...], fuse: Fuse) -> None:
        self._target = target
        self._effects = effects
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._target, name)
        if not name.startswith(self._effects):
            return method

        def call(*arguments: Any, **options: Any) -> Any:
            result = method(*arguments, **options)
            self._fuse.burn()
            return result

        return call


class Voice:
    """Writes down what is said: (agent or "", kind, message)."""

    def __init__(self, fuse: Fuse) -> None:
        self.said: deque[tuple[str, str, Any]] = deque()
        self._fuse = fuse

    def tell(self, job: str, agent: str, kind: str, message: Struct | bytes) -> None:
        """To one agent."""
        self.said.append((agent, kind, message))
        self._fuse.burn()

    def broadcast(self, job: str, kind: str, message: Struct | bytes) -> None:
        """To all agents."""
        self.tell(job, "", kind, message)

    def take(self, kind: str) -> list[Any]:
        """What was said of this kind since the last look."""
        found = [message for _, what, message in self.said if what == kind]
        self.said = deque(each for each in self.said if each[1] != kind)
        return found


def some_moments(agent: str) -> Moments:
    """Statistics of 8 windows that only ``agent`` has."""
    windows = np.random.default_rng(seed_for(agent)).normal(5, 2, (8, 2, 4)).astype(np.float32)
    return collect(windows, [0, 1], [], [])


def a_delta(agent: str, number: int, elements: int, scale: float = 0.1) -> np.ndarray:
    """What training of ``agent`` in round ``number`` gives, (elements,)."""
    generator = np.random.default_rng(seed_for(agent, number))
    return generator.normal(0, scale, elements).astype(np.float32)


class World:
    """One conductor that can be killed and started again; everything else survives it."""

    def __init__(self, folder: Path, job: Job, fuse: Fuse | None = None) -> None:
        self.job = job
        self.text = canonical(job)
        self.fuse = fuse or Fuse()
        self.clock = ManualClock()
        self.rows = MemoryStore()
        self.files = Blobs(folder / "blobs")
        self.voice = Voice(self.fuse)
        self.rows.add_job(
            JobRecord(
                name=job.name,
                text=self.text.decode(),
                sha256=sha256(self.text),
                state="waiting",
                created_ns=self.clock.now_ns(),
                updated_ns=self.clock.now_ns(),
            )
        )
        self.phases: dict[str, bool] = {}
        self.start()

    def start(self) -> None:
        """A new process on the same state, connected to the same broker."""
        writes = ("add_", "save_", "set_", "update_", "open_", "close_", "extend", "abandon")
        self.store = Fused(self.rows, writes, self.fuse)
        self.fleet = Fleet(self.store, self.clock)
        self.traffic = Traffic()
        self.conductor = Conductor(
            self.job,
            self.text,
            store=self.store,
            blobs=Fused(self.files, ("put",), self.fuse),
            fleet=self.fleet,
            traffic=self.traffic,
            voice=self.voice,
            clock=self.clock,
            log=structlog.get_logger(),
        )
        self.fleet.unsettle()
        self.conductor.announce()
        self.conductor.step()
        for agent, online in self.phases.items():
            self.seen(agent, online=online)

    # What agents do

    def seen(self, agent: str, *, online: bool = True, phase: str = "joined") -> None:
        """The broker's retained state of an agent."""
        self.phases[agent] = online
        jobs = {NAME: JobPhase(phase=phase)}
        self.fleet.hear(agent, AgentState(online=online, jobs=jobs))

    def join(self, *agents: str, schema: str = "") -> None:
        """Agents that are online and take part."""
        for agent in agents:
            self.seen(agent)
            body = Join(job=NAME, schema=schema or schema_hash(self.job), windows={"train": 8})
            self.conductor.join(agent, body)
            self.conductor.step()

    def tell_moments(self, *agents: str) -> None:
        """Agents send their statistics."""
        for agent in agents:
            self.conductor.moments(agent, MomentsReport(job=NAME, moments=some_moments(agent)))
            self.conductor.step()

    def running(self, *agents: str) -> "World":
        """Statistics are agreed and round 1 is open."""
        self.join(*agents)
        self.tell_moments(*agents)
        self.clock.advance(3)
        self.conductor.step()
        return self

    @property
    def manifest(self) -> Manifest:
        """Layout of the versions."""
        record = self.rows.job(NAME)
        assert record is not None
        return json.decode(record.manifest or b"", type=Manifest)

    @property
    def elements(self) -> int:
        """Elements of a delta."""
        return sum(stop - start for start, stop in self.manifest.ranges(LEARNED))

    def vector(self, number: int = -1) -> np.ndarray:
        """Weights of a version."""
        return np.frombuffer(
            self.files.get(self.rows.versions(NAME)[number].weights, 1 << 20), "f4"
        )

    def learned(self, number: int = -1) -> np.ndarray:
        """The part of a version's weights that is learned."""
        return self.manifest.gather(self.vector(number), LEARNED)

    def update(
        self,
        agent: str,
        *,
        delta: np.ndarray | None = None,
        examples: int = 8,
        header: dict[str, Any] | None = None,
        **offer: Any,
    ) -> tuple[UpdateOffer, bytes]:
        """A real update of ``agent`` for the open round, with whatever a test wants wrong."""
        record = self.rows.current_round(NAME) or self.rows.rounds(NAME)[-1]
        if delta is None:
            delta = a_delta(agent, record.round, self.elements)
        fields = {
            "content": "delta",
            "round": record.round,
            "schema": prefix(self.manifest.digest),
            "base": prefix(record.base),
            "examples": examples,
        }
        frame = encode_frame(
            CODECS[self.job.compression.uplink],
            delta,
            FrameHeader(**(fields | (header or {}))),
            np.random.default_rng(seed_for(agent, record.round, "codec")),
        )
        whole = {
            "job": NAME,
            "round": record.round,
            "base": record.base,
            "sha256": sha256(frame),
            "size": len(frame),
            "examples": examples,
            "loss": 0.5,
            "seconds": 0.1,
        }
        return UpdateOffer(**(whole | offer)), frame

    def send(self, agent: str, offer: UpdateOffer, frame: bytes) -> list[Receipt]:
        """Send an update as agents do, and return the receipts."""
        self.voice.take("receipt")
        self.conductor.offer(agent, offer)
        self.conductor.step()
        for block in blocks_of(frame):
            self.conductor.block(agent, parse_block(block))
            self.conductor.step()
        return self.voice.take("receipt")

    def deliver(self, *agents: str, **fields: Any) -> list[Receipt]:
        """Agents send good updates for the open round."""
        return [each for a in agents for each in self.send(a, *self.update(a, **fields))]

    def evaluate(self, *agents: str) -> None:
        """Agents score the newest version."""
        for agent in agents:
            self.conductor.evaluation(agent, an_evaluation(self.rows.versions(NAME)[-1].version))
            self.conductor.step()

    @property
    def state(self) -> str:
        """How far the job is."""
        record = self.rows.job(NAME)
        assert record is not None
        return record.state


def an_evaluation(version: str, classes: int = 3) -> EvaluationReport:
    """Seven windows, five of them right."""
    counts = (3, 1, 0, *[0] * (classes**2 - 5), 1, 2) if classes > 1 else (7,)
    statistic = ClassificationStatistic(classes, counts, 3.5)
    return EvaluationReport(job=NAME, version=version, statistic=statistic, last=statistic)


class Agent:
    """An agent that outlives the coordinator: it answers what it hears as the real one does."""

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self.world = world
        self.outbox: dict[str, tuple[UpdateOffer, bytes, bool]] = {}
        self.active: VersionNotice | None = None
        self.round: RoundNotice | None = None
        self.trained: set[tuple[int, str]] = set()
        self.evaluated: set[str] = set()

    def hear(self, message: object) -> list[Callable[[], object]]:
        """What it does about a message, one piece after the other."""
        match message:
            case JobNotice(state=state):
                told = [lambda: self.world.join(self.name)]
                if state in ("waiting", "statistics"):
                    told.append(lambda: self.world.tell_moments(self.name))
                return told
            case VersionNotice():
                self.active = message
                evaluate = message.evaluate and message.version not in self.evaluated
                self.evaluated.add(message.version)
                score = [lambda: self.world.evaluate(self.name)] if evaluate else []
                return [*score, *self.train()]
            case RoundNotice():
                self.round = message
                for digest, (offer, _, _) in list(self.outbox.items()):
                    if offer.round == message.closed:
                        del self.outbox[digest]
                return self.train()
            case Receipt(sha256=digest, fate=fate) if digest in self.outbox:
                offer, frame, _ = self.outbox.pop(digest)
                if fate == "received":
                    self.outbox[digest] = offer, frame, True
        return []

    def train(self) -> list[Callable[[], object]]:
        """Train for the open round, once."""
        notice, active = self.round, self.active
        if notice is None or active is None or not notice.round or active.version != notice.base:
            return []
        if (notice.round, notice.base) in self.trained:
            return []
        self.trained.add((notice.round, notice.base))
        offer, frame = self.world.update(self.name)
        self.outbox[offer.sha256] = offer, frame, False
        return [lambda: self.send(offer, frame)]

    def send(self, offer: UpdateOffer, frame: bytes) -> None:
        """The offer, then the blocks."""
        self.world.conductor.offer(self.name, offer)
        self.world.conductor.step()
        for block in blocks_of(frame):
            self.world.conductor.block(self.name, parse_block(block))
            self.world.conductor.step()

    def resend(self) -> list[Callable[[], object]]:
        """What has had no receipt for too long."""
        waiting = [(offer, frame) for offer, frame, known in self.outbox.values() if not known]
        return [lambda o=offer, f=frame: self.send(o, f) for offer, frame in waiting]


def run_to_end(world: World, names: list[str]) -> int:
    """Let agents and coordinator talk until the job ends; return how often it was killed."""
    agents = [Agent(name, world) for name in names]
    inbox: deque[Callable[[], object]] = deque(lambda n=name: world.seen(n) for name in names)
    killed, idle, down = 0, 0, False
    while world.state not in ("finished", "stopped"):
        while world.voice.said:
            to, _, message = world.voice.said.popleft()
            for agent in agents:
                if to in ("", agent.name):
                    inbox.extend(agent.hear(message))
        try:
            if down:
                world.start()
                down = False
            elif inbox:
                inbox.popleft()()
            else:
                idle += 1
                assert idle < 40, "the job hangs"
                world.clock.advance(10)
                world.conductor.step()
                for agent in agents:
                    inbox.extend(agent.resend())
        except Killed:
            killed += 1
            inbox.clear()  # the broker had its acknowledgement; nobody remembers
            down = True
    return killed


@pytest.fixture
def make_world(
    tmp_path: Path, tiny_job: Callable[..., Job], exported_once: None
) -> Callable[..., World]:
    """A world for the tiny job with these settings."""

    def make(*, fuse_at: int = 0, folder: str = "state", **settings: Any) -> World:
        return World(tmp_path / folder, tiny_job(**settings), Fuse(fuse_at))

    return make


@pytest.fixture
def kit() -> SimpleNamespace:
    """What tests need beside a world."""
    return SimpleNamespace(
        delta=a_delta,
        moments=some_moments,
        evaluation=an_evaluation,
        run_to_end=run_to_end,
    )
