# SPDX-License-Identifier: Apache-2.0
"""A conductor in a world of its own: store, blobs, two clocks, a voice that is written down."""

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import structlog
from msgspec import Struct, json, structs
from tests.coordinator.rounds import agents

from fedmill_coordinator.fleet import Fleet
from fedmill_coordinator.rounds.conductor import Conductor
from fedmill_coordinator.services import Services
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.store.memory import MemoryStore
from fedmill_coordinator.store.records import JobRecord, OrderRecord
from fedmill_coordinator.traffic import Traffic
from fedmill_shared.clock import ManualClock
from fedmill_shared.codec import CODECS
from fedmill_shared.codec.frame import FrameHeader, encode_frame, prefix, read_header
from fedmill_shared.errors import StoreError
from fedmill_shared.files import sha256
from fedmill_shared.job import Job, Learning, Mlp
from fedmill_shared.job_check import canonical
from fedmill_shared.link.blocks import (
    BLOB_LIMIT,
    TRANSFER_WINDOW,
    block_count,
    blocks_of,
    parse_block,
)
from fedmill_shared.messages import (
    AgentState,
    EvaluationReport,
    JobPhase,
    Join,
    MomentsReport,
    Receipt,
    UpdateOffer,
)
from fedmill_shared.metrics.classification import ClassificationStatistic
from fedmill_shared.models.manifest import LEARNED, Manifest
from fedmill_shared.models.sharing import shared_roles
from fedmill_shared.protocol import NEWEST, OLDEST
from fedmill_shared.schema import schema_hash
from fedmill_shared.seeds import seed_for
from fedmill_shared.signals.moments import Moments, collect

NAME = "tiny"


class Clocks(ManualClock):
    """Both hands of a clock; the one on the wall can be set without the other."""

    def __init__(self) -> None:
        super().__init__()
        self.set_by_ns = 0

    def now_ns(self) -> int:
        """What the wall says."""
        return super().now_ns() + self.set_by_ns

    def set_wall(self, seconds: float) -> None:
        """Somebody sets the clock on the wall by ``seconds``."""
        self.set_by_ns += round(seconds * 1e9)


