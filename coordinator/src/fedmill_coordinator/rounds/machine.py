# SPDX-License-Identifier: Apache-2.0
"""What a job does next: one pure function over what can be seen.

::

    waiting ──agent ready──▶ statistics ──agree──▶ running ──finish──▶ finished
                                                   │  ▲
                                         open_round│  │close_round (count{min,goal} x time{min,
                                                   │  │             deadline}, or the operator)
                                                   ▼  │
                                                   open ──extend_round (too few, and others to ask)

Nothing here waits for one particular agent: those that are offline are not counted on, and every
phase has a deadline. Synchronous (goal 0), semi-synchronous (goal K of N) and asynchronous
federation (a small goal, late updates weighed: FedBuff, arXiv:2106.06639) are the same decisions
with other numbers.
"""

from dataclasses import dataclass
from enum import Enum, auto

from fedmill_coordinator.fleet import SETTLE_SECONDS


class Decision(Enum):
    """What the conductor should do now."""

    WAIT = auto()
    AGREE = auto()
    OPEN_ROUND = auto()
    CLOSE_ROUND = auto()
    EXTEND_ROUND = auto()
    FINISH = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything a decision depends on. Times are monotonic seconds.

    Attributes:
        state: state of the job.
        paused: whether the operator has paused it.
        closing: whether the operator wants the open round closed with what there is.
        minimum: fewest agents that may decide anything.
        goal: number of agents that is enough; 0 for all that are expected.
        done: agents that delivered what the phase collects (moments, updates, evaluations), but
            for those whose updates count for nothing.
        expected: agents that are online, asked, take part, and have not delivered.
        ready: agents that are online and take part, delivered or not.
        spare: agents that are ready, but were not asked in the open round.
        round_open: whether a round is open.
        rounds_left: rounds that have not closed yet.
        now: the time.
        earliest: when the open round may close at the soonest.
        deadline: when the phase ends at the latest.
        quiet_since: when the last agent came or went, or the connection was made.
    """

    state: str
    minimum: int
    goal: int
    done: int
    expected: int
    ready: int
    round_open: bool
    rounds_left: int
    now: float
    deadline: float
    quiet_since: float
    earliest: float = 0.0
    spare: int = 0
    paused: bool = False
    closing: bool = False


def decide(view: View) -> Decision:
    """The one thing to do now."""
    if view.paused:
        return Decision.WAIT
    if view.state in ("waiting", "statistics"):
        return Decision.AGREE if view.done and _statistics_complete(view) else Decision.WAIT
    if view.state != "running":
        return Decision.WAIT
    if view.round_open:
        return _open_round(view)
    if view.rounds_left:
        return Decision.OPEN_ROUND if view.ready >= view.minimum else Decision.WAIT
    all_evaluated = view.expected == 0 and view.done > 0 and _settled(view)
    return Decision.FINISH if all_evaluated or view.now >= view.deadline else Decision.WAIT


def _statistics_complete(view: View) -> bool:
    if view.done < view.minimum:
        return False
    if view.goal and view.done >= view.goal:
        return True
    nobody_missing = view.expected == 0 and _settled(view) and view.goal == 0
    return nobody_missing or view.now >= view.deadline


def _open_round(view: View) -> Decision:
    if view.closing and view.done:
        return Decision.CLOSE_ROUND
    enough = view.done >= view.minimum
    complete = bool(view.goal) and view.done >= view.goal
    # Nobody is left who could deliver: a goal out of reach is not worth waiting for.
    nobody_missing = view.expected == 0 and _settled(view)
    if view.now >= view.deadline:
        return Decision.CLOSE_ROUND if enough else Decision.EXTEND_ROUND
    if enough and (complete or nobody_missing):
        return Decision.CLOSE_ROUND if view.now >= view.earliest else Decision.WAIT
    if nobody_missing and view.spare:  # whom we asked has gone: ask others
        return Decision.EXTEND_ROUND
    return Decision.WAIT


def _settled(view: View) -> bool:
    """After a start or an outage agents need a moment to come back before they can be missed."""
    return view.now - view.quiet_since >= SETTLE_SECONDS
