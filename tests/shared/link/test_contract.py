# SPDX-License-Identifier: Apache-2.0
"""What every link promises, over the in-memory twin and over MQTT."""

import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import pytest

from fedmill_shared.errors import BrokerError
from fedmill_shared.link.base import (
    LARGEST_PACKET,
    PACKET_OVERHEAD,
    Connected,
    Disconnected,
    Message,
    Rejection,
)

World = Any  # tests/shared/link/conftest.py
PATIENCE = 20.0


def until(done: Callable[[], bool]) -> None:
    """Return once ``done``."""
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class TestLink:
    """One class for all links."""

    def test_order_is_kept(self, world: World) -> None:
        """More messages than are in flight at once arrive in order, each once, also at oneself."""
        topic = world.topic("up")
        sender, receiver = world.connect("sender", [topic]), world.connect("receiver", [topic])
        receiver.settle()
        expected = [Message(topic, bytes([i])) for i in range(100)]
        for message in expected:
            sender.link.publish(topic, message.payload)
        assert sender.settle() == expected
        assert receiver.settle() == expected

    def test_blocks_arrive_unchanged(self, world: World) -> None:
        """The largest message that fits, and an empty one."""
        topic = world.topic("block")
        peer = world.connect("peer", [topic])
        largest = bytes(range(256)) * (LARGEST_PACKET // 256)
        for payload in (largest[: LARGEST_PACKET - PACKET_OVERHEAD - len(topic)], b""):
            peer.link.publish(topic, payload)
            assert peer.settle() == [Message(topic, payload)]

    def test_only_what_was_subscribed(self, world: World) -> None:
        """Wildcards reach as far as they say."""
        peer = world.connect("peer", [world.topic("+/down/#")])
        wanted = [world.topic("a/down"), world.topic("b/down/x/y")]
        for topic in (*wanted, world.topic("a/up/x"), world.topic("a/b/down/x")):
            peer.link.publish(topic, b"1")
        assert [message.topic for message in peer.settle()] == wanted

    def test_retained_reaches_late_joiners(self, world: World) -> None:
        """Fresh for those who are there; stored, and marked so, for those who come later."""
        topic = world.topic("job")
        early = world.connect("early", [topic])
        early.settle()
        early.link.publish(topic, b"old", retain=True)
        early.link.publish(topic, b"new", retain=True)
        early.link.publish(topic, b"passing")
        sent = [Message(topic, b"old"), Message(topic, b"new"), Message(topic, b"passing")]
        assert early.settle() == sent
        late = world.connect("late", [topic])
        assert late.settle() == [Message(topic, b"new", retained=True)]

    def test_empty_retained_message_clears(self, world: World) -> None:
        """MQTT 5.0, section 3.3.1.3."""
        topic = world.topic("job")
        early = world.connect("early", [])
        early.link.publish(topic, b"job", retain=True)
        early.link.publish(topic, b"", retain=True)
        early.settle()
        assert world.connect("late", [topic]).settle() == []

    def test_will_when_the_connection_vanishes(self, world: World) -> None:
        """Those who are there learn at once, those who come later too; the link comes back."""
        will = Message(world.topic("state"), b"offline")
        watcher = world.connect("watcher", [will.topic])
        watcher.settle()
        lost = world.connect("lost", [], will)
        lost.link.publish(will.topic, b"online", retain=True)
        lost.settle()
        assert watcher.settle() == [Message(will.topic, b"online")]
        world.vanish(lost)
        assert watcher.wait_for(Message) == will
        late = world.connect("late", [will.topic])
        assert late.settle() == [Message(will.topic, b"offline", retained=True)]
        assert isinstance(lost.events.get(timeout=20), Disconnected)
        assert world.recover(lost).session_present
        assert lost.settle() == []

    def test_farewell_instead_of_the_will(self, world: World) -> None:
        """An orderly end is told in the link's own words, retained; the will is not published."""
        will = Message(world.topic("state"), b"offline")
        watcher = world.connect("watcher", [will.topic])
        watcher.settle()
        world.connect("leaver", [], will).link.stop(Message(will.topic, b"goodbye"))
        assert watcher.wait_for(Message) == Message(will.topic, b"goodbye")
        assert watcher.settle() == []
        late = world.connect("late", [will.topic])
        assert late.settle() == [Message(will.topic, b"goodbye", retained=True)]

    def test_too_large_a_message_is_not_sent(self, world: World) -> None:
        """It is an error of the caller; the connection does not break over it."""
        topic = world.topic("up")
        peer = world.connect("peer", [topic])
        with pytest.raises(BrokerError, match=rf"{topic}: 300000 bytes.*\(raise max_packet_size"):
            peer.link.publish(topic, bytes(300_000))
        assert peer.settle() == []
        assert peer.events.empty()

    def test_session_survives_an_absence(self, world: World) -> None:
        """What is published while we are away arrives afterwards, in order and once."""
        topic = world.topic("receipt")
        sender, sleeper = world.connect("sender", []), world.connect("sleeper", [topic])
        sleeper.settle()
        sleeper.link.stop()
        for payload in (b"1", b"2", b"3"):
            sender.link.publish(topic, payload)
        sender.settle()
        assert world.come_back(sleeper).session_present
        assert sleeper.settle() == [Message(topic, payload) for payload in (b"1", b"2", b"3")]

    def test_retained_comes_again_after_an_absence(self, world: World) -> None:
        """The state of things is told anew, so that nobody works on from an old one."""
        topic = world.topic("version")
        sender, sleeper = world.connect("sender", []), world.connect("sleeper", [topic])
        sender.link.publish(topic, b"1", retain=True)
        sender.settle()
        sleeper.settle()
        sleeper.link.stop()
        world.come_back(sleeper)
        assert sleeper.settle() == [Message(topic, b"1", retained=True)]

    def test_backlog_ends_with_the_last_acknowledgement(self, world: World) -> None:
        """What is refused was never in it."""
        topic = world.topic("up")
        peer = world.connect("peer", [])
        assert peer.link.backlog == 0
        for _ in range(100):
            peer.link.publish(topic, b"1")
        with pytest.raises(BrokerError):
            peer.link.publish(topic, bytes(300_000))
        until(lambda: peer.link.backlog == 0)

    def test_renewing_keeps_the_session_and_says_no_loss(self, world: World) -> None:
        """And nobody reads a will."""
        topic, state = world.topic("down"), world.topic("state")
        watcher = world.connect("watcher", [state])
        peer = world.connect("peer", [topic], will=Message(state, b"gone"))
        peer.link.renew()
        assert peer.wait_for(Connected).session_present
        watcher.link.publish(topic, b"1")
        watcher.settle()
        assert peer.settle() == [Message(topic, b"1")]
        assert watcher.settle() == []

    def test_stopping_twice_is_stopping(self, world: World) -> None:
        """A signal may come during the end."""
        peer = world.connect("peer", [])
        peer.link.stop()
        peer.link.stop(Message(world.topic("state"), b"too late"))
        late = world.connect("late", [world.topic("state")])
        assert late.settle() == []


class Answers(SimpleQueue[tuple[str, Rejection | None]]):
    """What the broker said of each message."""

    def ask(self, peer: Any, topic: str, **options: Any) -> None:
        """Publish on ``topic``."""
        peer.link.publish(topic, b"1", done=lambda answer: self.put((topic, answer)), **options)

    def next(self) -> tuple[str, Rejection | None]:
        """The next of them."""
        return self.get(timeout=PATIENCE)


class TestAnswer:
    """What ``done`` is told, of every link."""

    def test_taken(self, world: World) -> None:
        """Also where nobody listens: the broker has it, and that is all it says."""
        peer, answers = world.connect("peer", [world.topic("up")]), Answers()
        for topic in (world.topic("up"), world.topic("nobody")):
            answers.ask(peer, topic)
            assert answers.next() == (topic, None)

    def test_refused(self, strict_world: World) -> None:
        """No acknowledgement: which topic, why and what to do; nobody gets it, then or later."""
        topic, answers = strict_world.topic("forbidden/x"), Answers()
        peer = strict_world.connect("peer", [topic])
        answers.ask(peer, topic, retain=True)
        asked, rejection = answers.next()
        assert rejection is not None
        assert (rejection.topic, rejection.reason) == (asked, "Not authorized")
        assert rejection.remedy
        assert peer.settle() == []
        assert strict_world.connect("late", [topic]).settle() == []

    def test_one_topic_is_no_other(self, strict_world: World) -> None:
        """Each message gets its own answer, in order, and the connection goes on."""
        good, bad = strict_world.topic("good"), strict_world.topic("forbidden/bad")
        peer, answers = strict_world.connect("peer", [good]), Answers()
        for _ in range(50):  # more than are in flight at once
            answers.ask(peer, bad)
            answers.ask(peer, good)
        told = [answers.next() for _ in range(100)]
        assert [topic for topic, _ in told] == [bad, good] * 50
        assert [rejection is None for _, rejection in told] == [False, True] * 50
        assert peer.settle() == [Message(good, b"1")] * 50
        until(lambda: peer.link.backlog == 0)

    def test_nobody_needs_to_ask(self, strict_world: World) -> None:
        """Without ``done`` a refused message is gone, and leaves the backlog."""
        peer = strict_world.connect("peer", [])
        peer.link.publish(strict_world.topic("forbidden/x"), b"1")
        assert peer.settle() == []
        until(lambda: peer.link.backlog == 0)