class Fuse:
    """Kills at the n-th effect, right after it; never, for 0. The disk can fail before that.

    Attributes:
        failing: how many of the next effects on disk fail and change nothing.
        failed: how many did.
    """

    def __init__(self, at: int = 0) -> None:
        self.at = at
        self.burnt = 0
        self.failing = 0
        self.failed = 0

    def burn(self) -> None:
        """One more effect."""
        self.burnt += 1
        if self.burnt == self.at:
            raise agents.Killed

    def check(self) -> None:
        """The disk is asked to keep something."""
        if self.failing:
            self.failing -= 1
            self.failed += 1
            raise StoreError("no space left on device")


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
            self._fuse.check()
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

    def turn_away(self, agent: str, kind: str, message: Struct | bytes) -> None:
        """To one agent, about no job of ours."""
        self.tell("", agent, kind, message)

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
    """One conductor that can be killed and started again; everything else survives it.

    Attributes:
        signed: whether updates count only with a signature, from the next start on.
    """

    signed = False

    def __init__(self, folder: Path, job: Job, fuse: Fuse | None = None) -> None:
        self.job = job
        self.folder = folder
        self.text = canonical(job)
        self.fuse = fuse or Fuse()
        self.clock = Clocks()
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
        writes = ("add_", "save_", "set_", "update_", "open_", "close_", "extend_", "abandon_")
        writes += ("discard_", "finish_", "give_")
        self.store = Fused(self.rows, writes, self.fuse)
        self.fleet = Fleet(self.store, self.clock)
        self.traffic = Traffic()
        services = Services(
            store=self.store,
            blobs=Fused(self.files, ("put", "adopt"), self.fuse),
            spool=self.folder / "spool",
            fleet=self.fleet,
            traffic=self.traffic,
            voice=self.voice,
            clock=self.clock,
            log=structlog.get_logger(),
            signed=self.signed,
        )
        self.counts = services.counts
        self.conductor = Conductor(self.job, self.text, services)
        self.fleet.unsettle()
        self.conductor.announce()
        self.step()
        for agent, online in self.phases.items():
            self.seen(agent, online=online)

    def step(self) -> None:
        """Let time work, and the link take all the blocks that wait for it."""
        self.conductor.step()
        self.conductor.serve(1000)

    # What agents do

    def restart(self) -> "World":
        """Killed, started again, and met by the same agents."""
        self.voice.said.clear()
        self.start()
        self.join(*(agent for agent, online in self.phases.items() if online))
        return self

    def wait(self, seconds: float) -> None:
        """Time passes, second by second."""
        for _ in range(round(seconds)):
            self.clock.advance(1)
            self.step()

    def seen(
        self, agent: str, *, online: bool = True, phase: str = "joined", ineligible: str = ""
    ) -> None:
        """The broker's retained state of an agent."""
        self.phases[agent] = online
        jobs = {NAME: JobPhase(phase=phase, ineligible=ineligible)}
        self.fleet.hear(agent, AgentState(online=online, jobs=jobs))

    def join(self, *agents: str, schema: str = "") -> None:
        """Agents that are online and take part."""
        for agent in agents:
            self.seen(agent)
            body = Join(job=NAME, schema=schema or schema_hash(self.job), windows={"train": 8})
            self.conductor.desk.join(agent, body)
            self.step()

    def tell_moments(self, *agents: str) -> None:
        """Agents send their statistics."""
        for agent in agents:
            self.conductor.desk.moments(agent, MomentsReport(job=NAME, moments=some_moments(agent)))
            self.step()

    def running(self, *agents: str) -> "World":
        """Statistics are agreed and round 1 is open."""
        self.join(*agents)
        self.tell_moments(*agents)
        self.clock.advance(3)
        self.step()
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
        return self.manifest.count(shared_roles(self.job))

    def vector(self, number: int = -1) -> np.ndarray:
        """Weights of a version."""
        return np.frombuffer(
            self.files.get(self.rows.versions(NAME)[number].weights, 1 << 24), "f4"
        )

    def learned(self, number: int = -1) -> np.ndarray:
        """The part of a version's weights that is learned."""
        return self.manifest.gather(self.vector(number), LEARNED)

    def downlink_codec(self, number: int) -> str:
        """The codec of the delta that made a version."""
        delta = self.rows.versions(NAME)[number].delta
        return read_header(self.files.get(delta, BLOB_LIMIT)).codec

    def update(
        self,
        agent: str,
        *,
        number: int = 0,
        delta: np.ndarray | None = None,
        examples: int = 8,
        header: dict[str, Any] | None = None,
        **offer: Any,
    ) -> tuple[UpdateOffer, bytes]:
        """A real update of ``agent`` for a round, the open one unless told otherwise.

        With whatever a test wants wrong in its header or its offer.
        """
        record = self.rows.round(NAME, number) if number else self.rows.current_round(NAME)
        record = record or self.rows.rounds(NAME)[-1]
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
            CODECS[record.uplink or self.job.compression.uplink],
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
            "protocol": NEWEST,
        }
        return UpdateOffer(**(whole | offer)), frame

    def offer(self, agent: str, offer: UpdateOffer) -> None:
        """An agent offers an update; no block follows."""
        self.conductor.desk.offer(agent, offer)
        self.step()

    def blocks(self, agent: str, frame: bytes, indices: Sequence[int]) -> None:
        """An agent sends these blocks of an update."""
        for block in blocks_of(frame, indices):
            self.conductor.desk.block(agent, parse_block(block))
            self.step()

    def send(self, agent: str, offer: UpdateOffer, frame: bytes) -> list[Receipt]:
        """Send an update as agents do, and return the receipts."""
        self.voice.take("receipt")
        self.voice.take("request")
        self.offer(agent, offer)
        count = block_count(len(frame))
        if not offer.offered_again:
            first = count if offer.protocol == OLDEST else min(count, TRANSFER_WINDOW)
            self.blocks(agent, frame, range(first))
        while requests := self.voice.take("request"):
            for request in requests:
                self.blocks(agent, frame, request.missing)
        return self.voice.take("receipt")

    def deliver(self, *agents: str, **fields: Any) -> list[Receipt]:
        """Agents send good updates for the open round."""
        return [each for a in agents for each in self.send(a, *self.update(a, **fields))]

    def evaluate(self, *agents: str) -> None:
        """Agents score the newest version."""
        for agent in agents:
            self.conductor.desk.evaluation(
                agent, an_evaluation(self.rows.versions(NAME)[-1].version)
            )
            self.step()

    def obey(self, verb: str) -> str:
        """What comes of an order of the operator, before time goes on."""
        order = OrderRecord(id=1, job=NAME, verb=verb, by="anna", given_ns=self.clock.now_ns())
        return self.conductor.obey(order)

    def order(self, verb: str) -> str:
        """What the operator's order comes to."""
        outcome = self.obey(verb)
        self.step()
        return outcome

    @property
    def number(self) -> int:
        """Number of the open round, 0 if none is."""
        record = self.rows.current_round(NAME)
        return record.round if record is not None else 0

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


@pytest.fixture
def make_world(
    tmp_path: Path, tiny_job: Callable[..., Job], exported_once: None
) -> Callable[..., World]:
    """A world for the tiny job with these settings, or with a model as wide as ``hidden``."""

    def make(
        *,
        fuse_at: int = 0,
        folder: str = "state",
        hidden: Sequence[int] = (),
        learning: Learning | None = None,
        **settings: Any,
    ) -> World:
        job = structs.replace(tiny_job(**settings), learning=learning or Learning())
        if hidden:
            job = structs.replace(job, model=Mlp(hidden=list(hidden)))
        return World(tmp_path / folder, job, Fuse(fuse_at))

    return make


@pytest.fixture
def kit() -> SimpleNamespace:
    """What tests need beside a world."""
    return SimpleNamespace(
        delta=a_delta,
        moments=some_moments,
        evaluation=an_evaluation,
        run_to_end=agents.run_to_end,
        play=agents.play,
        recomputed=agents.recomputed,
        fates=agents.fates,
    )
