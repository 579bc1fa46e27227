# SPDX-License-Identifier: Apache-2.0
"""Whom a round asks: in turn, the same choice every time, and others where those have gone."""

import math
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_coordinator.rounds.selection import choose, cohort_size, times_asked
from fedmill_coordinator.store.records import RoundRecord
from fedmill_shared.job import Federation
from fedmill_shared.messages import Refusal

Make = Callable[..., SimpleNamespace]
NAMES = ["agent-a", "agent-b", "agent-c", "agent-d"]
SETTINGS = {"rounds": 8, "minimum": 1, "goal": 1, "over_selection": 2.0}
agents = st.sets(st.integers(0, 30).map("agent-{}".format), max_size=12)


class TestChoose:
    @pytest.mark.parametrize(
        ("goal", "over", "size"),
        [(0, 1.3, 0), (2, 0.0, 0), (1, 1.0, 1), (10, 1.3, 13), (2, 1.3, 3), (3, 0.5, 2)],
    )
    def test_how_many(self, goal: int, over: float, size: int) -> None:
        """This many times the goal, rounded up; 0 stands for all."""
        assert cohort_size(Federation(goal=goal, over_selection=over)) == size

    @given(ready=agents, slow=agents, size=st.integers(0, 15), number=st.integers(1, 99))
    def test_never_more_than_asked_for(
        self, ready: set[str], slow: set[str], size: int, number: int
    ) -> None:
        """As many as there are to be, each once, sorted, and only those that are ready."""
        chosen = choose(ready, size, asked={}, slow=slow, seed=("job", number))
        assert len(chosen) == min(size, len(ready))
        assert chosen == sorted(set(chosen))
        assert set(chosen) <= ready

    @given(ready=st.lists(st.sampled_from(NAMES), unique=True).flatmap(st.permutations))
    def test_the_same_choice_every_time(self, ready: list[str]) -> None:
        """In whatever order the agents are known, the seed decides."""
        expected = choose(sorted(ready), 2, asked={}, slow=[], seed=("job", 3))
        assert choose(ready, 2, asked={}, slow=[], seed=("job", 3)) == expected

    @given(
        count=st.integers(1, 12), size=st.integers(1, 12), rounds=st.integers(1, 60), job=st.text()
    )
    def test_each_has_its_turn(self, count: int, size: int, rounds: int, job: str) -> None:
        """After any number of rounds nobody was asked twice more often than anybody else."""
        names = [f"agent-{number}" for number in range(count)]
        asked = Counter(dict.fromkeys(names, 0))
        for number in range(rounds):
            asked.update(choose(names, size, asked=asked, slow=[], seed=(job, number)))
        assert max(asked.values()) - min(asked.values()) <= 1
        assert asked.total() == rounds * min(size, count)

    @given(ready=agents, asked=st.dictionaries(st.sampled_from(NAMES), st.integers(0, 5)))
    def test_nobody_waits_for_who_was_asked_more_often(
        self, ready: set[str], asked: dict[str, int]
    ) -> None:
        """Brute force: no agent that is left out was asked less than one that is taken."""
        chosen = choose(ready, 3, asked=asked, slow=[], seed=("job", 1))
        most = max((asked.get(agent, 0) for agent in chosen), default=0)
        assert all(asked.get(agent, 0) >= most for agent in ready.difference(chosen))

    def test_slow_ones_wait_one_turn_longer(self) -> None:
        """An agent that misses deadlines goes behind its equals, and still has its turn."""
        for number in range(20):
            first = choose(NAMES, 3, asked={}, slow=["agent-b"], seed=("job", number))
            assert first == ["agent-a", "agent-c", "agent-d"]
        asked: Counter[str] = Counter()
        for number in range(40):
            asked.update(choose(NAMES, 1, asked=asked, slow=["agent-b"], seed=("job", number)))
        assert asked["agent-b"] == min(asked.values())
        assert max(asked.values()) - asked["agent-b"] <= 2

    def test_equals_are_drawn(self) -> None:
        """Not always the same ones of a large fleet begin."""
        fleet = [f"agent-{number}" for number in range(100)]
        first = [choose(fleet, 1, asked={}, slow=[], seed=("job", n))[0] for n in range(200)]
        assert len(set(first)) > 60

    def test_counts_from_the_store(self) -> None:
        """What earlier rounds asked by name; a round that asked everybody names nobody."""

        def a_round(number: int, *asked: str) -> RoundRecord:
            return RoundRecord(
                job="tiny",
                round=number,
                base="ab" * 32,
                state="closed",
                opened_ns=1,
                deadline_ns=2,
                asked=list(asked),
            )

        rounds = [a_round(1, "a", "b"), a_round(2), a_round(3, "b")]
        assert times_asked(rounds) == {"a": 1, "b": 2}


