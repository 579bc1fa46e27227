# SPDX-License-Identifier: Apache-2.0
"""The daemon: messages from the wire to the right conductor, and answers back; nothing ends it."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import structlog
import tomli_w
from msgspec import Struct

from fedmill_coordinator.config import BrokerSection, CoordinatorConfig, CoordinatorSection
from fedmill_coordinator.daemon import SUBSCRIPTIONS, Daemon
from fedmill_coordinator.store.memory import MemoryStore
from fedmill_shared import topics
from fedmill_shared.clock import ManualClock
from fedmill_shared.codec import CODECS
from fedmill_shared.codec.frame import FrameHeader, encode_frame, prefix
from fedmill_shared.errors import BrokerError, JobError
from fedmill_shared.files import sha256
from fedmill_shared.job import Job
from fedmill_shared.link.base import Connected, Disconnected, Link, LinkEvent, Message, Sink
from fedmill_shared.link.blocks import blocks_of
from fedmill_shared.link.memory import MemoryBroker, MemoryLink
from fedmill_shared.messages import (
    ALL,
    DOWN,
    AgentState,
    BlobRequest,
    JobPhase,
    Join,
    MomentsReport,
    Refusal,
    UpdateOffer,
    decode,
    encode,
)
from fedmill_shared.models.manifest import Manifest
from fedmill_shared.schema import schema_hash
from fedmill_shared.signals.moments import collect

pytestmark = pytest.mark.usefixtures("exported_once")


class Plant:
    """A daemon and its agents on one in-process broker."""

    def __init__(self, folder: Path, jobs: list[Job], largest_packet: int = 300_000) -> None:
        self.broker = MemoryBroker(largest_packet=largest_packet)
        self.clock = ManualClock()
        self.store = MemoryStore()
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
        return Daemon(self.config, self._connect, self.store, self.clock, structlog.get_logger())

    def _connect(self, sink: Sink) -> Link:
        self.link = MemoryLink(self.broker, SUBSCRIPTIONS, sink)
        return self.link

    def work(self) -> None:
        """Let the daemon take everything that waits."""
        while not self.daemon._queue.empty():
            self.daemon.step(0)
        self.daemon.step(0)

    def agent(self, name: str, job: str = "tiny") -> None:
        """An agent connects, and is on a job."""
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
        self.say(name, "state", AgentState(online=True, jobs={job: JobPhase(phase="joined")}))

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
        self.link.start()
        self.work()
        for name in ("a", "b"):
            self.agent(name, job)
            schema = schema_hash(self.jobs[job])
            self.say(name, "join", Join(job=job, schema=schema, windows={"train": 8}))
            windows = np.random.default_rng(len(self.heard)).normal(5, 2, (8, 2, 4))
            moments = collect(windows.astype(np.float32), [0, 1], [], [])
            self.say(name, "moments", MomentsReport(job=job, moments=moments))

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
        )
        self.say(agent, "update", offer)
        for block in blocks_of(frame):
            self.say(agent, "block", block)
        return offer


@pytest.fixture
def make_plant(tmp_path: Path, tiny_job: Callable[..., Job]) -> Callable[..., Plant]:
    """A plant with these jobs."""

    def make(*names: str, largest_packet: int = 300_000) -> Plant:
        return Plant(tmp_path, [tiny_job(name) for name in names or ("tiny",)], largest_packet)

    return make


class TestWire:
    """From topic to conductor and back."""

    def test_a_round_on_the_wire(self, make_plant: Callable[..., Plant]) -> None:
        """Join, statistics, version, round, update, receipt, next version: each on its topic."""
        plant = make_plant()
        plant.running()
        assert [notice.state for notice in plant.take("a", "job")][-1] == "running"
        assert [notice.number for notice in plant.take("a", "version")] == [0]
        assert [notice.round for notice in plant.take("a", "round")] == [1]
        offers = {name: plant.update(name) for name in ("a", "b")}
        for name, offer in offers.items():
            assert [receipt.sha256 for receipt in plant.take(name, "receipt")] == [offer.sha256]
        assert [notice.number for notice in plant.take("b", "version")] == [0, 1]
        [result] = plant.take("a", "round")
        assert (result.closed, result.round) == (1, 2)
        assert set(result.included) == {"a", "b"}

    def test_blocks_are_pulled(self, make_plant: Callable[..., Plant]) -> None:
        """A request brings blocks to the agent that asked, and to no other."""
        plant = make_plant()
        plant.running()
        [notice] = plant.take("a", "version")
        plant.take("b", "block")
        plant.say("a", "request", BlobRequest(job="tiny", blob=notice.snapshot.sha256, missing=[0]))
        assert len(plant.take("a", "block")) == 1
        assert plant.take("b", "block") == []

    def test_who_comes_later_hears_everything(self, make_plant: Callable[..., Plant]) -> None:
        """Job, version and round are retained by the broker; blocks are not."""
        plant = make_plant()
        plant.running()
        plant.agent("late")
        assert [kind for kind, _ in plant.heard["late"]] == ["job", "version", "round"]

    def test_agents_come_and_go(self, make_plant: Callable[..., Plant]) -> None:
        """Their states are kept for people."""
        plant = make_plant()
        plant.link.start()
        plant.agent("a")
        plant.say("a", "state", AgentState(online=False))
        [record] = plant.store.agents()
        assert (record.agent, record.online) == ("a", False)

    def test_refusals_are_kept(self, make_plant: Callable[..., Plant]) -> None:
        """With reason and text."""
        plant = make_plant()
        plant.link.start()
        plant.agent("a")
        plant.say("a", "refusal", Refusal(job="tiny", reason="SchemaError", text="no force"))
        assert [(r.agent, r.text) for r in plant.store.refusals()] == [("a", "no force")]


class TestNothingEndsIt:
    """What a stranger may send."""

    @pytest.mark.parametrize(
        ("kind", "payload"),
        [
            ("join", b"\xc1 no MessagePack"),
            ("join", b""),
            ("state", b"{"),
            ("moments", encode(Join(job="tiny", schema="ab" * 32, windows={}))),
            ("join", encode(Join(job="elsewhere", schema="ab" * 32, windows={}))),
            ("gossip", b"x"),
            ("block", b"FMB1"),
            ("block", bytes(200)),
            ("request", encode(BlobRequest(job="tiny", blob="ab" * 32, missing=[0]))),
        ],
    )
    def test_a_message_that_cannot_be_used(
        self, make_plant: Callable[..., Plant], kind: str, payload: bytes
    ) -> None:
        """It is refused, and the next one is served."""
        plant = make_plant()
        plant.running()
        plant.say("a", kind, payload)
        plant.update("a")
        assert [receipt.fate for receipt in plant.take("a", "receipt")] == ["received"]

    def test_foreign_topics(self, make_plant: Callable[..., Plant]) -> None:
        """Agents without a valid name, and topics of another tree, are nobody."""
        plant = make_plant()
        plant.running()
        for topic in ("fedmill/v1/All/up/join", "fedmill/v1/all/up/state", "x/y"):
            plant.daemon._queue.put(Message(topic, b""))
        plant.work()
        assert [record.agent for record in plant.store.agents()] == ["a", "b"]

    def test_what_the_broker_does_not_take(self, make_plant: Callable[..., Plant]) -> None:
        """A message that is too large for the broker is not sent; the job still goes on."""
        plant = make_plant(largest_packet=1200)
        plant.running()
        record = plant.store.job("tiny")
        assert record is not None
        assert record.state == "running"
        assert plant.take("a", "job") == []


class TestTraffic:
    """Bytes by job."""

    def test_blocks_count_for_the_job_they_belong_to(
        self, make_plant: Callable[..., Plant]
    ) -> None:
        """With two jobs an update is not counted twice, and a stranger's block not at all."""
        plant = make_plant("tiny", "other")
        plant.running()
        traffic = plant.daemon._traffic
        before = {name: traffic.so_far(name)[0] for name in ("tiny", "other")}
        offer = plant.update("a")
        up = {name: traffic.so_far(name)[0] - before[name] for name in ("tiny", "other")}
        topics_up = len(topics.up("a", "update")) + len(topics.up("a", "block"))
        assert up == {"tiny": len(encode(offer)) + 56 + offer.size + topics_up, "other": 0}

    def test_a_broadcast_counts_for_each_receiver(self, make_plant: Callable[..., Plant]) -> None:
        """Two agents on the job received it; a direct answer is received once."""
        plant = make_plant()
        plant.running()
        traffic = plant.daemon._traffic
        traffic.clear("tiny")
        plant.daemon.broadcast("tiny", "block", b"12345")
        assert traffic.so_far("tiny") == (0, 2 * (5 + len("fedmill/v1/all/block/tiny")))
        plant.daemon.tell("tiny", "a", "block", b"12345")
        assert traffic.so_far("tiny")[1] == 2 * 30 + 5 + len("fedmill/v1/a/down/block")


