# SPDX-License-Identifier: Apache-2.0
"""Each message goes to whom it concerns, whatever a stranger sends, and its bytes are counted."""

from collections.abc import Callable

import pytest
from msgspec import Struct
from structlog.testing import capture_logs
from tests.coordinator.plant import Plant

from fedmill_shared import topics
from fedmill_shared.link.base import Connected, Message
from fedmill_shared.link.blocks import blocks_of
from fedmill_shared.link.packet import PUBACK_BYTES, blob_bytes, publish_bytes
from fedmill_shared.messages import (
    AgentState,
    BlobRequest,
    JobPhase,
    Join,
    encode,
)

pytestmark = pytest.mark.usefixtures("exported_once")


class TestSafeMode:
    def test_an_agent_that_cannot_start(self, make_plant: Callable[..., Plant]) -> None:
        """It is told once, when it comes, with the agent's own reason."""
        plant = make_plant()
        state = AgentState(online=True, safe_mode="5 starts in a row failed")
        with capture_logs() as logs:
            for _ in range(3):
                plant.daemon._hand_in(Message(topics.up("late", "state"), encode(state)))
                plant.work()
        told = [each for each in logs if each["event"] == "agent.safe_mode"]
        assert [(each["agent"], each["reason"]) for each in told] == [("late", state.safe_mode)]


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
            plant.daemon._hand_in(Message(topic, b""))
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


class TestProtocols:
    @pytest.mark.parametrize(
        ("oldest", "newest", "counted"), [(1, 0, True), (2, 3, True), (3, 4, False)]
    )
    def test_agents_of_other_software(
        self, make_plant: Callable[..., Plant], *, oldest: int, newest: int, counted: bool
    ) -> None:
        """Neighbouring versions take part; others are told of by name, and not waited for."""
        plant = make_plant()
        plant.link.start()
        plant.agent("c", protocol=oldest, newest=newest)
        assert ("c" in plant.daemon._services.fleet.on_job("tiny")) == counted
        assert plant.take("c", "job")[-1].protocol == 1
        [record] = plant.store.agents()
        assert ("speaks protocol" in record.detail) != counted


