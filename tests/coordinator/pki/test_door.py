# SPDX-License-Identifier: Apache-2.0
"""Who is heard: strangers a little, agents as always, and those who were revoked not at all."""

import pytest
from structlog.testing import capture_logs
from tests.coordinator.pki.kit import DAY, Box, Office

from fedmill_coordinator.counts import Counts
from fedmill_coordinator.pki.door import (
    COUNT,
    ENROLMENTS_AT_ONCE,
    FATES,
    LARGEST_ENROLMENT,
    RENEWALS_AT_ONCE,
    RENEWALS_OF_ONE_AT_ONCE,
    Door,
)
from fedmill_shared import topics
from fedmill_shared.crypto.codes import make_code
from fedmill_shared.errors import FrameError
from fedmill_shared.link.base import Message
from fedmill_shared.messages import (
    EnrolmentAnswer,
    RenewalAnswer,
    decode,
    encode,
)


class Post:
    """What was published."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes, bool]] = []

    def post(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Keep it."""
        self.sent.append((topic, payload, retain))


class Entrance:
    """A door, and what comes out of it."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.post = Post()
        self.counts = Counts()
        self.door = Door(
            office.register,
            office.desk,
            store=office.store,
            clock=office.clock,
            voice=self.post,
            counts=self.counts,
            log=office.log,
        )

    def say(self, topic: str, payload: bytes) -> bool:
        """A message arrives; whether the door dealt with it."""
        return self.door.take(Message(topic, payload))

    def enrol(self, box: Box) -> EnrolmentAnswer:
        """A box asks over the wire."""
        request = encode(box.request())
        assert self.say(topics.ENROL_UP, request)
        topic, payload, retain = self.post.sent.pop()
        assert (topic, retain) == (topics.enrol_down(request), False)
        return decode(payload, EnrolmentAnswer)

    def counted(self) -> dict[tuple[str, ...], int]:
        """What became of requests, by kind and fate."""
        return dict(self.counts.of(COUNT))

    def look(self, seconds: float = 1.0) -> frozenset[str]:
        """Time passes; who is denied since."""
        self.office.clock.advance(seconds)
        return self.door.step()


@pytest.fixture
def entrance(office: Office) -> Entrance:
    """A door that has looked once."""
    made = Entrance(office)
    made.door.step()
    return made


class TestStrangers:
    def test_find_the_authority(self, entrance: Entrance) -> None:
        """Retained, so that a box reads it before anything else."""
        entrance.door.greet()
        assert entrance.post.sent == [(topics.ENROL_CA, entrance.office.authority.pem, True)]

    def test_are_answered_where_they_listen(self, entrance: Entrance) -> None:
        """The whole way: bytes in, bytes out."""
        assert entrance.enrol(entrance.office.box()).state == "issued"
        stranger = Box("gw9", make_code(entrance.office.authority.fingerprint))
        assert entrance.enrol(stranger).state == "refused"
        assert entrance.counted() == {("enrolment", "issued"): 1, ("enrolment", "refused"): 1}
        assert {fate for _, fate in entrance.counted()} <= set(FATES)

    @pytest.mark.parametrize(
        ("topic", "payload"),
        [
            (topics.ENROL_UP, b""),
            (topics.ENROL_UP, b"\x80"),
            (topics.ENROL_UP, bytes(LARGEST_ENROLMENT + 1)),
            (f"{topics.ENROL_UP}/x", b""),
            (f"{topics.ENROL_UP}s", b""),
            ("fedmill/v1/all/up/renew", b""),
            ("fedmill/v1/gw7/up/renew", b"\x80"),
        ],
    )
    def test_say_what_is_no_message(self, entrance: Entrance, topic: str, payload: bytes) -> None:
        """Refused as any other; no answer, no harm."""
        with pytest.raises(FrameError):
            entrance.say(topic, payload)
        assert entrance.post.sent == []

    def test_in_a_flood(self, entrance: Entrance) -> None:
        """Most are dropped unread, with one line of log; a box that asks again is served."""
        stranger = Box("gw9", make_code(entrance.office.authority.fingerprint))
        payload = encode(stranger.request())
        with capture_logs() as logs:
            for _ in range(10 * ENROLMENTS_AT_ONCE):
                entrance.say(topics.ENROL_UP, payload)
        assert len(entrance.post.sent) == ENROLMENTS_AT_ONCE
        assert entrance.counted() == {
            ("enrolment", "refused"): ENROLMENTS_AT_ONCE,
            ("enrolment", "dropped"): 9 * ENROLMENTS_AT_ONCE,
        }
        dropped = [log for log in logs if log["event"] == "requests.dropped"]
        assert [(log["what"], log["messages"]) for log in dropped] == [("enrolment", 1)]
        entrance.office.clock.advance(1)
        assert entrance.enrol(entrance.office.box()).state == "issued"

    def test_what_the_broker_kept(self, entrance: Entrance) -> None:
        """Nobody waits for an answer to it: it is none of ours, and takes no room of others."""
        message = Message(topics.ENROL_UP, b"garbage", retained=True)
        for _ in range(2 * ENROLMENTS_AT_ONCE):
            assert entrance.door.take(message)
        assert entrance.post.sent == []
        assert entrance.enrol(entrance.office.box()).state == "issued"

    def test_garbage_counts_too(self, entrance: Entrance) -> None:
        """It is dropped before it is decoded."""
        for _ in range(ENROLMENTS_AT_ONCE):
            with pytest.raises(FrameError):
                entrance.say(topics.ENROL_UP, b"garbage")
        assert entrance.say(topics.ENROL_UP, b"garbage")


class TestAgents:
    def test_renew(self, entrance: Entrance) -> None:
        """On their own topics."""
        box, following = entrance.office.enrolled(), Box("gw7")
        entrance.office.clock.advance(60 * DAY)
        assert entrance.say(topics.up("gw7", "renew"), encode(box.renewal(following)))
        topic, payload, retain = entrance.post.sent.pop()
        assert (topic, retain) == (topics.down("gw7", "certificate"), False)
        assert decode(payload, RenewalAnswer).state == "issued"

    def test_say_everything_else_to_others(self, entrance: Entrance) -> None:
        """The door lets it pass unread, whoever it is, with a certificate or without."""
        assert not entrance.say(topics.up("gw7", "join"), b"anything")

    def test_that_renew_too_often(self, entrance: Entrance) -> None:
        """A loop that goes wild is not answered for ever, and keeps no other from renewing."""
        box, following = entrance.office.enrolled(), Box("gw7")
        payload = encode(box.renewal(following))
        with capture_logs() as logs:
            for _ in range(200):
                entrance.say(topics.up("gw7", "renew"), payload)
        assert len(entrance.post.sent) == RENEWALS_OF_ONE_AT_ONCE
        assert entrance.counted()["renewal", "pending"] == RENEWALS_OF_ONE_AT_ONCE
        assert entrance.counted()["renewal", "dropped"] == 200 - RENEWALS_OF_ONE_AT_ONCE
        dropped = [log for log in logs if log["event"] == "requests.dropped"]
        assert [(log["what"], log["agent"]) for log in dropped] == [("renewal", "gw7")]
        other = entrance.office.enrolled("gw8")
        entrance.say(topics.up("gw8", "renew"), encode(other.renewal(Box("gw8"))))
        assert entrance.post.sent[-1][0] == topics.down("gw8", "certificate")

    def test_that_renew_all_at_once(self, entrance: Entrance) -> None:
        """Of a thousand some are served at once, and the others ask again."""
        payload = encode(Box("x").renewal(Box("x")))
        for number in range(1000):
            entrance.say(topics.up(f"gw-{number}", "renew"), payload)
        assert len(entrance.post.sent) == RENEWALS_AT_ONCE


class TestDenied:
    def revoke(self, entrance: Entrance, agent: str = "gw7") -> None:
        """A command in another process."""
        now = entrance.office.clock.now_ns()
        entrance.office.store.revoke(agent, revoked_ns=now, reason="stolen")

    def test_are_not_heard(self, entrance: Entrance) -> None:
        """Within a second; nothing of it is decoded, and the log says so once a minute."""
        entrance.office.enrolled()
        self.revoke(entrance)
        assert not entrance.say(topics.up("gw7", "join"), b"before the next look")
        assert entrance.look() == {"gw7"}
        with capture_logs() as logs:
            for _ in range(100):
                assert entrance.say(topics.up("gw7", "update"), b"not even a message")
        denied = [log for log in logs if log["event"] == "agent.denied"]
        assert [(log["agent"], log["messages"]) for log in denied] == [("gw7", 1)]
        assert not entrance.say(topics.up("gw8", "join"), b"another agent")
        assert entrance.post.sent == []

    def test_cannot_renew(self, entrance: Entrance) -> None:
        """Not even that is answered."""
        box = entrance.office.enrolled()
        self.revoke(entrance)
        entrance.look()
        entrance.say(topics.up("gw7", "renew"), encode(box.renewal(Box("gw7"))))
        assert entrance.post.sent == []

    def test_come_back_with_a_new_code(self, entrance: Entrance) -> None:
        """The gateway was found, and enrolled again with another key."""
        entrance.office.enrolled()
        self.revoke(entrance)
        assert entrance.look() == {"gw7"}
        assert entrance.look() == frozenset()
        assert entrance.enrol(entrance.office.box()).state == "issued"
        entrance.look()
        assert entrance.door.denied == frozenset()
        assert not entrance.say(topics.up("gw7", "join"), b"")

    def test_are_told_anew_after_a_restart(self, entrance: Entrance) -> None:
        """Whatever was left undone is done then."""
        entrance.office.enrolled()
        self.revoke(entrance)
        entrance.look()
        assert Entrance(entrance.office).door.step() == {"gw7"}

    def test_though_the_list_cannot_be_written(self, entrance: Entrance) -> None:
        """Whoever is denied is told once, and the list is tried again at every look."""
        entrance.office.enrolled()
        self.revoke(entrance)
        entrance.office.crl.unlink()
        entrance.office.crl.mkdir()
        with capture_logs() as logs:
            assert entrance.look() == {"gw7"}
            assert entrance.look() == frozenset()
        assert [log["event"] for log in logs] == ["store.failed", "store.failed"]
        assert "crl.pem" in logs[0]["error"]
        entrance.office.crl.rmdir()
        entrance.look()
        assert entrance.office.crl.is_file()

    def test_are_on_the_list_for_the_broker(self, entrance: Entrance) -> None:
        """It is written by the same look."""
        entrance.office.enrolled()
        before = entrance.office.crl.read_bytes()
        self.revoke(entrance)
        with capture_logs() as logs:
            entrance.look()
        assert entrance.office.crl.read_bytes() != before
        assert [log["event"] for log in logs] == ["revocations.written"]
