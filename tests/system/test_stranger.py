# SPDX-License-Identifier: Apache-2.0
"""A stranger on the broker says everything that is wrong: it is refused, logged, and harmless."""

from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue

import numpy as np
import pytest
from msgspec import Struct, json, structs
from tests.system.conftest import Launch
from tests.system.fleet import COORDINATOR, Fleet, a_job

from fedmill_shared.files import sha256
from fedmill_shared.link.base import Connected, LinkEvent
from fedmill_shared.link.blocks import blocks_of
from fedmill_shared.link.mqtt import Endpoint, MqttLink
from fedmill_shared.messages import (
    ALL,
    DOWN,
    UP,
    BlobRequest,
    EvaluationReport,
    Join,
    MomentsReport,
    UpdateOffer,
    encode,
)
from fedmill_shared.metrics import ClassificationStatistic, RegressionStatistic, Statistic
from fedmill_shared.signals.moments import Cell, Moments

pytestmark = [pytest.mark.system, pytest.mark.drill]

NOISE = np.random.default_rng(0).bytes(250_000)
FRAME = b"FMF1" + bytes(100)
END = "the-end"
OTHER = ("block", "nonsense")


@contextmanager
def stranger(fleet: Fleet) -> Iterator[MqttLink]:
    """A connection of somebody who is no agent."""
    events: SimpleQueue[LinkEvent] = SimpleQueue()
    endpoint = Endpoint(host="127.0.0.1", port=fleet.port, client_id="stranger", subscriptions=())
    link = MqttLink(endpoint, events.put)
    link.start()
    try:
        assert isinstance(events.get(timeout=10), Connected)
        yield link
    finally:
        link.stop()