class TestTraffic:
    """Bytes by job and agent."""

    def bytes_of(self, plant: Plant, job: str = "tiny") -> dict[str, tuple[int, int]]:
        """Agent -> bytes up and down of a job since its last round."""
        records = plant.daemon._services.traffic.records(job, 1)
        return {r.agent: (r.uplink_bytes, r.downlink_bytes) for r in records}

    def since(
        self, plant: Plant, before: dict[str, tuple[int, int]], job: str = "tiny"
    ) -> dict[str, tuple[int, int]]:
        """What was added to ``before``, of agents where something was."""
        now = self.bytes_of(plant, job)
        added = {
            agent: (now[agent][0] - up, now[agent][1] - down)
            for agent in now
            for up, down in [before.get(agent, (0, 0))]
        }
        return {agent: each for agent, each in added.items() if any(each)}

    def test_an_update_counts_for_its_job_and_agent(self, make_plant: Callable[..., Plant]) -> None:
        """With two jobs it is not counted twice; each receipt is told to who sent the update."""
        plant = make_plant("tiny", "other")
        plant.running()
        before, other = self.bytes_of(plant), self.bytes_of(plant, "other")
        offer = plant.update("a")
        [receipt] = plant.take("a", "receipt")
        assert isinstance(receipt, Struct)
        up = publish_bytes(topics.up("a", "update"), len(encode(offer)))
        up += blob_bytes(topics.up("a", "block"), offer.size)
        down = publish_bytes(topics.down("a", "receipt"), len(encode(receipt)))
        assert self.since(plant, before) == {"a": (up + PUBACK_BYTES, down + 2 * PUBACK_BYTES)}
        assert self.since(plant, other, "other") == {}

    def test_a_block_that_comes_again(self, make_plant: Callable[..., Plant]) -> None:
        """It was on the wire; the jobs of its agent that go on share it."""
        plant = make_plant("tiny", "other")
        plant.running()
        block = next(blocks_of(b"nobody expects this"))
        before, other = self.bytes_of(plant), self.bytes_of(plant, "other")
        plant.say("a", "block", block)
        whole = publish_bytes(topics.up("a", "block"), len(block))
        first, second = self.since(plant, other, "other"), self.since(plant, before)
        assert first == {"a": (whole - whole // 2, 2)}
        assert second == {"a": (whole // 2, 2)}

    @pytest.mark.parametrize(("kind", "payload"), [("join", b"\xc1"), ("gossip", b"hello")])
    def test_what_is_refused_was_sent(
        self, make_plant: Callable[..., Plant], kind: str, payload: bytes
    ) -> None:
        """Damaged or unknown: the agent's job bears it all the same."""
        plant = make_plant()
        plant.running()
        before = self.bytes_of(plant)
        plant.say("a", kind, payload)
        size = publish_bytes(topics.up("a", kind), len(payload))
        assert self.since(plant, before) == {"a": (size, PUBACK_BYTES)}

    def test_what_the_disk_refuses_was_sent(self, make_plant: Callable[..., Plant]) -> None:
        """The agent will send it again, and that will count again."""
        plant = make_plant()
        plant.running()
        before = self.bytes_of(plant)
        plant.disk.failing = 1
        join = Join(job="tiny", schema="0" * 64, windows={"train": 8})
        plant.say("a", "join", join)
        assert plant.disk.failed == 1
        up, _ = self.since(plant, before)["a"]
        assert up == publish_bytes(topics.up("a", "join"), len(encode(join)))

    def test_a_state_is_shared_by_the_jobs_that_go_on(
        self, make_plant: Callable[..., Plant]
    ) -> None:
        """What is over costs nothing more; what the broker kept of before costs nothing."""
        plant = make_plant("tiny", "other")
        plant.running()
        plant.store.give_order("other", "abort", "anna", plant.clock.now_ns())
        plant.wait(1)
        before, other = self.bytes_of(plant), self.bytes_of(plant, "other")
        jobs = {job: JobPhase(phase="joined") for job in plant.jobs}
        state = AgentState(online=True, jobs=jobs)
        plant.say("a", "state", state)
        size = publish_bytes(topics.up("a", "state"), len(encode(state)))
        assert self.since(plant, before) == {"a": (size, PUBACK_BYTES)}
        assert self.since(plant, other, "other") == {}
        plant.daemon._take(Message(topics.up("a", "state"), encode(state), retained=True))
        assert self.since(plant, before) == {"a": (size, PUBACK_BYTES)}

    def test_a_broadcast_counts_for_each_that_is_connected(
        self, make_plant: Callable[..., Plant]
    ) -> None:
        """Whatever its jobs: all listen to all. Who is away gets it on coming back."""
        plant = make_plant()
        plant.running()
        plant.agent("idle")
        plant.say("idle", "state", AgentState(online=True))
        plant.say("b", "state", AgentState(online=False))
        before, published = self.bytes_of(plant), plant.daemon._services.traffic.published("tiny")
        plant.daemon._services.voice.broadcast("tiny", "block", b"12345")
        size = publish_bytes("fedmill/v1/all/block/tiny", 5)
        assert self.since(plant, before) == dict.fromkeys(("a", "idle"), (PUBACK_BYTES, size))
        assert plant.daemon._services.traffic.published("tiny") - published == size
        kept = sum(
            publish_bytes(topic, len(payload))
            for topic, payload in plant.broker.retained.items()
            if "/all/" in topic
        )
        plant.say("b", "state", AgentState(online=True))
        assert self.since(plant, before)["b"] == (4 * PUBACK_BYTES, kept + size)

    def test_a_broker_that_lost_our_session(self, make_plant: Callable[..., Plant]) -> None:
        """It has lost those of the agents as well: nothing waits for them."""
        plant = make_plant()
        plant.running()
        plant.say("b", "state", AgentState(online=False))
        plant.daemon._services.voice.broadcast("tiny", "block", bytes(10_000))
        plant.daemon._take(Connected(session_present=False))
        before = self.bytes_of(plant)["b"]
        plant.say("b", "state", AgentState(online=True))
        assert self.bytes_of(plant)["b"][1] - before[1] < 10_000

    def test_what_is_told_to_one(self, make_plant: Callable[..., Plant]) -> None:
        """Counts for that one; for one that is away, when it is back."""
        plant = make_plant()
        plant.running()
        plant.say("b", "state", AgentState(online=False))
        before = self.bytes_of(plant)
        for agent in ("a", "b"):
            plant.daemon._services.voice.tell("tiny", agent, "block", b"12345")
        size = publish_bytes("fedmill/v1/a/down/block", 5)
        assert self.since(plant, before) == {"a": (PUBACK_BYTES, size)}

    def test_what_cannot_be_sent(self, make_plant: Callable[..., Plant]) -> None:
        """Nobody gets it."""
        plant = make_plant(largest_packet=5000)
        plant.running()
        before = self.bytes_of(plant)
        plant.daemon._services.voice.broadcast("tiny", "block", bytes(6000))
        plant.daemon._services.voice.tell("tiny", "a", "block", bytes(6000))
        assert self.since(plant, before) == {}