class TestConnection:
    """With and without the broker."""

    def test_nothing_is_done_while_it_is_away(self, make_plant: Callable[..., Plant]) -> None:
        """A deadline that passes in an outage is acted on after it."""
        plant = make_plant()
        plant.running()
        plant.update("a")
        plant.daemon._queue.put(Disconnected("cable"))
        plant.work()
        current = plant.store.current_round("tiny")
        plant.clock.advance(100)
        plant.work()
        assert plant.store.current_round("tiny") == current
        plant.daemon._queue.put(Connected(session_present=True))
        plant.work()
        extended = plant.store.current_round("tiny")
        assert extended is not None
        assert current is not None
        assert extended.deadline_ns > current.deadline_ns

    def test_everything_is_said_again_after_it(self, make_plant: Callable[..., Plant]) -> None:
        """The broker may have forgotten what it retained."""
        plant = make_plant()
        plant.running()
        plant.heard["a"].clear()
        plant.daemon._queue.put(Connected(session_present=False))
        plant.work()
        assert [kind for kind, _ in plant.heard["a"]] == ["job", "version", "round"]

    def test_agents_get_time_to_come_back(self, make_plant: Callable[..., Plant]) -> None:
        """The broker answers long after the start: nobody is missed before they could come."""
        plant = make_plant()
        plant.clock.advance(50)
        plant.link.start()
        plant.work()
        assert plant.daemon._fleet.changed_at == plant.clock.monotonic()

    def test_no_broker_at_all(self, make_plant: Callable[..., Plant]) -> None:
        """It gives up after the configured time, and says what to do."""
        plant = make_plant()
        ticking = plant.daemon._clock.monotonic

        def monotonic() -> float:
            plant.clock.advance(0.5)
            return ticking()

        plant.clock.monotonic = monotonic
        plant.link.start = lambda: None
        with pytest.raises(BrokerError, match=r"127\.0\.0\.1:1883: no broker has answered \(start"):
            plant.daemon.run()

    def test_stop(self, make_plant: Callable[..., Plant]) -> None:
        """Asked to stop, the loop ends and the link is closed."""
        plant = make_plant()
        plant.daemon.stop()
        plant.daemon.run()
        assert not plant.link._connected


