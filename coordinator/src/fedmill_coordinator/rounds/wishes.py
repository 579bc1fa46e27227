# SPDX-License-Identifier: Apache-2.0
"""What agents wish for because their data has changed: further rounds of a job that is finished."""

import math

from msgspec import json

from fedmill_coordinator.rounds.attendance import Attendance
from fedmill_coordinator.rounds.stage import Stage
from fedmill_coordinator.services import Services
from fedmill_coordinator.store.records_wishes import WishRecord
from fedmill_shared.job import Job
from fedmill_shared.messages import Wish

ROUND = "round"
QUIET_SECONDS = 60.0
"""An agent that wishes more often is heard, and not noted."""
LOOK_SECONDS = 1.0
"""How often it is looked up whether a wish that waits can be granted by now."""
DAY_NS = 86_400 * 10**9


class Wishes:
    """Owns the wishes that wait; they outlive a restart."""

    def __init__(self, job: Job, services: Services, stage: Stage, agents: Attendance) -> None:
        """Take up what the store holds."""
        self._job = job
        self._store = services.store
        self._clock = services.clock
        self._log = services.log
        self._stage = stage
        self._agents = agents
        waiting = (each for each in self._store.wishes(job.name) if each.settled_ns is None)
        self._open = {each.agent for each in waiting}
        self._told: dict[str, float] = {}
        self._look_due = 0.0
        self._granted = 0

    def hear(self, agent: str, wish: Wish) -> None:
        """Note a wish, durably; while the job runs there are rounds anyway.

        Raises:
            StoreError: the disk fails; it was not heard.
        """
        if agent in self._agents.foreign:
            return
        can = self._job.federation.rounds_on_wish > 0 and self._stage.state == "finished"
        waits = can and wish.kind == ROUND
        now = self._clock.monotonic()
        quiet = now - self._told.get(agent, -math.inf) < QUIET_SECONDS
        if quiet and (agent in self._open or not waits):
            return
        heard_ns = self._clock.now_ns()
        self._store.save_wish(
            WishRecord(
                job=self._job.name,
                agent=agent,
                kind=wish.kind,
                reason=wish.reason,
                evidence=json.encode(wish.evidence, order="sorted").decode(),
                heard_ns=heard_ns,
                settled_ns=None if waits else heard_ns,
            )
        )
        if waits:
            self._open.add(agent)
            self._look_due = 0.0
        else:
            self._open.discard(agent)
        if not quiet:
            self._told[agent] = now
            told = {"kind": wish.kind, "reason": wish.reason, "evidence": wish.evidence}
            self._log.info("wish.heard", agent=agent, **told)

    def grant(self) -> bool:
        """Let a finished job go on for some rounds if that is wished for and due; whether it does.

        ``settle`` is to follow.

        Raises:
            StoreError: that cannot be stored; nothing has changed.
        """
        now = self._clock.monotonic()
        if not self._open or now < self._look_due:
            return False
        self._look_due = now + LOOK_SECONDS
        if self._stage.state != "finished" or self._stage.paused:
            self.settle()
            return False
        if len(self._agents.ready()) < self._job.federation.minimum or not self._rested():
            return False
        rounds = min(self._job.federation.rounds_on_wish, self._left_today())
        if rounds <= 0:
            return False
        self._stage.extend(rounds)
        self._granted = rounds
        self._log.info("wish.granted", agents=", ".join(sorted(self._open)), rounds=rounds)
        return True

    def settle(self) -> None:
        """No wish waits any more, for the rounds that were granted or for none.

        Raises:
            StoreError: that cannot be stored; they wait.
        """
        now_ns = self._clock.now_ns()
        self._store.settle_wishes(self._job.name, settled_ns=now_ns, rounds=self._granted)
        self._open.clear()
        self._granted = 0

    def _left_today(self) -> int:
        """Rounds on wishes that may still come within the day."""
        most, now_ns = self._job.federation.wish_rounds_a_day, self._clock.now_ns()
        lately = [
            each
            for each in self._store.rounds(self._job.name, last=most)
            if each.round > self._job.federation.rounds and 0 <= now_ns - each.opened_ns < DAY_NS
        ]
        return most - len(lately)

    def _rested(self) -> bool:
        """Whether the job ended long enough ago."""
        last = self._store.rounds(self._job.name, last=1)
        ended = (last[0].closed_ns or 0) if last else 0
        gone = (self._clock.now_ns() - ended) / 1e9
        return not 0 <= gone < self._job.federation.wish_seconds
