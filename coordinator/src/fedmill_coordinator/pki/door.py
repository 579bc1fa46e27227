# SPDX-License-Identifier: Apache-2.0
"""Who is heard at all: boxes that ask for a certificate may, revoked agents may not.

What strangers and the denied send is counted and told seldom, and never decoded further than it
must be.
"""

from typing import Protocol

from fedmill_coordinator.counts import Counts
from fedmill_coordinator.pki.desk import IdentityDesk
from fedmill_coordinator.pki.limits import Bucket, Seldom
from fedmill_coordinator.pki.register import Register
from fedmill_coordinator.store.base import Store
from fedmill_shared import topics
from fedmill_shared.clock import Clock
from fedmill_shared.errors import FrameError, StoreError
from fedmill_shared.link.base import Message
from fedmill_shared.log import Logger
from fedmill_shared.messages import EnrolmentRequest, RenewalRequest, decode, encode

LOOK_SECONDS = 1.0
"""How often the store is asked for who was revoked, by whatever process."""
ENROLMENTS_PER_SECOND, ENROLMENTS_AT_ONCE = 5.0, 20
RENEWALS_PER_SECOND, RENEWALS_AT_ONCE = 10.0, 50
RENEWALS_OF_ONE_PER_SECOND, RENEWALS_OF_ONE_AT_ONCE = 0.1, 5
"""Of one agent: who goes wild, or is in other hands, keeps no other from its next certificate."""
MOST_AGENTS = 10_000
"""Agents whose renewals are counted one by one; with more the count begins anew."""
LARGEST_ENROLMENT = 8192
"""Bytes of the largest request of a stranger that is decoded; ours have under 700."""
RENEW = "renew"
COUNT = "certificate_requests"
ENROLMENT, RENEWAL = "enrolment", "renewal"
DROPPED = "dropped"
FATES = ("issued", "pending", "refused", DROPPED)
"""What becomes of a request; where answers are lost, one box is counted several times."""


class Post(Protocol):
    """Publishes what is for no job."""

    def post(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish ``payload``; what cannot be sent now is asked for again."""
        ...


class Door:
    """Owns who is denied, and how much is heard of those who are nobody yet."""

    def __init__(
        self,
        register: Register,
        desk: IdentityDesk,
        *,
        store: Store,
        clock: Clock,
        voice: Post,
        counts: Counts,
        log: Logger,
    ) -> None:
        """Nobody is denied before the first `step`; what becomes of requests is in ``counts``."""
        self._register = register
        self._desk = desk
        self._store = store
        self._clock = clock
        self._voice = voice
        self._counts = counts
        self._log = log
        self._seldom = Seldom(clock)
        self._enrolments = Bucket(clock, rate=ENROLMENTS_PER_SECOND, burst=ENROLMENTS_AT_ONCE)
        self._renewals = Bucket(clock, rate=RENEWALS_PER_SECOND, burst=RENEWALS_AT_ONCE)
        self._renewals_of: dict[str, Bucket] = {}
        self._denied: frozenset[str] = frozenset()
        self._due = 0.0

    @property
    def denied(self) -> frozenset[str]:
        """Agents that are not heard: all their certificates are revoked."""
        return self._denied

    def greet(self) -> None:
        """The broker is there: let boxes find the authority's certificate."""
        self._voice.post(topics.ENROL_CA, self._register.authority.pem, retain=True)

    def step(self) -> frozenset[str]:
        """Look who was revoked, if the last look is long ago; who is denied since this one.

        A list for the broker that cannot be written is told, and tried again at the next look.

        Raises:
            StoreError: the disk fails; what was known stays.
        """
        now = self._clock.monotonic()
        if now < self._due:
            return frozenset()
        self._due = now + LOOK_SECONDS
        before, self._denied = self._denied, frozenset(self._store.denied())
        self._keep_list()
        return self._denied - before

    def take(self, message: Message) -> bool:
        """Deal with ``message`` if it is about certificates or of somebody denied; whether it was.

        Raises:
            FrameError: it is no message of ours.
            StoreError: the disk fails; its sender asks again.
        """
        if message.topic == topics.ENROL_UP:
            if not message.retained:  # a box that waits asks again; what was kept is nobody's
                self._enrol(message)
            return True
        agent, kind = topics.parse_up(message.topic)
        if agent in self._denied:
            self._turn_away(agent, len(message.payload))
            return True
        if kind != RENEW:
            return False
        self._renew(agent, message)
        return True

    def _keep_list(self) -> None:
        try:
            revoked = self._register.keep_list()
        except StoreError as error:  # who is denied is carried out all the same
            self._log.error("store.failed", error=str(error))
            return
        if revoked is not None:
            self._log.info("revocations.written", certificates=revoked)

    def _enrol(self, message: Message) -> None:
        if not self._enrolments.take():
            self._flooded(ENROLMENT)
            return
        if len(message.payload) > LARGEST_ENROLMENT:
            raise FrameError(f"a request of {len(message.payload)} bytes to enrol")
        answer = self._desk.enrol(decode(message.payload, EnrolmentRequest))
        self._counts.add(COUNT, ENROLMENT, answer.state)
        self._voice.post(topics.enrol_down(message.payload), encode(answer))

    def _renew(self, agent: str, message: Message) -> None:
        if not self._own_renewals(agent).take():
            self._flooded(RENEWAL, agent)
            return
        if not self._renewals.take():
            self._flooded(RENEWAL)
            return
        answer = self._desk.renew(agent, decode(message.payload, RenewalRequest))
        self._counts.add(COUNT, RENEWAL, answer.state)
        self._voice.post(topics.down(agent, "certificate"), encode(answer))

    def _own_renewals(self, agent: str) -> Bucket:
        if agent not in self._renewals_of:
            if len(self._renewals_of) >= MOST_AGENTS:
                self._renewals_of.clear()
            rate, burst = RENEWALS_OF_ONE_PER_SECOND, RENEWALS_OF_ONE_AT_ONCE
            self._renewals_of[agent] = Bucket(self._clock, rate=rate, burst=burst)
        return self._renewals_of[agent]

    def _turn_away(self, agent: str, size: int) -> None:
        self._seldom.tell(
            agent,
            lambda count: self._log.warning(
                "agent.denied", agent=agent, messages=count, bytes=size
            ),
        )

    def _flooded(self, what: str, agent: str = "") -> None:
        """Most are dropped; ``agent`` is whose they are, where one alone sends too many."""
        self._counts.add(COUNT, what, DROPPED)
        whose = {"agent": agent} if agent else {}
        self._seldom.tell(
            f"{agent}/{what}",
            lambda count: self._log.warning("requests.dropped", what=what, messages=count, **whose),
        )
