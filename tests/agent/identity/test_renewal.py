# SPDX-License-Identifier: Apache-2.0
"""A certificate is renewed at two thirds of its life, patiently and by nobody's insistence."""

import pytest
from tests.agent.identity.scenarios import facts
from tests.agent.identity.stand import DAY, Hands, Later
from tests.agent.kit import Journal

from fedmill_agent.identity.renewal import ANSWER_SECONDS, LONGEST_SECONDS, Renewal
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import IdentityError
from fedmill_shared.messages import RenewalAnswer

START = 1_700_000_000 * 10**9
LIFE = 90 * DAY


class Stand:
    """A renewal whose clock stands at the beginning of its certificate."""

    def __init__(self, life: float = LIFE) -> None:
        self.clock, self.journal, self.later, self.hands = (
            ManualClock(START),
            Journal(),
            Later(),
            Hands(facts("3")),
        )
        self.sent: list[bytes] = []
        end = START + round(life * 1e9)
        self.facts = facts("2", not_before_ns=START, not_after_ns=end)
        self.renewal = Renewal(
            self.hands,
            self.sent.append,
            self.later,  # type: ignore[arg-type]
            clock=self.clock,
            log=self.journal,
            jitter=lambda longest: longest,
        )

    def turn(self, seconds: float = 0.0, *, connected: bool = True) -> list[bytes]:
        """Let time pass, then turn and work; what was sent by that."""
        before = len(self.sent)
        self.clock.advance(seconds)
        self.renewal.tick(self.facts, connected=connected)
        self.later.work()
        return self.sent[before:]

    def hear(self, state: str, **fields: object) -> None:
        """The coordinator answers."""
        self.renewal.hear(RenewalAnswer(state=state, **fields))  # type: ignore[arg-type]

    def failures(self) -> list[float]:
        """After how many seconds it wanted to try again, of each failure."""
        return [each["retry_seconds"] for each in self.journal.of("certificate.renewal_failed")]


@pytest.fixture
def stand() -> Stand:
    """One that is due now."""
    made = Stand()
    made.clock.advance(65 * DAY)
    return made


class TestAsking:
    def test_not_before_it_is_due(self) -> None:
        """At two thirds, and where the broker has the agent."""
        stand = Stand()
        assert stand.turn(59 * DAY) == []
        assert stand.turn(6 * DAY, connected=False) == []
        assert stand.turn() == [b"request 1"]

    def test_without_a_certificate(self, stand: Stand) -> None:
        """There is nothing to renew."""
        stand.renewal.tick(None, connected=True)
        assert not stand.later.waiting

    def test_once(self, stand: Stand) -> None:
        """While a request is made, an answer awaited or a certificate checked, none is asked."""
        stand.renewal.tick(stand.facts, connected=True)
        stand.renewal.tick(stand.facts, connected=True)
        assert len(stand.later.waiting) == 1
        stand.later.work()
        assert stand.turn(ANSWER_SECONDS / 2) == []
        stand.hear("issued", certificate=b"new")
        stand.renewal.tick(stand.facts, connected=True)
        assert len(stand.later.waiting) == 1

    def test_a_certificate_comes(self, stand: Stand) -> None:
        """It is handed to who can check it, and told."""
        stand.turn()
        stand.hear("issued", certificate=b"new")
        stand.later.work()
        assert stand.hands.certificates == [b"new"]
        assert stand.journal.of("certificate.renewed") == [{"serial": "3"}]
        stand.facts = facts("3", not_before_ns=stand.clock.now_ns(), not_after_ns=2 * START)
        assert stand.turn(DAY) == []


class TestTrouble:
    def test_nobody_answers(self, stand: Stand) -> None:
        """It is asked again after longer and longer times, up to a quarter of a day."""
        for _ in range(12):
            stand.turn()
            stand.turn(ANSWER_SECONDS)
            stand.clock.advance(stand.failures()[-1])
        assert stand.failures()[:4] == [60, 120, 240, 480]
        assert stand.failures()[-1] == LONGEST_SECONDS
        assert stand.hands.asked == 12
        told = stand.journal.of("certificate.renewal_failed")[0]["error"]
        assert "does not answer" in told

    def test_refused(self, stand: Stand) -> None:
        """The coordinator's reason is told; it is asked again later, not at once."""
        stand.turn()
        stand.hear("refused", reason="agent press-4 is revoked")
        told = stand.journal.of("certificate.renewal_failed")[0]["error"]
        assert "the coordinator refuses: agent press-4 is revoked" in told
        assert stand.turn(59) == []
        assert stand.turn(2) == [b"request 2"]

    @pytest.mark.parametrize(("asked", "waited"), [(300.0, 300), (1e300, LONGEST_SECONDS)])
    def test_too_many_ask(self, stand: Stand, asked: float, waited: float) -> None:
        """It is asked again when the coordinator says; that is no failure, and never too late."""
        stand.turn()
        stand.hear("pending", reason="too early", retry_after=asked)
        [told] = stand.journal.of("certificate.renewal_deferred")
        assert told == {"reason": "too early", "retry_seconds": waited}
        assert stand.turn(waited - 1) == []
        assert stand.turn(2) == [b"request 2"]
        assert stand.failures() == []

    def test_a_certificate_of_no_use(self, stand: Stand) -> None:
        """Is told, and another asked for."""
        stand.turn()
        stand.hands.error = IdentityError("it is for another key")
        stand.hear("issued", certificate=b"new")
        stand.later.work()
        assert stand.failures() == [60]
        stand.hands.error = None
        assert stand.turn(61) == [b"request 2"]

    def test_a_request_that_cannot_be_made(self, stand: Stand) -> None:
        """As on a full disk: told, and tried again."""
        stand.hands.error = IdentityError("no")
        assert stand.turn() == []
        stand.hands.error = None
        assert stand.turn(61) == [b"request 2"]

    def test_nobody_insists(self, stand: Stand) -> None:
        """Certificates and refusals that were not asked for start no process and are no failure."""
        stand.hear("issued", certificate=b"unasked")
        stand.hear("refused", reason="unasked")
        stand.hear("pending", retry_after=1e9)
        assert not stand.later.waiting
        stand.turn()
        for _ in range(5):
            stand.hear("issued", certificate=b"new")
        assert stand.later.work() == 1
        assert stand.failures() == []

    def test_a_short_life(self) -> None:
        """Waits are a small part of what is left, so that even an hour leaves many attempts."""
        stand = Stand(life=3600.0)
        stand.turn(2700.0)
        stand.turn(ANSWER_SECONDS)
        left = 900.0 - ANSWER_SECONDS
        assert stand.failures() == [min(60, round(left / 10))]
        stand.clock.advance(800.0)
        stand.turn()
        stand.turn(ANSWER_SECONDS)
        assert stand.failures()[-1] == 1

    def test_one_good_answer_forgets_the_failures(self, stand: Stand) -> None:
        """The next time begins with the shortest wait."""
        for _ in range(3):
            stand.turn()
            stand.turn(ANSWER_SECONDS)
            stand.clock.advance(stand.failures()[-1])
        stand.turn()
        stand.hear("issued", certificate=b"new")
        stand.later.work()
        stand.turn()
        stand.turn(ANSWER_SECONDS)
        assert stand.failures()[-1] == 60
