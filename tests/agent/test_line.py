# SPDX-License-Identifier: Apache-2.0
"""The line to the coordinator, with a broker in memory at its other end."""

import pytest
from hypothesis import given
from hypothesis.strategies import binary, sampled_from
from tests.agent.kit import Journal
from tests.agent.whole import JOB, Plant, joined, open_round

from fedmill_agent.config import AgentConfig, AgentSection, BrokerSection
from fedmill_agent.line import BACKLOG_LIMIT, Line, read
from fedmill_agent.training import protocol
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import FrameError
from fedmill_shared.link.base import (
    Connected,
    Disconnected,
    Done,
    Message,
    Rejection,
    Sink,
    Unheard,
)
from fedmill_shared.link.blocks import Block, blocks_of
from fedmill_shared.link.options import TlsSection
from fedmill_shared.link.rights import RightsTold
from fedmill_shared.messages import AgentState, BlobRequest, Echo, RoundNotice, Wait, decode, encode


class TestBroker:
    def test_lost_and_back(self, plant: Plant) -> None:
        """Scoring goes on; an update that was made meanwhile is sent once there is a broker."""
        agent, versions = joined(plant)
        agent.trainer.lazy = True
        open_round(plant, versions)
        agent.until(lambda: agent.trainer.asked(protocol.Train))
        agent.link.vanish()
        agent.trainer.work()
        agent.run(300)
        assert plant.said("update") == plant.said("block") == []
        [told] = agent.journal.of("broker.unreachable")
        assert told["broker"] == "127.0.0.1:1883"
        assert not agent.status().connected
        agent.link.start()
        agent.until(lambda: plant.coordinator.frames)
        agent.run()
        # Told once because the agent is back, and once because the coordinator may be.
        offers = plant.said("update")
        assert {(offer.round, offer.sha256) for offer in offers} == {(1, offers[0].sha256)}
        assert len(offers) <= 2
        assert len(plant.said("join")) == 3
        assert list(plant.coordinator.frames) == [offers[0].sha256]
        assert agent.status().connected

    def test_a_busy_coordinator_is_offered_the_update_later(self, plant: Plant) -> None:
        """When it said, and not after the usual ten seconds."""
        agent, versions = joined(plant)
        open_round(plant, versions)
        agent.until(lambda: plant.said("update"))
        [offer] = plant.said("update")
        plant.coordinator.answer(
            Wait(job="press", sha256=offer.sha256, retry_after=60.0), kind="wait"
        )
        agent.run(500)
        assert len(plant.said("update")) == 1
        agent.until(lambda: len(plant.said("update")) == 2)
        assert plant.said("update")[1].offered_again

    def test_its_will_and_its_farewell(self, plant: Plant) -> None:
        """Vanished or stopped: retained, so that everyone knows."""
        agent = plant.agent()
        agent.until(lambda: plant.said("state"))
        assert plant.said("state")[-1].online
        agent.link.vanish()
        assert not plant.said("state")[-1].online
        agent.link.start()
        agent.until(lambda: plant.said("state")[-1].online)
        plant.coordinator.offer(JOB)
        agent.until(lambda: agent.phase() == "joined")
        plant.stop(agent)
        farewell = plant.said("state")[-1]
        assert not farewell.online
        assert farewell.jobs["press"].phase == "joined"

    def test_requests_pass_by_while_much_is_on_its_way_out(self, plant: Plant) -> None:
        """A small one asks for a mebibyte; whoever sent it asks again."""
        agent, versions = joined(plant)
        open_round(plant, versions)
        agent.until(lambda: plant.said("block"))
        [offer] = plant.said("update")
        request = BlobRequest(job="press", blob=offer.sha256, missing=[0])
        agent.link.backlog = BACKLOG_LIMIT
        for _ in range(10):
            plant.coordinator.answer(request, kind="request")
        agent.run()
        assert len(plant.said("block")) == 1
        agent.link.backlog = BACKLOG_LIMIT - 1
        plant.coordinator.answer(request, kind="request")
        agent.until(lambda: len(plant.said("block")) == 2)

    def test_a_message_that_is_too_large_is_told(self, plant: Plant) -> None:
        """And the agent lives on."""
        agent = plant.agent()
        plant.coordinator.broker.largest_packet = 2000
        agent.daemon._line.send("state", agent.word())
        agent.daemon._line.send("refusal", b"x" * 2000)
        [told] = agent.journal.of("message.unsent")
        assert told["kind"] == "refusal"


