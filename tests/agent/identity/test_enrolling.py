# SPDX-License-Identifier: Apache-2.0
"""A box enrols: what it says to whom, and what it says to people when it may not."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.pki import DAY, Authority, now

from fedmill_agent.identity import enrolling
from fedmill_agent.identity.enrolling import Box, enrol
from fedmill_agent.identity.folder import CA, KEY, IdentityFolder
from fedmill_agent.identity.listener import Listener
from fedmill_shared import topics
from fedmill_shared.clock import ManualClock
from fedmill_shared.crypto.certificates import read_certificate, read_request
from fedmill_shared.crypto.codes import EnrolmentCode, check_proof, make_code
from fedmill_shared.crypto.keys import read_key
from fedmill_shared.errors import BrokerError, FedmillError, IdentityError
from fedmill_shared.link.base import Message
from fedmill_shared.messages import EnrolmentAnswer, EnrolmentRequest, decode, encode

AGENT = "press-4"
LISTENER = Listener("plant", 8884, "plant")
PLANT = Authority()

Answer = Callable[[EnrolmentRequest], EnrolmentAnswer | FedmillError | None]


class Wire:
    """Stands in for broker and coordinator; ``answers`` are given one for each request."""

    def __init__(self, box: Box, answers: list[Answer], ca: bytes | None = PLANT.pem) -> None:
        self.box = box
        self.answers = answers
        self.ca = ca
        self.requests: list[EnrolmentRequest] = []
        self.connections = 0
        self.connected = False
        self.answered_at = ""
        self._came: list[Message] = []

    @contextmanager
    def unverified(self, _listener: Listener, topic: str) -> Iterator[Any]:
        """Shows the authority."""
        assert topic == topics.ENROL_CA
        self._came = [Message(topic, self.ca, retained=True)] if self.ca is not None else []
        yield self, None

    @contextmanager
    def verified(self, _: Listener, ca: bytes, topic: str, *__: object) -> Iterator[Any]:
        """A connection for the conversation."""
        assert ca == self.ca
        self.answered_at = topic
        self.connections += 1
        self._came = []
        self.connected = True
        try:
            yield self
        finally:
            self.connected = False

    def publish(self, topic: str, payload: bytes, *, qos: int) -> None:
        """Take a request, and answer as it was decided."""
        assert (topic, qos) == (topics.ENROL_UP, 1)
        assert self.answered_at == topics.enrol_down(payload)
        request = decode(payload, EnrolmentRequest)
        self.requests.append(request)
        answer = self.answers.pop(0)(request) if self.answers else None
        if isinstance(answer, FedmillError):
            raise answer
        if answer is not None:
            self._came.append(Message(topics.enrol_down(payload), encode(answer)))

    def read(self, timeout: float) -> list[Message]:
        """What came; waiting takes time."""
        came, self._came = self._came, []
        if not came:
            assert isinstance(self.box.clock, ManualClock)
            self.box.clock.advance(timeout)
        return came


@pytest.fixture
def box(tmp_path: Path) -> Box:
    """A box with a good code."""
    start = int(now().timestamp()) * 10**9
    clock = ManualClock(start)
    code = make_code(read_certificate(PLANT.pem).fingerprint)
    said: list[str] = []
    folder = IdentityFolder(tmp_path / "identity")
    return Box(AGENT, code, folder, clock, said.append, clock.advance)


def said(box: Box) -> list[str]:
    """What a person was told."""
    found: list[str] = box.say.__self__  # type: ignore[attr-defined]
    return found


@pytest.fixture
def wire(box: Box, monkeypatch: pytest.MonkeyPatch) -> Wire:
    """A plant that issues at once."""
    made = Wire(box, [issue(box)])
    monkeypatch.setattr(enrolling, "unverified", made.unverified)
    monkeypatch.setattr(enrolling, "verified", made.verified)
    return made


def issue(box: Box, plant: Authority = PLANT, **fields: Any) -> Answer:
    """A coordinator that issues what is asked for."""

    def answer(request: EnrolmentRequest) -> EnrolmentAnswer:
        agent, _ = read_request(request.csr)
        key = read_key(box.folder.next / KEY)
        issued = plant.issue(agent, key=key, **fields)
        return EnrolmentAnswer(state="issued", certificate=issued.pem, ca=plant.pem)

    return answer


def tell(state: str, **fields: Any) -> Answer:
    """A coordinator that says something else."""
    return lambda _: EnrolmentAnswer(state=state, **fields)  # type: ignore[arg-type]


class TestGood:
    def test_at_once(self, box: Box, wire: Wire) -> None:
        """The request is bound to agent, key and code; the code itself is not in it."""
        facts = enrol(box, LISTENER, 60.0)
        assert box.folder.facts() == facts
        assert facts.agent == AGENT
        assert (box.folder.path / CA).read_bytes() == PLANT.pem
        [request] = wire.requests
        check_proof(box.code.proof_key(), AGENT, request.csr, request.proof)
        sent = encode(request)
        assert box.code.secret not in sent
        assert str(box.code).encode() not in sent
        assert said(box)[0].endswith("was made on this machine")

    def test_nothing_of_the_code_stays(self, box: Box, wire: Wire) -> None:
        """On the disk of the box."""
        enrol(box, LISTENER, 60.0)
        written = [path.read_bytes() for path in box.folder.path.rglob("*") if path.is_file()]
        assert not any(
            box.code.secret in each or str(box.code).encode() in each for each in written
        )

    def test_somebody_accepts(self, box: Box, wire: Wire) -> None:
        """It waits, tells once under which number, and asks with the same bytes."""
        wait = tell("pending", reason="until somebody accepts it", retry_after=10.0)
        wire.answers[:0] = [wait] * 3
        enrol(box, LISTENER, 60.0)
        assert len({encode(each) for each in wire.requests}) == 1
        [told] = [each for each in said(box) if "waiting" in each]
        assert told.endswith("until somebody accepts it")
        assert AGENT in told

    def test_others_enrol_meanwhile(self, box: Box, wire: Wire) -> None:
        """Who waits for a person is not connected: the listener has room for one box at a time."""
        wire.answers[:0] = [tell("pending", reason="wait", retry_after=10.0)] * 3
        waited: list[tuple[float, bool]] = []

        def pause(seconds: float) -> None:
            waited.append((seconds, wire.connected))
            box.pause(seconds)

        enrol(replace(box, pause=pause), LISTENER, 60.0)
        assert waited == [(10.0, False)] * 3
        assert (wire.connections, len(wire.requests)) == (4, 4)

    def test_interrupted(self, box: Box, wire: Wire) -> None:
        """Beginning again, after whatever, sends the same request; the key stays what it was."""
        wire.answers[:0] = [tell("pending", reason="wait")] * 9
        with pytest.raises(IdentityError, match="nobody has accepted press-4"):
            enrol(box, LISTENER, 5.0)
        assert box.folder.number == 0
        wire.answers[:] = [issue(box)]
        enrol(box, LISTENER, 5.0)
        assert len({encode(each) for each in wire.requests}) == 1
        assert said(box)[-1].endswith("waits on this machine")

    def test_the_coordinator_is_away(self, box: Box, wire: Wire) -> None:
        """It is asked again, also over a new connection."""
        lost = BrokerError("connection lost")
        wire.answers[:0] = [lambda _: None, lambda _: lost]
        enrol(box, LISTENER, 60.0)
        assert wire.connections == 2
        assert len(wire.requests) == 3

    def test_enrolling_again(self, box: Box, wire: Wire) -> None:
        """A new code brings a new key; the old one is gone."""
        first = enrol(box, LISTENER, 60.0)
        wire.answers.append(issue(box))
        second = enrol(box, LISTENER, 60.0)
        assert first.key != second.key
        assert box.folder.facts() == second


class TestRefused:
    def test_somebody_else_answers(self, box: Box, wire: Wire) -> None:
        """A man in the middle has another authority: nothing is sent to him, not even a request."""
        wire.ca = Authority().pem
        with pytest.raises(IdentityError, match="somebody else may answer there; nothing was sent"):
            enrol(box, LISTENER, 60.0)
        assert wire.connections == 0
        assert not box.folder.path.exists()

    def test_he_shows_the_right_authority_and_issues_of_another(self, box: Box, wire: Wire) -> None:
        """What is issued must be of the authority that the code names."""
        wire.answers[:] = [issue(box, Authority())]
        with pytest.raises(IdentityError, match="not issued by the authority"):
            enrol(box, LISTENER, 60.0)
        assert box.folder.number == 0

    def test_no_authority(self, box: Box, wire: Wire) -> None:
        """A broker without a coordinator that enrols."""
        wire.ca = None
        with pytest.raises(BrokerError, match=r"plant:8884: shows no authority .*\[pki\]"):
            enrol(box, LISTENER, 60.0)

    def test_garbage_for_an_authority(self, box: Box, wire: Wire) -> None:
        """Is told as such."""
        wire.ca = b"nothing"
        with pytest.raises(IdentityError, match="no certificate"):
            enrol(box, LISTENER, 60.0)

    def test_a_bad_code(self, box: Box, wire: Wire) -> None:
        """The coordinator's words, and what to do."""
        wire.answers[:] = [tell("refused", reason="the code has run out")]
        with pytest.raises(IdentityError) as caught:
            enrol(box, LISTENER, 60.0)
        assert caught.value.message == "the coordinator refuses: the code has run out"
        assert "fedmill enrol new" in caught.value.remedy
        assert "agent.id" in caught.value.remedy

    def test_nobody_answers(self, box: Box, wire: Wire) -> None:
        """The broker is there, the coordinator is not."""
        wire.answers[:] = []
        with pytest.raises(BrokerError, match="the coordinator does not answer"):
            enrol(box, LISTENER, 40.0)
        assert len(wire.requests) == 3

    def test_the_broker_stays_away(self, box: Box, wire: Wire) -> None:
        """After it was there once; it is not tried for ever."""
        lost = BrokerError("connection lost")
        wire.answers[:] = [lambda _: lost] * 99
        with pytest.raises(BrokerError, match=r"connection lost|does not answer"):
            enrol(box, LISTENER, 10.0)
        assert 5 < wire.connections < 15

    def test_a_clock_of_2019(self, box: Box, wire: Wire) -> None:
        """The sentence that a person understands, before anything is sent."""
        clock = ManualClock(1_555_200_000 * 10**9)
        wire.box = Box(AGENT, box.code, box.folder, clock, box.say, clock.advance)
        with pytest.raises(IdentityError) as caught:
            enrol(wire.box, LISTENER, 60.0)
        assert "this machine's clock says 2019-04-14 00:00 UTC" in caught.value.message
        assert "set the clock" in caught.value.remedy
        assert wire.connections == 0

    def test_a_clock_that_is_a_day_behind(self, box: Box, wire: Wire) -> None:
        """The authority is years old, the certificate is not valid yet: the clock is named.

        Once it is set, the same code gives the same certificate.
        """
        wire.answers[:] = [issue(box, begin=now() + DAY)]
        with pytest.raises(IdentityError, match="this machine's clock says"):
            enrol(box, LISTENER, 60.0)
        assert box.folder.number == 0
        wire.answers.append(issue(box))
        enrol(box, LISTENER, 60.0)

    def test_a_code_of_another_plant(self, box: Box, wire: Wire) -> None:
        """Its pin names another authority."""
        code = EnrolmentCode(box.code.secret, bytes(16))
        other = Box(AGENT, code, box.folder, box.clock, box.say, box.pause)
        with pytest.raises(IdentityError, match="is not the one that printed this code"):
            enrol(other, LISTENER, 60.0)
