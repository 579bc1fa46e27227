# SPDX-License-Identifier: Apache-2.0
"""What a broker lets us do is found out by doing it."""

from itertools import count

import pytest
from tests.agent.kit import Journal

from fedmill_shared.errors import BrokerError
from fedmill_shared.link.base import Done, Link, Rejection
from fedmill_shared.link.memory import MemoryBroker, MemoryLink
from fedmill_shared.link.rights import Rights, RightsTold

OWN, FOREIGN = "fedmill/v1/gw-1/up/echo", "fedmill/v1/_nobody/up/echo"


class Rig:
    """A link to a broker in memory, and what is tried over it."""

    def __init__(self, *forbidden: str) -> None:
        self.broker = MemoryBroker()
        self.broker.forbidden = list(forbidden)
        self.link: Link = MemoryLink(self.broker, [], lambda _: None)
        self.journal = Journal()
        numbers = count()
        self.rights = Rights(OWN, FOREIGN, self.journal, lambda: b"nonce %d" % next(numbers))

    def test(self) -> RightsTold:
        """Try both topics."""
        self.rights.test(self.link, bytes)
        return self.rights.told


class Slow:
    """A link whose broker takes its time."""

    def __init__(self) -> None:
        self.waiting: list[Done] = []

    def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, done: Done | None = None
    ) -> None:
        """Nobody answers yet."""
        assert done is not None
        self.waiting.append(done)


class TestRights:
    def test_as_it_should_be(self) -> None:
        """Ours is taken, what is nobody's is not."""
        rig = Rig(FOREIGN)
        assert rig.test() == RightsTold(own="granted", foreign="refused")
        assert rig.rights.told.trouble == ""
        assert [event for event, _ in rig.journal.entries] == ["broker.tested"]

    def test_an_open_broker(self) -> None:
        """It takes everything from everybody: an error, with what to do."""
        rig = Rig()
        assert rig.test().foreign == "granted"
        assert "open" in rig.rights.told.trouble
        [told] = rig.journal.of("broker.open")
        assert told["topic"] == FOREIGN
        assert "acl_file" in str(told["remedy"])

    def test_a_closed_broker(self) -> None:
        """It takes nothing from us."""
        rig = Rig("fedmill/#")
        assert rig.test() == RightsTold(own="refused", foreign="refused")
        assert "our own topics" in rig.rights.told.trouble
        [told] = rig.journal.of("broker.closed")
        assert told["topic"] == OWN

    def test_the_other_side_answers(self) -> None:
        """With the word of this connection, and no other."""
        rig = Rig(FOREIGN)
        rig.test()
        rig.rights.answer(b"nonce 1")
        assert not rig.rights.told.echoed
        rig.rights.answer(b"nonce 0")
        assert rig.rights.told == RightsTold(own="granted", foreign="refused", echoed=True)

    def test_each_connection_begins_anew(self) -> None:
        """What another broker let us do says nothing of this one."""
        rig = Rig(FOREIGN)
        rig.test()
        rig.rights.answer(b"nonce 0")
        rig.broker.forbidden = []
        assert rig.test() == RightsTold(own="granted", foreign="granted")
        rig.rights.answer(b"nonce 0")
        assert not rig.rights.told.echoed

    def test_late_answers_of_the_connection_before(self) -> None:
        """They are of no interest any more."""
        rig, slow = Rig(FOREIGN), Slow()
        rig.link = slow  # type: ignore[assignment]
        rig.test()
        rig.test()
        for done in slow.waiting[:2]:
            done(None)
        assert rig.rights.told == RightsTold()
        assert rig.journal.of("broker.open") == []
        slow.waiting[3](Rejection(FOREIGN, "Not authorized", "none"))
        assert rig.rights.told == RightsTold(foreign="refused")

    def test_a_queue_that_is_full(self) -> None:
        """Nothing is known, and nothing breaks."""
        rig = Rig()

        class Full(Slow):
            def publish(
                self, topic: str, payload: bytes, *, retain: bool = False, done: Done | None = None
            ) -> None:
                raise BrokerError("4096 messages already wait")

        rig.link = Full()  # type: ignore[assignment]
        assert rig.test() == RightsTold()

    @pytest.mark.parametrize(
        ("told", "begins", "remedy"),
        [
            (RightsTold(), "", ""),
            (RightsTold(own="granted", foreign="refused"), "", ""),
            (RightsTold(own="refused", foreign="granted"), "the broker is open", "everything"),
            (RightsTold(own="refused"), "the broker refuses us", "below its own name"),
        ],
    )
    def test_in_words(self, told: RightsTold, begins: str, remedy: str) -> None:
        """The worse first; who is refused is not sent to shut the broker."""
        assert told.trouble.startswith(begins)
        assert bool(told.trouble) == bool(begins) == bool(told.remedy)
        assert remedy in told.remedy