class Wire:
    """A link that writes down what it is told."""

    def __init__(self) -> None:
        self.backlog = 0
        self.forbidden = "forbidden"
        self.sent: list[tuple[str, bytes, bool]] = []
        self.farewell: Message | None = None

    def start(self) -> None:
        """Nothing is connected."""

    def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, done: Done | None = None
    ) -> None:
        """Send, and hear of it."""
        self.sent.append((topic, payload, retain))
        if done is not None:
            refused = Rejection(topic, "Not authorized", "check the ACL")
            done(refused if self.forbidden in topic else None)

    def stop(self, farewell: Message | None = None) -> None:
        """Hang up."""
        self.farewell = farewell


class Ends:
    """A line, and what is at its end."""

    def __init__(self, tls: TlsSection | None = None) -> None:
        self.wire, self.journal, self.wills = Wire(), Journal(), list[Message]()
        self.clock = ManualClock()

        def connect(_sink: Sink, will: Message) -> Wire:
            self.wills.append(will)
            return self.wire

        config = AgentConfig(agent=AgentSection(id="a"), broker=BrokerSection(tls=tls))
        self.line = Line(
            config, connect, lambda _: None, self.journal, self.clock, nonce=lambda: b"12345678"
        )


class TestLine:
    def test_has_a_will_from_the_beginning(self) -> None:
        """The broker tells it if we vanish."""
        [will] = Ends().wills
        assert will.topic == "fedmill/v1/a/up/state"
        assert not decode(will.payload, AgentState).online

    def test_what_is_sent_anew_anyway_does_not_wait_for_a_broker(self) -> None:
        """Everything else does, in the queue of the link."""
        ends = Ends()
        for kind in ("update", "block", "request", "refusal"):
            ends.line.send(kind, b"x")
        assert [topic for topic, *_ in ends.wire.sent] == ["fedmill/v1/a/up/refusal"]
        ends.line.turn(Connected(session_present=False))
        ends.line.send("update", b"x")
        assert ends.wire.sent[-1] == ("fedmill/v1/a/up/update", b"x", False)

    def test_only_the_state_is_kept_by_the_broker(self) -> None:
        """Whoever comes later hears the newest one."""
        ends = Ends()
        ends.line.send("state", AgentState(online=True))
        [(_, payload, retain)] = ends.wire.sent
        assert retain
        assert decode(payload, AgentState).online

    def test_it_is_crowded_from_a_limit_on(self) -> None:
        """Each block that is asked for lies in the memory until it is gone."""
        ends = Ends()
        assert not ends.line.crowded
        ends.wire.backlog = BACKLOG_LIMIT
        assert ends.line.crowded

    @pytest.mark.parametrize("remedy", ["", "renew the certificate"])
    def test_a_loss_is_told_with_what_helps(self, remedy: str) -> None:
        """And that the agent does not need it to score."""
        ends = Ends()
        ends.line.turn(Connected(session_present=True))
        ends.line.turn(Disconnected("refused", remedy))
        assert not ends.line.connected
        [told] = ends.journal.of("broker.unreachable")
        assert (told["reason"], told["broker"]) == ("refused", "127.0.0.1:1883")
        assert told["remedy"].startswith(remedy)
        assert "scoring goes on" in told["remedy"]

    def test_what_the_broker_refuses_is_told_once_a_minute(self) -> None:
        """Whatever the kind, with how many there were; the agent goes on as before."""
        ends = Ends()
        ends.wire.forbidden = "/up/"
        ends.line.turn(Connected(session_present=False))
        for kind in ("state", "join", "block"):
            ends.line.send(kind, b"x")
        ends.clock.advance(60.0)
        ends.line.send("state", b"x")
        told = ends.journal.of("broker.refused")
        assert [each["messages"] for each in told] == [1, 3]
        assert told[0]["topic"] == "fedmill/v1/a/up/state"
        assert (told[0]["reason"], told[0]["remedy"]) == ("Not authorized", "check the ACL")
        assert len(ends.wire.sent) == 4

    def test_what_is_published_gets_the_answer_itself(self) -> None:
        """Whoever publishes tells it, and keeps what was refused."""
        ends, answers = Ends(), list[Rejection | None]()
        ends.line.publish("alarm", "oven", b"x", answers.append)
        ends.wire.forbidden = "/out/"
        ends.line.publish("alarm", "oven", b"x", answers.append)
        [taken, refused] = answers
        assert taken is None
        assert refused is not None
        assert refused.topic == "fedmill/v1/a/out/alarm/oven"
        assert ends.journal.of("broker.refused") == []

    def test_in_the_clear_nothing_is_tried(self) -> None:
        """There everybody may do everything."""
        ends = Ends()
        ends.line.turn(Connected(session_present=False))
        ends.line.echoed(Echo(nonce=b"12345678"))
        assert ends.wire.sent == []
        assert ends.line.rights is None

    def test_with_a_certificate_its_rights_are_tried(self) -> None:
        """Its own topic, one that is nobody's, and whether the coordinator hears and is heard."""
        ends = Ends(TlsSection())
        ends.wire.forbidden = "_nobody"
        ends.line.turn(Connected(session_present=False))
        echo = encode(Echo(nonce=b"12345678"))
        assert ends.wire.sent == [
            ("fedmill/v1/a/up/echo", echo, False),
            ("fedmill/v1/_nobody/up/echo", echo, False),
        ]
        assert ends.line.rights == RightsTold(own="granted", foreign="refused")
        said = read(Message("fedmill/v1/a/down/echo", echo))[1]
        assert isinstance(said, Echo)
        ends.line.echoed(said)
        assert ends.line.rights == RightsTold(own="granted", foreign="refused", echoed=True)

    def test_a_coordinator_that_comes_later_is_asked_again(self) -> None:
        """When something comes from it, every five seconds at most, until it has answered."""
        ends = Ends(TlsSection())
        ends.line.turn(Connected(session_present=False))
        ends.wire.sent.clear()
        ends.line.heard()
        assert ends.wire.sent == []
        ends.clock.advance(5)
        ends.line.heard()
        ends.line.heard()
        echo = encode(Echo(nonce=b"12345678"))
        assert ends.wire.sent == [("fedmill/v1/a/up/echo", echo, False)]
        ends.line.echoed(Echo(nonce=b"12345678"))
        ends.clock.advance(5)
        ends.line.heard()
        assert len(ends.wire.sent) == 1

    def test_a_coordinator_that_says_nothing_is_asked_ever_more_seldom(self) -> None:
        """A word may have come before it listened; what it is asked in vain fills no queue."""
        ends = Ends(TlsSection())
        ends.line.turn(Connected(session_present=False))
        ends.wire.sent.clear()
        asked_at = []
        for second in range(1, 20_000):
            ends.clock.advance(1)
            ends.line.wonder()
            if len(ends.wire.sent) > len(asked_at):
                asked_at.append(second)
        assert asked_at[:4] == [5, 15, 35, 75]
        assert asked_at[-1] - asked_at[-2] == 3600
        ends.line.echoed(Echo(nonce=b"12345678"))
        ends.clock.advance(3600)
        ends.line.wonder()
        assert len(ends.wire.sent) == len(asked_at)

    def test_a_topic_that_it_may_not_hear(self) -> None:
        """Told once, by the broker's answer to the subscription."""
        ends = Ends()
        ends.line.unheard(Unheard("fedmill/v1/all/#", "Not authorized", "check the ACL"))
        [told] = ends.journal.of("broker.unheard")
        assert told == {
            "topic": "fedmill/v1/all/#",
            "reason": "Not authorized",
            "remedy": "check the ACL",
        }

    def test_says_a_last_word(self) -> None:
        """In place of the will."""
        ends = Ends()
        ends.line.leave(AgentState(online=False, sent_ns=5))
        assert ends.wire.farewell is not None
        assert decode(ends.wire.farewell.payload, AgentState).sent_ns == 5