class TestJobs:
    """What it is started with."""

    def test_the_same_file_again(self, make_plant: Callable[..., Plant]) -> None:
        """A restart continues the job."""
        plant = make_plant()
        plant.running()
        plant.daemon = plant.make()
        plant.link.start()
        plant.work()
        record = plant.store.job("tiny")
        assert record is not None
        assert record.state == "running"
        plant.update("a")
        assert [receipt.fate for receipt in plant.take("a", "receipt")] == ["received"]

    def test_a_changed_file(self, make_plant: Callable[..., Plant]) -> None:
        """A job does not change under its agents; the error says what to do."""
        plant = make_plant()
        path = Path(plant.config.coordinator.jobs[0])
        path.write_text(path.read_text().replace("rounds = 2", "rounds = 3"))
        with pytest.raises(JobError, match=r"changed: federation .*new name"):
            plant.make()

    def test_a_changed_file_of_a_finished_job(self, make_plant: Callable[..., Plant]) -> None:
        """It is over: agents still get its model, as it was run."""
        plant = make_plant()
        plant.store.update_job("tiny", updated_ns=1, state="stopped")
        path = Path(plant.config.coordinator.jobs[0])
        path.write_text(path.read_text().replace("rounds = 2", "rounds = 3"))
        plant.make()

    def test_two_files_of_one_name(self, make_plant: Callable[..., Plant]) -> None:
        """Both are named, and nothing is started with either."""
        plant = make_plant()
        first = Path(plant.config.coordinator.jobs[0])
        second = first.with_name("twin.toml")
        second.write_text(first.read_text())
        section = msgspec.structs.replace(plant.config.coordinator, jobs=[str(first), str(second)])
        plant.config = msgspec.structs.replace(plant.config, coordinator=section)
        with pytest.raises(JobError, match=r"twin\.toml are both named 'tiny'"):
            plant.make()

    def test_a_broken_file(self, make_plant: Callable[..., Plant]) -> None:
        """Nothing starts with half of the jobs."""
        plant = make_plant()
        Path(plant.config.coordinator.jobs[0]).write_text("[job]\n")
        with pytest.raises(JobError):
            plant.make()