def garbage(fleet: Fleet) -> list[bytes]:
    """Payloads that no decoder may take: noise, nothing, foreign, cut off."""
    whole = (encode(an_offer(fleet)), next(blocks_of(b"not what you expect")))
    halves = (message[: len(message) // 2] for message in whole)
    return [NOISE, b"", b"\x00", b"\xc1" * 40, b"[" * 50_000, *halves]


def an_offer(fleet: Fleet) -> UpdateOffer:
    """An update that would fit the open round, but for its frame."""
    current = fleet.store.current_round(fleet.job.name)
    assert current is not None
    return UpdateOffer(
        job=fleet.job.name,
        round=current.round,
        base=current.base,
        sha256=sha256(FRAME),
        size=len(FRAME),
        examples=10,
        loss=0.1,
        seconds=0.1,
    )


def wrong_topics() -> list[str]:
    """Topics that match a subscription and mean nothing."""
    return [
        "fedmill/v1/agent-1/up/update/extra",
        "fedmill/v1/agent-1/up",
        "fedmill/v1/Agent 1/up/update",
        "fedmill/v1//up/update",
        "fedmill/v1/all/up/state",
        f"fedmill/v1/{'a' * 33}/up/state",
        "fedmill/v1/agent-1/down/update/extra",
        "fedmill/v1/all/version",
        "fedmill/v1/all/version/tiny/extra",
        "fedmill/v1/all",
    ]


def impossible(fleet: Fleet) -> list[tuple[str, str, Struct]]:
    """Well-formed messages that cannot be true: (agent, kind, message)."""
    job, offer = fleet.job.name, an_offer(fleet)
    version = offer.base
    other = sha256(b"somewhere else")
    three = ClassificationStatistic(classes=3, counts=(1,) * 9, log_loss=1.0)
    number = RegressionStatistic(1, 0.0, 0.0, 0.0, 1.0, 0.0)

    def scored(of: str, statistic: Statistic) -> EvaluationReport:
        return EvaluationReport(job=job, version=of, statistic=statistic, last=statistic)

    cell = Cell(key=(), count=5, mean=[0.0, 1.0, 2.0], m2=[-1.0, 0.0, 0.0])
    return [
        ("agent-3", "update", structs.replace(offer, base=other)),
        ("agent-3", "update", structs.replace(offer, round=99)),
        ("stranger", "update", structs.replace(offer, size=1 << 39)),
        ("stranger", "update", structs.replace(offer, job="elsewhere")),
        ("stranger", "evaluation", scored(version, three)),
        ("stranger", "evaluation", scored(version, number)),
        ("stranger", "evaluation", scored(other, three)),
        ("stranger", "moments", MomentsReport(job=job, moments=Moments(cells=[cell]))),
        ("foreigner", "join", Join(job=job, schema=other, windows={})),
        ("stranger", "request", BlobRequest(job=job, blob=other, missing=[0])),
        ("agent-1", "request", BlobRequest(job=job, blob=version, missing=[1 << 39])),
    ]


def say_garbage(link: MqttLink, fleet: Fleet) -> None:
    """Everything that is no message, on every topic."""
    payloads = garbage(fleet)
    up = [f"{agent}/up/{kind}" for agent in ("agent-3", "stranger") for kind in (*UP, *OTHER)]
    down = [f"agent-1/down/{kind}" for kind in (*DOWN, *OTHER)]
    for topic in (*up, *down, *(f"all/{kind}/tiny" for kind in (*ALL, *OTHER))):
        for payload in payloads:
            link.publish(f"fedmill/v1/{topic}", payload)
    for topic in wrong_topics():
        link.publish(topic, NOISE)


def say_lies(link: MqttLink, fleet: Fleet) -> None:
    """Well-formed messages that are not true, and blocks that nobody asked for."""
    for agent, kind, message in impossible(fleet):
        link.publish(f"fedmill/v1/{agent}/up/{kind}", encode(message))
    link.publish("fedmill/v1/stranger/up/update", encode(an_offer(fleet)))
    for block in (*blocks_of(FRAME), *blocks_of(NOISE)):
        for topic in ("stranger/up/block", "agent-3/up/block", "all/block/tiny"):
            link.publish(f"fedmill/v1/{topic}", block)


class TestStranger:
    def test_garbage_stops_nobody(self, launch: Launch) -> None:
        """Refusals are logged, every round has its three updates, and the listings still work."""
        fleet = launch(a_job(rounds=4, deadline_seconds=60.0))
        held = fleet.hold("agent-3")
        fleet.wait("two updates", lambda: fleet.received(1) == ["agent-1", "agent-2"])
        with stranger(fleet) as link:
            say_garbage(link, fleet)
            say_lies(link, fleet)
            for topic in (f"agent-1/up/{END}", f"agent-1/down/{END}", f"all/{END}/tiny"):
                link.publish(f"fedmill/v1/{topic}", b"")
            for name in (COORDINATOR, "agent-1", "agent-2"):
                fleet.wait(f"the end at {name}", lambda name=name: refused(fleet, name, END))
        held.resume()
        fleet.finish()

        assert [record.included for record in fleet.rounds()] == [fleet.agents] * 4
        told = fleet.store.evaluations(fleet.job.name)
        assert {record.agent for record in told} == set(fleet.agents)
        assert len(fleet.events(COORDINATOR, "message.refused")) >= 60
        texts = [event["text"] for event in fleet.events(COORDINATOR, "agent.refused")]
        for wrong in ("starts from", "round 99", "bytes are too many", "classes differ", "frame:"):
            assert any(wrong in text for text in texts), wrong
        for command in ("jobs", "rounds", "fleet"):
            done = fleet.run("fedmill_coordinator", command, fleet.layout.coordinator, "--json")
            assert (done.returncode, done.stderr) == (0, "")
            assert json.decode(done.stdout)
        for name in (COORDINATOR, *fleet.agents):
            assert "Traceback" not in (fleet.layout.logs / f"{name}.log").read_text()
            assert not fleet.events(name, level="error")


def refused(fleet: Fleet, name: str, topic: str) -> bool:
    """Whether a process logged that it refused a message with this in its topic, or a storm."""
    return any(
        topic in event.get("topic", "") + event["error"] or "more_left_out" in event
        for event in fleet.events(name, "message.refused")
    )