class TestCohort:
    """A job that asks two of four agents in each round."""

    def test_some_are_asked(self, make_world: Make) -> None:
        """The round names them, in the store and aloud, and waits for none of the others."""
        world = make_world(**SETTINGS | {"goal": 2, "over_selection": 1.0}).running(*NAMES)
        asked = world.rows.current_round("tiny").asked
        assert len(asked) == 2
        assert world.voice.take("round")[-1].cohort == asked
        world.deliver(*asked)
        assert world.rows.rounds("tiny")[0].included == asked

    def test_everybody_in_turn(self, make_world: Make) -> None:
        """Over the rounds each agent is asked as often as any other."""
        world = make_world(**SETTINGS).running(*NAMES)
        while world.number:
            world.deliver(world.rows.current_round("tiny").asked[0])
        asked = times_asked(world.rows.rounds("tiny"))
        assert asked == dict.fromkeys(NAMES, 4)

    def test_all_where_there_are_no_more(self, make_world: Make) -> None:
        """A fleet as small as the cohort is asked as a whole, newcomers included."""
        world = make_world(**SETTINGS).running(*NAMES[:2])
        assert world.rows.current_round("tiny").asked == []
        assert world.voice.take("round")[-1].cohort is None

    def test_an_uninvited_update_does_not_count(self, make_world: Make) -> None:
        """Nobody closes a round that asked others; its agent is told, and keeps its work."""
        world = make_world(**SETTINGS).running(*NAMES)
        asked = world.rows.current_round("tiny").asked
        [other, *_] = sorted(set(NAMES).difference(asked))
        [receipt] = world.deliver(other)
        assert (receipt.fate, receipt.code) == ("late", "not_asked")
        world.deliver(asked[0])
        assert world.rows.rounds("tiny")[0].included == [asked[0]]

    def test_others_are_asked_when_those_have_gone(self, make_world: Make) -> None:
        """As soon as nobody is left who was asked, not at the deadline; those are asked as well."""
        world = make_world(**SETTINGS).running(*NAMES)
        asked = world.rows.current_round("tiny").asked
        for agent in asked:
            world.seen(agent, online=False)
        world.step()
        assert world.rows.current_round("tiny").asked == asked
        world.clock.advance(2)
        world.step()
        assert world.rows.current_round("tiny").asked == NAMES
        notice = world.voice.take("round")[-1]
        assert (notice.cohort, notice.attempt, notice.seconds_left) == (NAMES, 1, 60.0)
        assert notice.deadline_ns == world.rows.current_round("tiny").deadline_ns

    def test_others_are_asked_when_those_cannot(self, make_world: Make) -> None:
        """A failed training of everybody who was asked costs no deadline."""
        world = make_world(**SETTINGS).running(*NAMES)
        asked = world.rows.current_round("tiny").asked
        for agent in asked:
            refusal = Refusal(job="tiny", reason="TrainerError", text="no memory")
            world.conductor.desk.refuse(agent, refusal)
        world.step()
        others = sorted(set(NAMES).difference(asked))
        assert world.rows.current_round("tiny").asked == NAMES
        world.deliver(others[0])
        assert world.rows.rounds("tiny")[0].included == others[:1]

    def test_others_are_asked_at_the_deadline(self, make_world: Make) -> None:
        """Who was asked and is silent keeps its place; as many more are asked as at first."""
        names = [f"agent-{number}" for number in range(8)]
        world = make_world(**SETTINGS).running(*names)
        first = world.rows.current_round("tiny").asked
        for wanted in (4, 6, 8, 8):
            world.clock.advance(60)
            world.step()
            asked = world.rows.current_round("tiny").asked
            assert len(asked) == wanted
            assert set(first) <= set(asked)
        assert [world.number, len(world.rows.rounds("tiny"))] == [1, 1]

    def test_a_restart_asks_the_same_ones(self, make_world: Make) -> None:
        """The cohort is part of the round, and whose turn it is part of what is remembered."""
        worlds = [make_world(folder=name, **SETTINGS).running(*NAMES) for name in "ab"]
        while worlds[0].number:
            worlds[1].restart()
            asked = [world.rows.current_round("tiny").asked for world in worlds]
            assert asked[0] == asked[1]
            assert worlds[1].voice.take("round")[-1].cohort == asked[1]
            for world in worlds:
                world.deliver(asked[0][0])

    def test_a_newcomer_takes_its_turn_and_no_more(self, make_world: Make) -> None:
        """It does not catch up with the rounds before it came: that would be a round each."""
        world = make_world(**{**SETTINGS, "rounds": 60}).running(*NAMES)
        for _ in range(20):
            world.deliver(world.rows.current_round("tiny").asked[0])
        world.join("newcomer")
        before = len(world.rows.rounds("tiny"))
        for _ in range(20):
            world.deliver(world.rows.current_round("tiny").asked[0])
        since = [record.asked for record in world.rows.rounds("tiny")[before:]]
        counts = [sum(agent in asked for asked in since) for agent in (*NAMES, "newcomer")]
        assert max(counts) - min(counts) <= 2

    def test_who_may_not_train_is_not_asked(self, make_world: Make) -> None:
        """An agent that says why it cannot is left out, and asked again once it can."""
        world = make_world(**SETTINGS)
        world.join(*NAMES)
        world.seen(NAMES[0], ineligible="outside its shift window")
        world.tell_moments(*NAMES)
        world.wait(3)
        for _ in range(3):
            assert NAMES[0] not in world.rows.current_round("tiny").asked
            world.deliver(world.rows.current_round("tiny").asked[0])
        world.seen(NAMES[0])
        world.deliver(world.rows.current_round("tiny").asked[0])
        assert NAMES[0] in world.rows.current_round("tiny").asked

    @pytest.mark.parametrize("over", [0.7, 1.0, 1.3, 2.5])
    def test_the_size_follows_the_goal(self, make_world: Make, over: float) -> None:
        """Bonawitz: more are asked than are needed."""
        names = [f"agent-{number}" for number in range(9)]
        world = make_world(rounds=2, minimum=1, goal=3, over_selection=over).running(*names)
        assert len(world.rows.current_round("tiny").asked) == math.ceil(3 * over)