class TestRead:
    def test_every_kind_that_comes_down(self) -> None:
        """To this agent, and to all; blocks have a form of their own."""
        wait = Wait(job="press", sha256="a" * 64, retry_after=1.0)
        notice = RoundNotice(job="press", round=3)
        assert read(Message("fedmill/v1/a/down/wait", encode(wait))) == ("wait", wait)
        assert read(Message("fedmill/v1/all/round/press", encode(notice))) == ("round", notice)
        [wire] = blocks_of(b"blob")
        kind, block = read(Message("fedmill/v1/a/down/block", bytes(wire)))
        assert kind == "block"
        assert isinstance(block, Block)
        assert bytes(block.payload) == b"blob"

    @pytest.mark.parametrize(
        "topic", ["fedmill/v1/a/down/job", "fedmill/v1/all/receipt/press", "fedmill/v1/a/down/x"]
    )
    def test_a_kind_that_does_not_belong_there_is_refused(self, topic: str) -> None:
        """What is for all does not come to one, and the other way round."""
        with pytest.raises(FrameError, match="unknown kind"):
            read(Message(topic, b""))

    @given(payload=binary(max_size=64), kind=sampled_from(["receipt", "request", "wait", "block"]))
    def test_bytes_of_any_kind_end_in_a_refusal_or_a_message(
        self, payload: bytes, kind: str
    ) -> None:
        """Never in another error."""
        try:
            found, _ = read(Message(f"fedmill/v1/a/down/{kind}", payload))
        except FrameError:
            return
        assert found == kind
