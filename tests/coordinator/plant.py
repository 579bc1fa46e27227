# SPDX-License-Identifier: Apache-2.0
"""A daemon, its agents and its disk in one process."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import structlog
import tomli_w
from msgspec import Struct
from tests.records import Records

from fedmill_coordinator.config import BrokerSection, CoordinatorConfig, CoordinatorSection
from fedmill_coordinator.daemon import SUBSCRIPTIONS, Daemon
from fedmill_coordinator.store.memory import MemoryStore
from fedmill_shared import topics
from fedmill_shared.clock import ManualClock
from fedmill_shared.codec import CODECS
from fedmill_shared.codec.frame import FrameHeader, encode_frame, prefix
from fedmill_shared.errors import StoreError
from fedmill_shared.files import sha256
from fedmill_shared.job import Job
from fedmill_shared.link.base import Link, LinkEvent, Message, Sink
from fedmill_shared.link.blocks import blocks_of
from fedmill_shared.link.memory import MemoryBroker, MemoryLink
from fedmill_shared.messages import (
    ALL,
    DOWN,
    AgentState,
    JobPhase,
    Join,
    MomentsReport,
    UpdateOffer,
    decode,
    encode,
)
from fedmill_shared.models.manifest import Manifest
from fedmill_shared.protocol import NEWEST
from fedmill_shared.schema import schema_hash
from fedmill_shared.signals.moments import collect


class Disk:
    """A store whose next ``failing`` writes, ``only`` those of one job, fail and change nothing."""

    WRITES = ("add_", "save_", "set_", "update_", "open_round", "close_", "extend_", "abandon_")
    WRITES += ("discard_", "finish_", "settle_")

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.failing = self.failed = 0
        self.only = ""

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def write(*arguments: Any, **options: Any) -> Any:
            first = arguments[0] if arguments else None
            concerned = self.only in ("", first, getattr(first, "job", None))
            if self.failing and concerned:
                self.failing -= 1
                self.failed += 1
                raise StoreError("no space left on device")
            return method(*arguments, **options)

        return write if name.startswith(self.WRITES) and name != "update" else method


class Plant:
    """A daemon and its agents on one in-process broker."""

    def __init__(self, folder: Path, jobs: list[Job], largest_packet: int = 300_000) -> None:
        self.broker = MemoryBroker(largest_packet=largest_packet)
        self.clock = ManualClock()
        self.store = MemoryStore()
        self.audit = Records()
        self.disk: Any = Disk(self.store)
        self.jobs = {job.name: job for job in jobs}
        paths = []
        for job in jobs:
            paths.append(folder / f"{job.name}.toml")
            paths[-1].write_text(tomli_w.dumps(msgspec.to_builtins(job)))
        self.config = CoordinatorConfig(
            coordinator=CoordinatorSection(state=str(folder), jobs=[str(path) for path in paths]),
            broker=BrokerSection(connect_seconds=2.0),
        )
        self.heard: dict[str, list[tuple[str, Struct | bytes]]] = {}
        self.links: dict[str, MemoryLink] = {}
        self.daemon = self.make()

    def make(self) -> Daemon:
        """A daemon on the same state."""
        return Daemon(
            self.config,
            self._connect,
            self.disk,
            self.clock,
            structlog.get_logger(),
            audit=self.audit,
        )

    def _connect(self, sink: Sink) -> Link:
        self.link = MemoryLink(self.broker, SUBSCRIPTIONS, sink)
        return self.link

    def work(self) -> None:
        """Let the daemon take everything that waits, and send all that is asked for."""
        self.daemon.step(0)
        while self.daemon._inbox._first() is not None or self.daemon._serve(1.0) == 0.0:
            self.daemon.step(0)
        self.daemon.step(0)

    def wait(self, seconds: float) -> None:
        """Time passes, a tenth of a second after the other."""
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)
            self.work()

    def agent(self, name: str, **state: Any) -> None:
        """An agent connects, and is on all jobs."""
        heard = self.heard.setdefault(name, [])

        def sink(event: LinkEvent) -> None:
            if isinstance(event, Message):
                kind = topics.kind_of(event.topic)
                types = DOWN if "/down/" in event.topic else ALL
                payload = event.payload
                heard.append((kind, payload if kind == "block" else decode(payload, types[kind])))

        wanted = [topics.down(name, "#"), topics.broadcast("#", "").rstrip("/")]
        self.links[name] = MemoryLink(self.broker, wanted, sink)
        self.links[name].start()
        jobs = {job: JobPhase(phase="joined") for job in self.jobs}
        self.say(name, "state", AgentState(online=True, jobs=jobs, **state))

    def say(self, agent: str, kind: str, message: Struct | bytes) -> None:
        """An agent publishes, and the daemon works it off."""
        payload = message if isinstance(message, bytes) else encode(message)
        self.links[agent].publish(topics.up(agent, kind), payload, retain=kind == "state")
        self.work()

    def take(self, agent: str, kind: str) -> list[Struct | bytes]:
        """What an agent has heard of this kind."""
        found = [message for what, message in self.heard[agent] if what == kind]
        self.heard[agent][:] = [each for each in self.heard[agent] if each[0] != kind]
        return found

    def running(self, job: str = "tiny") -> None:
        """Two agents agree on the statistics of a job and its round 1 is open."""
        if not self.link._connected:
            self.link.start()
            self.work()
        for name in ("a", "b"):
            if name not in self.links:
                self.agent(name)
            schema = schema_hash(self.jobs[job])
            self.say(name, "join", Join(job=job, schema=schema, windows={"train": 8}))
            windows = np.random.default_rng(len(self.heard)).normal(5, 2, (8, 2, 4))
            moments = collect(windows.astype(np.float32), [0, 1], [], [])
            self.say(name, "moments", MomentsReport(job=job, moments=moments))

    def state(self, job: str = "tiny") -> tuple[str, int]:
        """How far a job is, and its open round."""
        record, current = self.store.job(job), self.store.current_round(job)
        assert record is not None
        return record.state, current.round if current is not None else 0

    def update(self, agent: str, job: str = "tiny") -> UpdateOffer:
        """An agent sends a good update for the open round."""
        record, current = self.store.job(job), self.store.current_round(job)
        assert record is not None
        assert current is not None
        manifest = msgspec.json.decode(record.manifest or b"", type=Manifest)
        elements = manifest.size - sum(t.size for t in manifest.tensors if t.role == "buffer")
        delta = np.random.default_rng(len(agent)).normal(0, 0.1, elements).astype(np.float32)
        header = FrameHeader(
            content="delta",
            round=current.round,
            schema=prefix(manifest.digest),
            base=prefix(current.base),
            examples=8,
        )
        frame = encode_frame(CODECS["int8"], delta, header, np.random.default_rng(0))
        offer = UpdateOffer(
            job=job,
            round=current.round,
            base=current.base,
            sha256=sha256(frame),
            size=len(frame),
            examples=8,
            loss=0.5,
            seconds=0.1,
            protocol=NEWEST,
        )
        self.say(agent, "update", offer)
        for block in blocks_of(frame):
            self.say(agent, "block", block)
        return offer
