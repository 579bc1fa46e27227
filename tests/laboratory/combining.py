# SPDX-License-Identifier: Apache-2.0
"""The coordinator of the laboratory: frames in, the round's delta out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Self

from fedmill_coordinator.aggregation import State, Update, aggregate, in_order, norm_of
from fedmill_coordinator.rounds.aggregate import rate_of
from fedmill_coordinator.rounds.judging import LOOK_BACK
from fedmill_coordinator.rounds.quarantine import RELEASE, Judged, Quarantine, quarantines
from fedmill_shared.codec.base import Dense, Payload, Vector
from fedmill_shared.codec.frame import open_frame
from fedmill_shared.job import Job
from fedmill_shared.learning.local import LocalResult
from fedmill_shared.seeds import seed_for


@dataclass(slots=True)
class Coordinator:
    """Owns what the rules remember between rounds.

    Attributes:
        job: names the rules.
        state: what they remember.
        judged: what they said about the agents of the last rounds.
        quarantined: agents that count for nothing.
    """

    job: Job
    state: State
    judged: list[Judged] = field(default_factory=list)
    quarantined: list[Quarantine] = field(default_factory=list)

    @classmethod
    def start(cls, job: Job, elements: int) -> Self:
        """Before the first round of a model whose deltas have ``elements``."""
        return cls(job, State(elements))

    def combine(
        self,
        frames: Mapping[str, tuple[bytes, LocalResult]],
        round_: int,
        golden: Callable[[], Vector] | None = None,
    ) -> Vector:
        """The delta (n,) that the frames of ``round_`` lead to.

        ``golden`` makes the coordinator's own update, where the rule is ``trust``.

        Raises:
            ModelError: it is no model.
        """
        outcome = aggregate(
            self.state,
            in_order(self._update(agent, *each, round_) for agent, each in frames.items()),
            self.job.federation,
            self.job.robustness,
            seed=seed_for(self.job.name, round_, "aggregation"),
            golden=Dense(golden()) if golden is not None else None,
            quarantined={each.agent for each in self.quarantined},
            rate=rate_of(self.job, round_),
        )
        self.state = outcome.state
        span = self.job.robustness.quarantine_rounds
        kept = RELEASE * span + LOOK_BACK
        self.judged = [*self.judged, Judged(round_, outcome.report.verdicts)][-kept:]
        self.quarantined = quarantines(self.judged, span, standing=self.quarantined, shifts={})
        return outcome.delta

    def _update(self, agent: str, frame: bytes, result: LocalResult, round_: int) -> Update:
        open_ = partial(_payload, frame, self.state.elements)
        return Update(
            agent=agent,
            examples=result.examples,
            open=open_,
            norm=norm_of(open_()),
            round=round_,
            steps=result.steps_weight,
        )


def _payload(frame: bytes, elements: int) -> Payload:
    return open_frame(frame, elements=elements)[1]
