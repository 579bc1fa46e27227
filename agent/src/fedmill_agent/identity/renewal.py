# SPDX-License-Identifier: Apache-2.0
"""Has the agent's certificate renewed in time, over the connection that the old one still opens.

What takes cryptography is done by a child, which a thread of the daemon waits for; here is only
who is asked when. A new key is made for every certificate.
"""

import math
from collections.abc import Callable
from typing import TypeVar

from fedmill_agent.background import Background
from fedmill_agent.identity.children import Outcome
from fedmill_agent.identity.facts import Facts
from fedmill_agent.identity.term import renewal_ns
from fedmill_agent.identity.watch import Worker
from fedmill_shared.clock import Clock
from fedmill_shared.errors import FedmillError, IdentityError
from fedmill_shared.link.backoff import Jitter, full_jitter
from fedmill_shared.log import Logger
from fedmill_shared.messages import RenewalAnswer

ANSWER_SECONDS = 60.0
"""How long an answer of the coordinator is waited for before it is asked again."""
FIRST_SECONDS, LONGEST_SECONDS = 60.0, 6 * 3600.0
SHARE_OF_REST = 1 / 10
"""Of what is left of a certificate, at most this much passes before the next attempt."""

T = TypeVar("T")


class Renewal:
    """Owns the way from one certificate to the next."""

    def __init__(
        self,
        worker: Worker,
        send: Callable[[bytes], None],
        background: Background,
        *,
        clock: Clock,
        log: Logger,
        jitter: Jitter = full_jitter,
    ) -> None:
        """``send`` gives a request to the coordinator."""
        self._worker = worker
        self._send = send
        self._background = background
        self._clock = clock
        self._log = log
        self._jitter = jitter
        self._ends_ns = 0
        self._busy = False
        self._answer_due: float | None = None
        self._next = -math.inf
        self._failures = 0

    def tick(self, facts: Facts | None, *, connected: bool) -> None:
        """Ask if it is time to; ``facts`` are of the certificate in use."""
        now, now_ns = self._clock.monotonic(), self._clock.now_ns()
        if facts is None:
            return
        self._ends_ns = facts.not_after_ns
        if self._answer_due is not None and now >= self._answer_due:
            self._fail(IdentityError("the coordinator does not answer", remedy="see its log"))
        waits = self._busy or self._answer_due is not None or now < self._next
        if connected and not waits and now_ns >= renewal_ns(facts):
            self._begin(self._worker.ask, self._ask)

    def hear(self, answer: RenewalAnswer) -> None:
        """The coordinator answers; where it was not asked, it is not heard."""
        if self._answer_due is None:
            return
        if answer.state == "issued":
            self._answer_due = None
            self._begin(lambda: self._worker.take(answer.certificate), self._taken)
        elif answer.state == "refused":
            self._fail(IdentityError(f"the coordinator refuses: {answer.reason}"))
        else:
            self._answer_due = None
            wait = self._after(answer.retry_after)
            told = round(wait)
            self._log.info("certificate.renewal_deferred", reason=answer.reason, retry_seconds=told)

    def _begin(self, work: Callable[[], T], done: Callable[[T], None]) -> None:
        self._busy = True
        self._background.submit(work, done, self._fail)

    def _ask(self, message: bytes) -> None:
        self._busy, self._answer_due = False, self._clock.monotonic() + ANSWER_SECONDS
        self._send(message)

    def _taken(self, outcome: Outcome) -> None:
        self._busy, self._failures = False, 0
        if outcome.facts is not None and outcome.changed:
            self._log.info("certificate.renewed", serial=outcome.facts.serial)

    def _fail(self, error: FedmillError) -> None:
        self._busy, self._answer_due = False, None
        longest = FIRST_SECONDS * 2 ** min(self._failures, 16)
        self._failures += 1
        told = round(self._after(longest / 2 + self._jitter(longest / 2)))
        self._log.error("certificate.renewal_failed", error=str(error), retry_seconds=told)

    def _after(self, seconds: float) -> float:
        """Let the next attempt be in ``seconds``, or as soon as it must be."""
        rest = (self._ends_ns - self._clock.now_ns()) / 1e9
        wait = min(seconds, LONGEST_SECONDS, max(1.0, SHARE_OF_REST * rest))
        self._next = self._clock.monotonic() + wait
        return wait
