# SPDX-License-Identifier: Apache-2.0
"""How a box becomes an agent: with a code that an operator carried to it.

The key is made on the box and stays there. The code is never sent and never written down: what is
sent is a signature that only who knows the code can make, over a request that only the box's key
can answer. Whoever interrupts this and begins again goes on with the same key.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from fedmill_agent.identity import operations
from fedmill_agent.identity.facts import Facts
from fedmill_agent.identity.folder import IdentityFolder
from fedmill_agent.identity.listener import Listener, unverified, verified
from fedmill_shared import __version__, topics
from fedmill_shared.clock import Clock
from fedmill_shared.crypto.certificates import check_validity, read_certificate
from fedmill_shared.crypto.codes import EnrolmentCode, prove
from fedmill_shared.crypto.validity import Validity
from fedmill_shared.errors import BrokerError, IdentityError
from fedmill_shared.files import sha256
from fedmill_shared.link.base import Message
from fedmill_shared.link.plant import PlantLink
from fedmill_shared.messages import EnrolmentAnswer, EnrolmentRequest, decode, encode

AUTHORITY_SECONDS = 10.0
"""How long the listener may take to show the authority."""
AGAIN_SECONDS, LEAST_SECONDS, MOST_SECONDS = 15.0, 1.0, 60.0
"""How long an answer is waited for before asking again, and what a coordinator may say of it."""
TURN_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Box:
    """Who asks, and how.

    ``say`` tells a person how far it is, ``pause`` waits for so many seconds.
    """

    agent: str
    code: EnrolmentCode
    folder: IdentityFolder
    clock: Clock
    say: Callable[[str], None]
    pause: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True)
class Authority:
    """The plant's authority, which the code names, and the times of the broker's certificate."""

    pem: bytes
    shown: Validity | None


def enrol(box: Box, listener: Listener, seconds: float) -> Facts:
    """Get the certificate that the code stands for, within so many ``seconds``.

    Raises:
        BrokerError: the listener cannot be reached, or the coordinator does not answer.
        IdentityError: the authority is not the one that the code names, the coordinator refuses,
            nobody accepted in time, or a clock is wrong.
        StoreError: the identity cannot be written.
    """
    deadline = box.clock.monotonic() + seconds
    authority = find_authority(box, listener)
    asked = operations.request(box.folder, box.agent)
    box.say(f"key {asked.key} {'was made' if asked.made else 'waits'} on this machine")
    message = EnrolmentRequest(
        agent=box.agent,
        csr=asked.pem,
        proof=prove(box.code, box.agent, asked.pem),
        software=__version__,
    )
    number = sha256(asked.pem)[:16]
    answer = _Conversation(box, listener, encode(message), number, deadline).run(authority)
    now_ns = box.clock.now_ns()
    facts, _ = operations.install(box.folder, box.agent, answer.certificate, authority.pem, now_ns)
    return facts


def find_authority(box: Box, listener: Listener) -> Authority:
    """What the listener shows as the plant's authority, if the code names it.

    Raises:
        BrokerError: there is no listener, or it shows none.
        IdentityError: it is another one, or this machine's clock is outside of its time.
    """
    with unverified(listener, topics.ENROL_CA) as (link, shown):
        pem = _first(link, box.clock, AUTHORITY_SECONDS)
    if pem is None:
        raise BrokerError(
            f"broker {listener.address}: shows no authority to enrol with",
            remedy="start the coordinator with [pki], and look whether enrol_port is right",
        )
    found = read_certificate(pem)
    if not box.code.fits(found.fingerprint):
        raise IdentityError(
            f"broker {listener.address}: its authority is not the one that printed this code "
            f"(SHA-256 {found.fingerprint}): somebody else may answer there; nothing was sent",
            remedy="compare host with that of the plant, or ask there for another code",
        )
    check_validity(found, box.clock.now_ns())
    return Authority(pem, shown)


def _first(link: PlantLink, clock: Clock, seconds: float) -> bytes | None:
    deadline = clock.monotonic() + seconds
    while clock.monotonic() < deadline:
        for message in link.read(TURN_SECONDS):
            return message.payload
    return None


class _Conversation:
    """Asks until there is a last word; connections may be lost meanwhile.

    The listener has room for one box at a time, and the next one takes its place: whoever has to
    wait for a person gives it free.
    """

    def __init__(
        self, box: Box, listener: Listener, request: bytes, number: str, deadline: float
    ) -> None:
        """``number`` is the name of the request that the coordinator shows to people."""
        self._box = box
        self._listener = listener
        self._request = request
        self._number = number
        self._deadline = deadline
        self._told = ""
        self._pending = False

    def run(self, authority: Authority) -> EnrolmentAnswer:
        """The certificate.

        Raises:
            BrokerError, IdentityError: there is none.
        """
        topic = topics.enrol_down(self._request)
        clock, first = self._box.clock, True
        while True:
            try:
                with verified(self._listener, authority.pem, topic, clock, authority.shown) as link:
                    first = False
                    answer = self._ask(link)
                if answer.state == "issued":
                    return answer
                self._wait(answer.retry_after)
            except BrokerError as error:
                if first or clock.monotonic() >= self._deadline:
                    raise
                self._tell(f"{error.message}: connecting again")
                self._box.pause(LEAST_SECONDS)

    def _wait(self, seconds: float) -> None:
        wait = min(max(seconds, LEAST_SECONDS), MOST_SECONDS)
        self._box.pause(max(0.0, min(wait, self._deadline - self._box.clock.monotonic())))

    def _ask(self, link: PlantLink) -> EnrolmentAnswer:
        """What the coordinator answers, for which it is asked again and again."""
        clock, due = self._box.clock, -inf
        while clock.monotonic() < self._deadline:
            if clock.monotonic() >= due:
                link.publish(topics.ENROL_UP, self._request, qos=1)
                due = clock.monotonic() + AGAIN_SECONDS
            for message in link.read(TURN_SECONDS):
                return self._heard(message)
        raise self._late()

    def _heard(self, message: Message) -> EnrolmentAnswer:
        answer = decode(message.payload, EnrolmentAnswer)
        if answer.state == "refused":
            raise IdentityError(
                f"the coordinator refuses: {answer.reason}",
                remedy="look whether the code was made for this agent.id; `fedmill enrol new` "
                "there prints another one",
            )
        if answer.state == "pending":
            self._pending = True
            self._tell(f"waiting for {self._box.agent}, request {self._number}: {answer.reason}")
        return answer

    def _late(self) -> IdentityError | BrokerError:
        if self._pending:
            return IdentityError(
                f"nobody has accepted {self._box.agent}, request {self._number}, yet",
                remedy="have it accepted at the coordinator, and run this again with the same code",
            )
        return BrokerError(
            f"broker {self._listener.address}: the coordinator does not answer",
            remedy="start it with [pki], and run this again with the same code",
        )

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._box.say(text)
