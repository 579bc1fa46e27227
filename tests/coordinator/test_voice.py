# SPDX-License-Identifier: Apache-2.0
"""What is said to agents, how, and who bears the bytes."""

from types import SimpleNamespace

import pytest
import structlog
from structlog.testing import capture_logs

from fedmill_coordinator.fleet import Fleet
from fedmill_coordinator.store.memory import MemoryStore
from fedmill_coordinator.traffic import Traffic
from fedmill_coordinator.voice import LinkVoice
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import BrokerError
from fedmill_shared.link.base import Done, Rejection
from fedmill_shared.link.packet import PUBACK_BYTES, publish_bytes
from fedmill_shared.messages import AgentState, RoundNotice, Wait, encode

NOTICE = RoundNotice(job="rig", round=3)


class Link:
    """Writes down what is published, or takes nothing."""

    backlog = 0

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes, bool]] = []
        self.refusing = self.forbidding = False

    def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, done: Done | None = None
    ) -> None:
        """To the list."""
        if self.refusing:
            raise BrokerError("no room")
        self.published.append((topic, payload, retain))
        if done is not None:
            no = Rejection(topic, "Not authorized", "check the ACL")
            done(no if self.forbidding else None)

    def start(self) -> None:
        """Nothing to do."""

    def stop(self, farewell: object = None) -> None:
        """Nothing to do."""


@pytest.fixture
def world() -> SimpleNamespace:
    """A voice, two agents that hear it and one that is away."""
    clock = ManualClock()
    fleet, traffic, link = Fleet(MemoryStore(), clock), Traffic(), Link()
    for agent in ("a", "b", "c"):
        fleet.hear(agent, AgentState(online=agent != "c"))
    voice = LinkVoice(link, fleet, traffic, clock, structlog.get_logger())
    return SimpleNamespace(fleet=fleet, traffic=traffic, link=link, voice=voice, clock=clock)


def down(world: SimpleNamespace) -> dict[str, int]:
    """Agent -> bytes that it was sent for the job."""
    return {record.agent: record.downlink_bytes for record in world.traffic.records("rig", 1)}


class TestBroadcast:
    def test_notices_are_retained(self, world: SimpleNamespace) -> None:
        """Encoded, on the topic of all; blocks go as they are and are not kept."""
        world.voice.broadcast("rig", "round", NOTICE)
        world.voice.broadcast("rig", "block", b"block")
        assert world.link.published == [
            ("fedmill/v1/all/round/rig", encode(NOTICE), True),
            ("fedmill/v1/all/block/rig", b"block", False),
        ]

    def test_who_comes_is_told_the_notice(self, world: SimpleNamespace) -> None:
        """And what it missed; the block that was sent before it was known is not kept."""
        world.voice.broadcast("rig", "round", NOTICE)
        world.voice.broadcast("rig", "block", b"block")
        notice = publish_bytes("fedmill/v1/all/round/rig", len(encode(NOTICE)))
        block = publish_bytes("fedmill/v1/all/block/rig", 5)
        assert down(world) == dict.fromkeys("ab", notice + block)
        world.traffic.came("c")
        world.traffic.came("d")
        assert down(world) == {
            "a": notice + block,
            "b": notice + block,
            "c": 2 * notice + block,
            "d": notice,
        }


class TestTell:
    def test_one_agent(self, world: SimpleNamespace) -> None:
        """On its own topic, never retained; one that was never heard of is taken to be there."""
        wait = Wait(job="rig", sha256="a" * 64, retry_after=1.0)
        world.voice.tell("rig", "a", "wait", wait)
        world.voice.tell("rig", "z", "block", b"block")
        world.voice.tell("rig", "c", "block", b"block")
        assert world.link.published == [
            ("fedmill/v1/a/down/wait", encode(wait), False),
            ("fedmill/v1/z/down/block", b"block", False),
            ("fedmill/v1/c/down/block", b"block", False),
        ]
        sizes = {"a": publish_bytes("fedmill/v1/a/down/wait", len(encode(wait)))}
        sizes["z"] = publish_bytes("fedmill/v1/z/down/block", 5)
        assert down(world) == sizes
        assert world.traffic.total("rig") == (2 * PUBACK_BYTES, sum(sizes.values()))

    def test_of_a_job_that_is_not_run_here(self, world: SimpleNamespace) -> None:
        """It is said, and no count is begun that nobody would ever end."""
        world.voice.turn_away("a", "wait", Wait(job="other", sha256="a" * 64, retry_after=1.0))
        assert [topic for topic, _, _ in world.link.published] == ["fedmill/v1/a/down/wait"]
        assert world.traffic.total("other") == (0, 0)
        assert world.traffic.published("other") == 0


class TestUnsent:
    def test_costs_nothing(self, world: SimpleNamespace) -> None:
        """It is logged, and nobody fails over it."""
        world.link.refusing = True
        with capture_logs() as logs:
            world.voice.broadcast("rig", "round", NOTICE)
            world.voice.tell("rig", "a", "block", b"block")
        assert [event["event"] for event in logs] == ["message.unsent"] * 2
        assert down(world) == {}
        world.traffic.came("d")
        assert down(world) == {}


class TestRefused:
    def test_is_told_once_a_minute(self, world: SimpleNamespace) -> None:
        """Which topic, why, what to do and how many; nobody fails over it."""
        world.link.forbidding = True
        with capture_logs() as logs:
            for _ in range(3):
                world.voice.broadcast("rig", "round", NOTICE)
            world.clock.advance(60.0)
            world.voice.tell("rig", "a", "block", b"block")
        assert [(event["event"], event["messages"]) for event in logs] == [
            ("broker.refused", 1),
            ("broker.refused", 3),
        ]
        assert [event["topic"] for event in logs] == [
            "fedmill/v1/all/round/rig",
            "fedmill/v1/a/down/block",
        ]
        assert (logs[0]["reason"], logs[0]["remedy"]) == ("Not authorized", "check the ACL")

    def test_what_is_taken_is_not_told(self, world: SimpleNamespace) -> None:
        """Nor is anything else."""
        with capture_logs() as logs:
            world.voice.broadcast("rig", "round", NOTICE)
        assert logs == []
