# SPDX-License-Identifier: Apache-2.0
"""Every branch of the decision, and what must hold whatever is seen."""

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fedmill_coordinator.fleet import SETTLE_SECONDS
from fedmill_coordinator.rounds.machine import Decision, View, decide

WAIT, AGREE, OPEN = Decision.WAIT, Decision.AGREE, Decision.OPEN_ROUND
CLOSE, EXTEND, FINISH = Decision.CLOSE_ROUND, Decision.EXTEND_ROUND, Decision.FINISH

BASE = View(
    state="running",
    minimum=2,
    goal=3,
    done=0,
    expected=3,
    ready=3,
    round_open=True,
    rounds_left=5,
    now=100.0,
    deadline=160.0,
    quiet_since=50.0,
)
OPENING = {"round_open": False}
LAST = {"round_open": False, "rounds_left": 0}
UNSETTLED = {"quiet_since": 100.0 - SETTLE_SECONDS + 0.1}
LATE = {"now": 160.0}


class TestTable:
    """One line for each branch."""

    @pytest.mark.parametrize(
        ("seen", "expected"),
        [
            # statistics: a goal is waited for, all others are until the deadline
            ({"state": "waiting"}, WAIT),
            ({"state": "waiting", **LATE}, WAIT),
            ({"state": "statistics", "done": 1, "expected": 0}, WAIT),
            ({"state": "statistics", "done": 1, "expected": 0, **LATE}, WAIT),
            ({"state": "statistics", "done": 2, "expected": 0}, WAIT),
            ({"state": "statistics", "done": 2, "expected": 1, **LATE}, AGREE),
            ({"state": "statistics", "done": 3, "expected": 5, **UNSETTLED}, AGREE),
            ({"state": "waiting", "done": 3, "expected": 0}, AGREE),
            ({"state": "statistics", "goal": 0, "done": 2, "expected": 0}, AGREE),
            ({"state": "statistics", "goal": 0, "done": 2, "expected": 1}, WAIT),
            ({"state": "statistics", "goal": 0, "done": 2, "expected": 0, **UNSETTLED}, WAIT),
            ({"state": "statistics", "minimum": 0, "done": 0, **LATE}, WAIT),
            # between rounds
            ({**OPENING, "ready": 2}, OPEN),
            ({**OPENING, "ready": 1}, WAIT),
            ({**OPENING, "ready": 1, **LATE}, WAIT),
            # an open round
            ({"done": 3}, CLOSE),
            ({"done": 3, **UNSETTLED}, CLOSE),
            ({"done": 2, "expected": 1}, WAIT),
            ({"done": 2, "expected": 0}, CLOSE),
            ({"done": 2, "expected": 0, **UNSETTLED}, WAIT),
            ({"done": 2, "expected": 1, **LATE}, CLOSE),
            ({"done": 1, "expected": 0}, WAIT),
            ({"done": 1, **LATE}, EXTEND),
            ({"done": 0, "expected": 0, **LATE}, EXTEND),
            ({"goal": 0, "done": 9, "expected": 1}, WAIT),
            ({"goal": 0, "done": 9, "expected": 0}, CLOSE),
            # late updates count, so a round may have more than it asked for, and sooner
            ({"goal": 1, "minimum": 1, "done": 1, "expected": 3, **UNSETTLED}, CLOSE),
            ({"goal": 2, "minimum": 3, "done": 2, "expected": 1}, WAIT),
            # an earliest time
            ({"done": 3, "earliest": 100.1}, WAIT),
            ({"done": 3, "earliest": 100.0}, CLOSE),
            ({"goal": 0, "done": 3, "expected": 0, "earliest": 100.1}, WAIT),
            ({"done": 3, "earliest": 200.0, **LATE}, CLOSE),
            ({"done": 1, "earliest": 200.0, **LATE}, EXTEND),
            # whom it asked has gone, and there are others
            ({"done": 1, "expected": 0, "spare": 1}, EXTEND),
            ({"done": 0, "expected": 0, "spare": 2}, EXTEND),
            ({"done": 1, "expected": 0, "spare": 1, **UNSETTLED}, WAIT),
            ({"done": 1, "expected": 1, "spare": 1}, WAIT),
            ({"done": 2, "expected": 0, "spare": 1}, CLOSE),
            ({"done": 2, "expected": 0, "spare": 1, "earliest": 101.0}, WAIT),
            # the operator
            ({"done": 1, "closing": True}, CLOSE),
            ({"done": 1, "closing": True, "earliest": 200.0, **UNSETTLED}, CLOSE),
            ({"done": 0, "closing": True}, WAIT),
            ({"done": 0, "closing": True, **LATE}, EXTEND),
            ({"done": 3, "closing": True, "paused": True, **LATE}, WAIT),
            ({"done": 3, "paused": True, **LATE}, WAIT),
            ({**OPENING, "ready": 2, "paused": True}, WAIT),
            ({"state": "statistics", "done": 3, "paused": True, **LATE}, WAIT),
            ({**LAST, "done": 3, "expected": 0, "paused": True, **LATE}, WAIT),
            # after the last round
            ({**LAST, "done": 3, "expected": 0}, FINISH),
            ({**LAST, "done": 3, "expected": 0, **UNSETTLED}, WAIT),
            ({**LAST, "done": 2, "expected": 1}, WAIT),
            ({**LAST, "done": 0, "expected": 0}, WAIT),
            ({**LAST, "done": 0, "expected": 3, **LATE}, FINISH),
            # the end
            ({"state": "finished", "done": 3, **LATE}, WAIT),
            ({"state": "stopped", "done": 3, **LATE}, WAIT),
        ],
    )
    def test_decides(self, seen: dict[str, object], expected: Decision) -> None:
        """What is seen leads to the one thing to do."""
        assert decide(replace(BASE, **seen)) is expected


