# SPDX-License-Identifier: Apache-2.0
"""What only the twin has; what it shares with the real link is in ``test_contract``."""

import pytest

from fedmill_shared.link.base import Connected, Disconnected, LinkEvent, Message
from fedmill_shared.link.memory import MemoryBroker, MemoryLink


class TestMemoryLink:
    def test_everything_happens_at_once(self) -> None:
        """No waiting in tests: events are there when the call returns."""
        broker, events = MemoryBroker(), list[LinkEvent]()
        link = MemoryLink(broker, ["a/#"], events.append)
        assert events == []
        link.start()
        link.publish("a/b", b"1")
        link.vanish()
        link.publish("a/b", b"2")
        link.start()
        assert events == [
            Connected(session_present=False),
            Message("a/b", b"1"),
            Disconnected("connection lost"),
            Connected(session_present=True),
            Message("a/b", b"2"),
        ]

    def test_an_answer_follows_what_it_answers(self) -> None:
        """A sink that publishes at once does not overtake the message for other subscribers."""
        broker, heard = MemoryBroker(), list[LinkEvent]()

        def answer(event: LinkEvent) -> None:
            if isinstance(event, Message) and event.topic == "question":
                hasty.publish("answer", event.payload)

        hasty = MemoryLink(broker, ["question"], answer)
        patient = MemoryLink(broker, ["question", "answer"], heard.append)
        hasty.start()
        patient.start()
        patient.publish("question", b"1")
        assert heard[1:] == [Message("question", b"1"), Message("answer", b"1")]

    def test_a_failing_sink_does_not_jam_the_broker(self) -> None:
        """The error reaches the publisher, and the next message is delivered again."""
        broker, heard = MemoryBroker(), list[LinkEvent]()

        def fail(event: LinkEvent) -> None:
            if event == Message("a", b"bad"):
                raise ValueError("bad")
            heard.append(event)

        link = MemoryLink(broker, ["a"], fail)
        link.start()
        with pytest.raises(ValueError, match="bad"):
            link.publish("a", b"bad")
        link.publish("a", b"good")
        assert heard[1:] == [Message("a", b"good")]

    def test_a_test_sets_the_backlog(self) -> None:
        """Nothing ever waits here, so that only a test can say that something does."""
        link = MemoryLink(MemoryBroker(), [], lambda _: None)
        assert link.backlog == 0
        link.backlog = 7
        assert link.backlog == 7
