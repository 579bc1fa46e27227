# SPDX-License-Identifier: Apache-2.0
"""How long agents take, and how long a round therefore waits."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_coordinator.rounds.pace import (
    KNOWN_AFTER,
    SHORTEST_SECONDS,
    Estimate,
    deadline_seconds,
    learn,
    observe,
    slow,
)
from fedmill_coordinator.store.records import RoundRecord, UpdateRecord
from fedmill_shared.job import Federation
from fedmill_shared.messages import Reason

Make = Callable[..., SimpleNamespace]
A, B, C = "agent-a", "agent-b", "agent-c"
ZERO = "00" * 32
seconds = st.floats(0, 1e6)


def known(mean: float, deviation: float = 0.0, count: int = KNOWN_AFTER) -> Estimate:
    """An estimate that is believed."""
    return Estimate(mean, deviation, count)


class TestEstimate:
    def test_literal_numbers(self) -> None:
        """RFC 6298, rules 2.2 and 2.3, by hand: 8 s, then 16 s, then 9 s."""
        first = observe(None, 8.0)
        assert (first.mean, first.deviation, first.count) == (8.0, 4.0, 1)
        assert first.usual == 8.0 + 4 * 4.0
        second = observe(first, 16.0)
        # RTTVAR = 3/4 * 4 + 1/4 * |8 - 16|; SRTT = 7/8 * 8 + 1/8 * 16
        assert (second.mean, second.deviation, second.count) == (9.0, 5.0, 2)
        assert second.usual == 29.0
        third = observe(second, 9.0)
        assert (third.mean, third.deviation, third.usual) == (9.0, 3.75, 24.0)

    @given(st.lists(seconds, min_size=1, max_size=30))
    def test_is_the_formula_of_the_rfc(self, times: list[float]) -> None:
        """Written as the RFC writes it, with alpha 1/8 and beta 1/4."""
        mean, deviation, found = times[0], times[0] / 2, observe(None, times[0])
        for each in times[1:]:
            deviation = (1 - 1 / 4) * deviation + 1 / 4 * abs(mean - each)
            mean = (1 - 1 / 8) * mean + 1 / 8 * each
            found = observe(found, each)
        assert found.mean == pytest.approx(mean, abs=1e-6)
        assert found.deviation == pytest.approx(deviation, abs=1e-6)
        assert found.count == len(times)

    @given(seconds, st.integers(1, 40))
    def test_a_steady_agent_is_known_ever_better(self, each: float, more: int) -> None:
        """The mean stays, the deviation shrinks by a quarter each time."""
        found = observe(None, each)
        for _ in range(more):
            found = observe(found, each)
        assert found.mean == pytest.approx(each)
        assert found.deviation == pytest.approx(each / 2 * 0.75**more, abs=1e-9)


class TestLearn:
    def test_from_what_is_stored(self) -> None:
        """Seconds from the opening of a round, whatever became of the update."""
        opened = [
            RoundRecord(
                job="j", round=n, base=ZERO, state="closed", opened_ns=n * 10**11, deadline_ns=1
            )
            for n in (1, 2)
        ]
        updates = [
            UpdateRecord(
                job="j",
                round=number,
                agent=agent,
                base=ZERO,
                blob=ZERO,
                sha256=ZERO,
                examples=1,
                loss=0.0,
                wire_bytes=1,
                seconds=0.5,
                received_ns=number * 10**11 + late * 10**9,
                state=state,
            )
            for number, agent, late, state in (
                (1, A, 8, "included"),
                (1, B, 30, "late"),
                (2, A, 16, "received"),
                (2, C, -5, "included"),
                (3, C, 5, "included"),
            )
        ]
        found = learn(opened, updates)
        assert found == {
            A: Estimate(9.0, 5.0, 2),
            B: Estimate(30.0, 15.0, 1),
            C: Estimate(0.0, 0.0, 1),
        }


class TestDeadline:
    @pytest.mark.parametrize(
        ("settings", "estimates", "expected"),
        [
            ({}, {A: known(20), B: known(5)}, 80.0),
            ({}, {A: known(20, 1.0), B: known(5)}, 96.0),
            ({"patience": 1.5}, {A: known(20), B: known(5)}, 30.0),
            # never shorter than it makes sense, never longer than the job says
            ({}, {A: known(0.1), B: known(0.2)}, SHORTEST_SECONDS),
            ({"earliest_seconds": 30.0}, {A: known(0.1), B: known(0.2)}, 30.0),
            ({}, {A: known(500), B: known(5)}, 120.0),
            ({"deadline_seconds": 6.0}, {A: known(0.1), B: known(0.2)}, 6.0),
            # not where somebody is not known well, or nobody wants it
            ({}, {A: known(20)}, 120.0),
            ({}, {A: known(20), B: known(5, count=KNOWN_AFTER - 1)}, 120.0),
            ({}, {}, 120.0),
            ({"patience": 0.0}, {A: known(20), B: known(5)}, 120.0),
        ],
    )
    def test_of_a_round(
        self, settings: dict[str, float], estimates: dict[str, Estimate], expected: float
    ) -> None:
        """`patience` times what the slowest of those asked usually takes."""
        assert deadline_seconds(Federation(**settings), [A, B], estimates) == expected

    def test_only_those_that_are_asked_matter(self) -> None:
        """A slow agent outside the cohort keeps nobody waiting."""
        estimates = {A: known(3), C: known(100)}
        assert deadline_seconds(Federation(), [A], estimates) == 12.0

    @given(
        st.dictionaries(
            st.sampled_from([A, B, C]), st.builds(known, seconds, seconds, st.integers(1, 9))
        ),
        st.floats(0, 100),
        st.floats(1, 1e4),
    )
    def test_is_never_beyond_the_jobs_own(
        self, estimates: dict[str, Estimate], patience: float, longest: float
    ) -> None:
        """And never so short that a gateway could not swap."""
        settings = Federation(patience=patience, deadline_seconds=longest)
        found = deadline_seconds(settings, [A, B, C], estimates)
        assert min(longest, SHORTEST_SECONDS) <= found <= longest

    def test_slow_is_who_usually_misses_it(self) -> None:
        """By its mean, once it is known."""
        estimates = {A: known(121), B: known(119, 100.0), C: known(999, count=1)}
        assert slow(Federation(), estimates) == {A}


class TestRounds:
    """Estimates at work in a job."""

    def seconds(self, world: SimpleNamespace) -> float:
        """How long the open round may stay open."""
        record = world.rows.current_round("tiny")
        return (record.deadline_ns - record.opened_ns) / 1e9

    def test_a_round_learns_its_pace(self, make_world: Make) -> None:
        """After three rounds of 4 s in each the deadline falls from 60 s to 4 times the usual."""
        world = make_world(rounds=9, goal=2).running(A, B)
        told = []
        for already in (3, 0, 0, 0):
            told.append(self.seconds(world))
            world.wait(4 - already)
            world.deliver(A, B)
        expected = observe(observe(observe(None, 4.0), 4.0), 4.0).usual * 4
        assert told == [60.0, 60.0, 60.0, pytest.approx(expected)]
        assert 16 < expected < 60

    def test_it_closes_then_without_who_is_missing(self, make_world: Make) -> None:
        """The learned deadline is kept, aloud and by the clock; an extension is a whole one."""
        world = make_world(rounds=9, goal=3, patience=1.0).running(A, B, C)
        for already in (3, 0, 0, 0, 0):
            world.wait(4 - already)
            world.deliver(A, B, C)
        wanted = self.seconds(world)
        assert 10.0 <= wanted < 11
        notice = world.voice.take("round")[-1]
        assert notice.seconds_left == wanted
        world.deliver(A, B)
        world.wait(9)
        assert world.number == 6
        world.wait(2)
        assert world.rows.rounds("tiny")[5].included == [A, B]
        world.wait(100)
        assert world.rows.current_round("tiny").round == 7
        assert world.conductor._rounds.notice().seconds_left > 11

    def test_a_late_update_tells_how_slow_its_agent_is(self, make_world: Make) -> None:
        """An agent that always misses the close is known for it."""
        world = make_world(rounds=9, goal=2, max_staleness=3).running(A, B, C)
        late = world.update(C)
        world.wait(2)
        world.deliver(A, B)
        world.wait(60)
        world.send(C, *late)
        assert world.conductor._agents.known[C] == Estimate(65.0, 32.5, 1)

    @pytest.mark.parametrize("most", [0, 3])
    def test_a_restart_knows_the_same(self, make_world: Make, most: int) -> None:
        """From the rows, to the last bit; also of updates that came too late to be used."""
        world = make_world(rounds=9, goal=2, max_staleness=most).running(A, B, C)
        for number in range(4):
            late = world.update(C)
            world.wait(3 + number)
            world.deliver(A, B)
            world.wait(2)
            for _ in range(2):
                [receipt] = world.send(C, *late)
            assert receipt.code in ("", Reason.TOO_STALE)
        before = world.conductor._agents.known
        assert set(before) == {A, B, C}
        world.restart()
        assert world.conductor._agents.known == before

    def test_one_deadline_missed_does_not_change_the_next(self, make_world: Make) -> None:
        """Agents that sent nothing told nothing; the estimate of the others stays."""
        world = make_world(rounds=9, goal=3).running(A, B, C)
        world.deliver(A, B)
        world.wait(61)
        assert world.rows.rounds("tiny")[0].included == [A, B]
        assert C not in world.conductor._agents.known
        assert self.seconds(world) == 60.0

    def test_the_earliest_time_collects_more_than_the_goal(self, make_world: Make) -> None:
        """With `earliest_seconds` the round takes whoever comes until then."""
        world = make_world(goal=2, earliest_seconds=20.0).running(A, B, C)
        world.deliver(A, B)
        world.wait(16)
        world.deliver(C)
        assert world.number == 1
        world.wait(1)
        assert world.rows.rounds("tiny")[0].included == [A, B, C]