counts = st.integers(0, 6)
times = st.floats(0, 1000)
views = st.builds(
    View,
    state=st.sampled_from(["waiting", "statistics", "running", "finished", "stopped"]),
    minimum=st.integers(1, 4),
    goal=counts,
    done=counts,
    expected=counts,
    ready=counts,
    round_open=st.booleans(),
    rounds_left=counts,
    now=times,
    deadline=times,
    quiet_since=times,
    earliest=times,
    spare=counts,
    paused=st.booleans(),
    closing=st.booleans(),
)
free = views.map(lambda view: replace(view, paused=False, closing=False))
"""Without the operator's hand in it."""
ripe = free.map(lambda view: replace(view, earliest=0.0))
"""And old enough to close."""


class TestInvariants:
    """What holds for every view."""

    @given(views)
    def test_a_paused_job_does_nothing(self, view: View) -> None:
        """Whatever is due waits for the operator."""
        assert decide(replace(view, paused=True)) is WAIT

    @given(views)
    def test_no_state_waits_for_ever(self, view: View) -> None:
        """After its deadline every phase ends or begins anew, if there is anybody to go on with."""
        due = replace(view, paused=False, now=max(view.now, view.deadline))
        if due.state == "running":
            somebody = due.round_open or not due.rounds_left or due.ready >= due.minimum
        else:
            somebody = due.state in ("waiting", "statistics") and due.done >= due.minimum
        assert (decide(due) is not WAIT) == somebody

    @given(free, times)
    def test_time_alone_never_takes_a_decision_back(self, view: View, more: float) -> None:
        """What is due stays due until it is done; only an extension may have become a close."""
        first, later = decide(view), decide(replace(view, now=view.now + more))
        assert first is WAIT or later is first or (first, later) == (EXTEND, CLOSE)

    @given(views)
    def test_the_operator_closes_with_whatever_there_is(self, view: View) -> None:
        """Neither minimum nor time stand against it, but there must be an update."""
        asked = replace(view, state="running", round_open=True, paused=False, closing=True)
        assert (decide(asked) is CLOSE) or not asked.done

    @given(free)
    def test_nothing_closes_before_its_earliest_time(self, view: View) -> None:
        """Unless the deadline comes first."""
        young = replace(view, state="running", round_open=True, deadline=view.now + 1)
        assert decide(replace(young, earliest=view.now + 0.5)) is not CLOSE

    @given(free)
    def test_others_are_asked_only_where_there_are_some(self, view: View) -> None:
        """Before its deadline a round is extended only for agents that it has not asked."""
        young = replace(view, state="running", round_open=True, deadline=view.now + 1)
        assert decide(young) is not EXTEND or young.spare > 0

    @given(free)
    def test_nothing_is_decided_below_the_minimum(self, view: View) -> None:
        """Neither a round nor the statistics are closed by fewer agents than the minimum."""
        if decide(view) in (CLOSE, AGREE):
            assert view.done >= view.minimum

    @given(free)
    def test_a_round_never_waits_past_its_deadline(self, view: View) -> None:
        """At its deadline a round closes or is given another one."""
        due = replace(view, state="running", round_open=True, deadline=min(view.now, view.deadline))
        assert decide(due) is (CLOSE if view.done >= view.minimum else EXTEND)

    @given(free)
    def test_the_last_evaluation_ends_at_its_deadline(self, view: View) -> None:
        """A job is not held up by agents that never report."""
        last = replace(view, state="running", round_open=False, rounds_left=0)
        assert decide(replace(last, now=last.deadline)) is FINISH

    @given(ripe, st.integers(0, 2))
    def test_enough_is_enough(self, view: View, more: int) -> None:
        """With as many updates as the goal the round closes, however long it has been open."""
        goal = view.minimum + more
        reached = replace(view, state="running", round_open=True, goal=goal, done=goal)
        assert decide(reached) is CLOSE

    @given(ripe)
    def test_one_agent_that_goes_offline_never_blocks(self, view: View) -> None:
        """With enough updates, losing the last agent that was waited for closes the round."""
        alone = replace(view, state="running", round_open=True, expected=0, minimum=0)
        settled = replace(alone, now=alone.quiet_since + SETTLE_SECONDS + 1)
        assert decide(settled) is CLOSE

    @given(free)
    def test_nobody_is_missed_before_the_fleet_has_settled(self, view: View) -> None:
        """Right after a start the updates of a short-handed round wait for the others."""
        assume(view.done < view.goal or view.goal == 0)
        fresh = replace(view, state="running", round_open=True, quiet_since=view.now)
        fresh = replace(fresh, deadline=view.now + 1)
        assert decide(fresh) is WAIT

    @given(views)
    def test_an_ended_job_does_nothing(self, view: View) -> None:
        """Finished and stopped are final."""
        assert decide(replace(view, state="finished")) is WAIT
        assert decide(replace(view, state="stopped")) is WAIT

    @given(free, st.integers(1, 3))
    def test_more_updates_never_undo_a_close(self, view: View, more: int) -> None:
        """Once it can close, another update does not make it wait."""
        opened = replace(view, state="running", round_open=True)
        if decide(opened) is CLOSE:
            assert decide(replace(opened, done=view.done + more)) is CLOSE
