# SPDX-License-Identifier: Apache-2.0
"""What a job tells all of its agents, and tells again: a broker may have lost it."""

from fedmill_coordinator.rounds.parts import Parts
from fedmill_shared.messages import JobNotice
from fedmill_shared.protocol import NEWEST, OLDEST

ANSWERS_PER_SECOND = 500.0
"""Agents spread over time what they answer to an announcement."""
REMIND_SECONDS = 10.0
"""A notice that a broker lost is told again; retained ones never come twice by themselves."""


class Herald:
    """Announces the job, its newest version and its rounds.

    Attributes:
        spread_until: until when agents may still answer to the job notice, monotonic s.
    """

    def __init__(self, parts: Parts, text: bytes) -> None:
        """Announce the job of these ``parts``, whose canonical text is ``text``."""
        self._job = parts.job
        self._text = text
        self._voice = parts.services.voice
        self._fleet = parts.services.fleet
        self._stage = parts.stage
        self._versions = parts.versions
        self._rollout = parts.rollout
        self._rounds = parts.rounds
        self._clock = parts.services.clock
        self._remind_due = self._clock.monotonic() + REMIND_SECONDS
        self.spread_until = 0.0

    def job(self, *, anew: bool = False) -> None:
        """Where the job stands; ``anew`` where agents have to be given time to come back."""
        spread = max(len(self._fleet.online()), self._fleet.crowd) / ANSWERS_PER_SECOND
        if anew:
            self.spread_until = self._clock.monotonic() + spread
        notice = JobNotice(
            job=self._job.name,
            text=self._text,
            state=self._stage.state,
            protocol=OLDEST,
            newest=NEWEST,
            spread=spread,
        )
        self._voice.broadcast(self._job.name, "job", notice)

    def version(self, *, with_delta: bool) -> None:
        """The newest version; with what it takes to install it, if that is wanted."""
        last, every = self._rounds.past.last, self._job.evaluation.every
        evaluate = last >= self._rounds.total or (every > 0 and last % every == 0)
        self._announce(evaluate=evaluate, with_delta=with_delta)

    def round(self) -> None:
        """The open round, and how the last one ended."""
        self._remind_due = self._clock.monotonic() + REMIND_SECONDS
        self._voice.broadcast(self._job.name, "round", self._rounds.notice())

    def remind(self) -> None:
        """Tell again what was told long ago, and what agents still owe an answer to."""
        over = self._stage.paused or self._stage.ended
        if over or self._clock.monotonic() < self._remind_due:
            return
        self._remind_due = self._clock.monotonic() + REMIND_SECONDS
        if not self._versions.ready:
            self.job()
            return
        if self._rounds.current is None:
            self.version(with_delta=False)
        else:  # evaluations that are lost meanwhile hold up nothing
            self._announce(evaluate=False, with_delta=False)
        self.round()

    def _announce(self, *, evaluate: bool, with_delta: bool) -> None:
        serve = self._rollout.served.newest
        self._versions.announce(evaluate=evaluate, with_delta=with_delta, serve=serve)
