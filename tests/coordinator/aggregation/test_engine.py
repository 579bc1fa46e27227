# SPDX-License-Identifier: Apache-2.0
"""A whole round, by every rule and every robust rule."""

import math
import os
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.coordinator.aggregation.payloads import KINDS, drawn, fleet, opener, update

from fedmill_coordinator.aggregation import Outcome, Report, State, Update, aggregate, in_order
from fedmill_coordinator.aggregation.combining import FEW
from fedmill_coordinator.aggregation.optimisers import OPTIMISERS
from fedmill_coordinator.aggregation.robust import COLUMN_RULES, GRAM_RULES
from fedmill_coordinator.rounds.contrary import LEAST_AGENTS
from fedmill_coordinator.rounds.harvest import TURNS
from fedmill_shared.codec.base import Dense, Payload, Quantised, vector_of
from fedmill_shared.errors import FrameError, ModelError
from fedmill_shared.job import Federation, Robustness

SETTINGS = Federation()
LOOSE = Robustness(clip=1e6, quarantine_rounds=0)
"""Nothing is shortened."""
RULES = get_args(get_type_hints(Federation)["rule"])
ROBUST = get_args(get_type_hints(Robustness)["rule"])
every_rule = pytest.mark.parametrize("rule", RULES)
every_robust_rule = pytest.mark.parametrize("robust", ROBUST)
GOLDEN = Dense(np.ones(5000, np.float32))


def run(
    updates: list[Update],
    federation: Federation = SETTINGS,
    robustness: Robustness = LOOSE,
    *,
    state: State | None = None,
    golden: Payload | None = None,
    quarantined: tuple[str, ...] = (),
    workers: int = 1,
) -> Outcome:
    """One round; the first, unless there is a ``state``."""
    state = state or State(updates[0].open().elements)
    return aggregate(
        state,
        updates,
        federation,
        robustness,
        seed=7,
        golden=golden,
        quarantined=quarantined,
        workers=workers,
    )


def values(updates: list[Update]) -> np.ndarray:
    """All updates at once, float64 (n, elements)."""
    return np.array([vector_of(each.open()) for each in updates], np.float64)


class TestJobFile:
    def test_offers_exactly_what_is_here(self) -> None:
        """Every rule that a job may name exists, under its own name, and no other."""
        assert set(RULES) == set(OPTIMISERS)
        assert set(ROBUST) == {"mean", *GRAM_RULES, *COLUMN_RULES}


class TestMean:
    @pytest.mark.parametrize("rule", ["fedavg", "fedsgd", "fednova", "scaffold", "fedavgm"])
    def test_first_round_by_hand(self, rule: str) -> None:
        """(1 * [1, 0] + 3 * [5, -4]) / 4, with its report."""
        updates = [update("a", 1, 1, 0), update("b", 3, 5, -4)]
        outcome = run(updates, Federation(rule=rule))
        assert outcome.delta.dtype == np.float32
        assert outcome.delta.tolist() == [4.0, -3.0]
        report = outcome.report
        assert (report.agents, report.examples, report.stale, report.clipped) == (2, 4, 0, [])
        assert report.norms == {"a": 1.0, "b": math.sqrt(41)}
        assert report.norm == 5.0

    @pytest.mark.parametrize(("claim", "expected"), [(5.0, 2 + 5 / 7), (1e6, 2.8)])
    def test_claims_count_as_the_job_says(self, claim: float, expected: float) -> None:
        """One agent of three says eight times as many windows; its update is 3, the others 2."""
        updates = [update("a", 100, 2), update("b", 100, 2), update("c", 800, 3)]
        robustness = msgspec.structs.replace(LOOSE, claim=claim)
        assert run(updates, robustness=robustness).delta[0] == pytest.approx(expected)

    @given(
        st.lists(st.sampled_from(KINDS), min_size=1, max_size=8),
        st.integers(1, 9000),
        st.integers(0, 99),
    )
    def test_equals_the_definition(self, kinds: list[str], elements: int, seed: int) -> None:
        """The streamed mean is numpy's weighted average of all updates held at once."""
        updates = fleet(kinds, elements, seed)
        outcome = run(updates)
        weights = [each.examples for each in updates]
        expected = np.average(values(updates), axis=0, weights=weights)
        assert np.allclose(outcome.delta, expected, rtol=1e-5, atol=1e-6)
        assert outcome.report.norm == pytest.approx(float(np.linalg.norm(expected)), rel=1e-5)

    def test_equal_updates_give_that_update(self) -> None:
        """A fleet that agrees moves by what it agrees on, whatever the weights."""
        delta = np.random.default_rng(3).normal(size=33_000).astype(np.float32)
        shared = update("a", 1, *delta[:3])
        updates = [
            replace(shared, agent=f"a{i}", examples=3 + i, open=opener(Dense(delta)))
            for i in range(7)
        ]
        assert np.allclose(run(updates).delta, delta, rtol=1e-6, atol=0)

    def test_agent_without_examples_has_no_weight(self) -> None:
        """Its update counts for nothing and is not even opened, and the report lists it."""

        def spoilt() -> Payload:
            raise FrameError("opened")

        outcome = run([update("a", 2, 1.5), Update("b", 0, spoilt, 99.0)])
        report = outcome.report
        assert (outcome.delta.tolist(), report.agents, report.examples) == ([1.5], 2, 2)
        assert report.norms["b"] == 99.0

    def test_a_claim_does_not_own_the_round(self) -> None:
        """Of three agents one claims a million times the examples: it counts five sevenths."""
        outcome = run([update("a", 10, 0), update("b", 10, 0), update("c", 10**7, 7)])
        assert outcome.delta.tolist() == [5.0]
        assert outcome.report.examples == 10_000_020

    def test_empty_model(self) -> None:
        """A model without shared elements aggregates to nothing."""
        outcome = run([update("a", 1)])
        assert (outcome.delta.shape, outcome.report.norm) == ((0,), 0.0)


class TestStaleness:
    """Decision 0002: late updates make short steps."""

    def test_by_hand(self) -> None:
        """Three rounds late counts half: (4 * 3 + 1/2 * 4 * 12) / (4 + 4) = 4.5."""
        outcome = run([update("a", 4, 3), update("b", 4, 12, round_=1, late=3)])
        assert outcome.delta.tolist() == [4.5]
        assert (outcome.report.agents, outcome.report.examples, outcome.report.stale) == (2, 8, 1)

    @every_robust_rule
    def test_a_buffer_of_late_updates_makes_a_short_step(self, robust: str) -> None:
        """If everybody is three rounds late, the model moves half as far, by any rule."""
        fresh = fleet(["dense"] * 6, 5000, 4)
        late = [replace(each, staleness=3) for each in fresh]
        robustness = Robustness(rule=robust)
        whole, half = (
            run(updates, robustness=robustness, golden=GOLDEN).delta for updates in (fresh, late)
        )
        assert np.linalg.norm(whole) > 0
        assert np.allclose(half, whole / 2, rtol=1e-5, atol=1e-6)

    def test_exponent_nought(self) -> None:
        """Then late updates have their full weight."""
        late = [update("a", 1, 8, late=9)]
        assert run(late, Federation(staleness_exponent=0.0)).delta.tolist() == [8.0]

    def test_two_of_one_agent(self) -> None:
        """Both count; the report keeps the norm of the newer one."""
        older, newer = update("a", 1, 3, round_=4, late=1), update("a", 1, 5, round_=5)
        report = run([older, newer]).report
        assert (report.agents, report.norms) == (2, {"a": 5.0})


class TestClipping:
    def test_by_hand(self) -> None:
        """Lengths 1, 2 and 30 with a clip of 1.5: 30 becomes 3, and the report says whose."""
        updates = [update("a", 1, 1), update("b", 1, 2), update("c", 1, 30)]
        outcome = run(updates, robustness=Robustness())
        assert outcome.delta.tolist() == pytest.approx([2.0])
        report = outcome.report
        assert (report.bound, report.clipped) == (3.0, ["c"])
        assert report.norms == {"a": 1.0, "b": 2.0, "c": 30.0}
        assert report.verdicts["c"].factor == pytest.approx(0.1)
        assert "times as long as the median" in report.verdicts["c"].statistic
        assert report.verdicts["a"].factor == 1.0

    def test_what_is_usual_is_remembered(self) -> None:
        """The next round's only update is measured by the medians before."""
        state = State(1)
        for _ in range(3):
            updates = [update(agent, 1, 2) for agent in "abc"]
            state = run(updates, robustness=Robustness(), state=state).state
        assert state.norms == (2.0, 2.0, 2.0)
        alone = run([update("a", 1, 1e6)], robustness=Robustness(), state=state)
        assert alone.delta.tolist() == pytest.approx([3.0])

    @every_robust_rule
    def test_no_rule_is_moved_far_by_one(self, robust: str) -> None:
        """An update a million times as long moves the result less than the clip allows."""
        updates = fleet(["dense"] * 7, 5000, 2)
        whole = drawn("dense", 5000, np.random.default_rng(9))
        gigantic = Dense(vector_of(whole) * np.float32(1e6))
        liar = Update("zz", 150, opener(gigantic), 1e6 * math.sqrt(5000))
        robustness = Robustness(rule=robust)
        moved = run([*updates, liar], robustness=robustness, golden=GOLDEN).delta
        lengths = [each.norm for each in updates]
        assert np.linalg.norm(moved) < 1.6 * max(lengths)


class TestFednova:
    def test_by_hand(self) -> None:
        """Two and six steps: effective 4, so 2 * 1/2 * [4] + 2/3 * 1/2 * [6]."""
        two = replace(update("a", 1, 4), steps=2.0)
        six = replace(update("b", 1, 6), steps=6.0)
        outcome = run([two, six], Federation(rule="fednova"))
        assert outcome.delta.tolist() == pytest.approx([6.0])
        assert outcome.report.norms == pytest.approx({"a": 8.0, "b": 4.0})

    def test_other_rules_take_no_notice(self) -> None:
        """Of the steps."""
        updates = [replace(update("a", 1, 4), steps=2.0), replace(update("b", 1, 6), steps=6.0)]
        assert run(updates).delta.tolist() == [5.0]

    def test_long_training_is_no_reason_to_be_clipped(self) -> None:
        """Ten times the steps, ten times the length: alike once they are normalised."""
        updates = [replace(update(a, 1, 1), steps=1.0) for a in "abc"]
        updates.append(replace(update("d", 1, 10), steps=10.0))
        assert run(updates, robustness=Robustness()).report.clipped == ["d"]
        nova = run(updates, Federation(rule="fednova"), Robustness())
        assert nova.report.clipped == []

    def test_a_claim_of_few_steps_is_clipped(self) -> None:
        """It stretches its own update, which is then shortened like any long one."""
        updates = [replace(update(a, 1, 1), steps=100.0) for a in "abcd"]
        updates.append(replace(update("e", 1, 1), steps=1.0))
        nova = run(updates, Federation(rule="fednova"), Robustness())
        assert nova.report.clipped == ["e"]
        assert nova.delta.tolist() == pytest.approx([(4 * 0.802 + 1.5 * 0.802) / 5])


class TestRobustRules:
    @every_robust_rule
    def test_a_fleet_that_agrees(self, robust: str) -> None:
        """Moves by what it agrees on, as far as the golden update goes for trust."""
        updates = [update(f"a{i}", 5, 3, -4, 0) for i in range(6)]
        golden = Dense(np.array([3, -4, 0], np.float32))
        outcome = run(updates, robustness=Robustness(rule=robust), golden=golden)
        assert outcome.delta.tolist() == pytest.approx([3, -4, 0], rel=1e-5)
        assert {each.trust for each in outcome.report.verdicts.values()} == {1.0}

    @pytest.mark.parametrize("robust", [each for each in ROBUST if each != "mean"])
    def test_attackers_who_turn_round(self, robust: str) -> None:
        """A fifth sends the opposite of what it learned: the result still points ahead."""
        generator = np.random.default_rng(5)
        truth = generator.normal(size=5000)
        updates = []
        for number in range(10):
            sign = -1 if number < 2 else 1
            learned = sign * (truth + 0.3 * generator.normal(size=5000))
            values_ = Dense(learned.astype(np.float32))
            norm = float(np.linalg.norm(learned))
            updates.append(Update(f"a{number}", 5, opener(values_), norm))
        golden = Dense((truth + 0.5 * generator.normal(size=5000)).astype(np.float32))
        outcome = run(updates, robustness=Robustness(rule=robust), golden=golden)
        cosine = outcome.delta @ truth / np.linalg.norm(outcome.delta) / np.linalg.norm(truth)
        assert cosine > 0.9
        verdicts = outcome.report.verdicts
        assert {agent for agent, each in verdicts.items() if each.trust < 0.1} == {"a0", "a1"}
        assert "points away" in verdicts["a0"].statistic

    @pytest.mark.parametrize("robust", ["krum", "multi_krum", "median", "geometric_median"])
    def test_claims_of_examples_buy_no_votes(self, robust: str) -> None:
        """Whoever claims more, the result is the same."""
        updates = fleet(["dense"] * 7, 500, 2)
        liars = [replace(each, examples=10**6 if i < 2 else 1) for i, each in enumerate(updates)]
        robustness = Robustness(rule=robust)
        one, other = (run(each, robustness=robustness).delta for each in (updates, liars))
        assert one.tobytes() == other.tobytes()

    def test_median_by_hand(self) -> None:
        """Of 1, 2 and 9, and of 0, 5 and 7."""
        updates = [update("a", 1, 1, 7), update("b", 1, 2, 0), update("c", 1, 9, 5)]
        outcome = run(updates, robustness=Robustness(rule="median", clip=1e6))
        assert outcome.delta.tolist() == [2.0, 5.0]

    def test_trust_wants_a_golden_update(self) -> None:
        """Without one the message says what to do."""
        with pytest.raises(ModelError, match=r"golden update is missing .*golden windows"):
            run([update("a", 1, 1)], robustness=Robustness(rule="trust"))

    def test_trust_in_next_to_nothing(self) -> None:
        """An update of the right direction and no length cannot be drawn out, and has no part."""
        updates = [update("a", 1, 1, 1), update("b", 1, 1e-44, 1e-44)]
        golden = Dense(np.array([2, 2], np.float32))
        outcome = run(updates, robustness=Robustness(rule="trust"), golden=golden)
        assert outcome.delta.tolist() == pytest.approx([2, 2])
        assert outcome.report.verdicts["b"].trust == 0.0

    def test_golden_update_of_another_model(self) -> None:
        """Is refused."""
        robustness = Robustness(rule="trust")
        with pytest.raises(ModelError, match="1 and of 2 elements"):
            run([update("a", 1, 1)], robustness=robustness, golden=Dense(np.ones(2, np.float32)))

    def test_buckets_follow_the_seed(self) -> None:
        """Dealt at random, and the same in every run."""
        updates = fleet(["dense"] * 12, 300, 2)
        robustness = Robustness(rule="krum", bucket=3)

        def of(seed: int) -> bytes:
            state = State(300)
            return aggregate(state, updates, SETTINGS, robustness, seed=seed).delta.tobytes()

        assert of(1) == of(1)
        assert len({of(seed) for seed in range(5)}) > 1

    @pytest.mark.parametrize("robust", ["median", "geometric_median"])
    def test_buckets_of_columns_and_of_grams(self, robust: str) -> None:
        """With buckets of two, two opposite extremes vanish in the middle."""
        updates = [update(f"a{i}", 1, value) for i, value in enumerate((1, 1, 1, 1, 1, 1))]
        outcome = run(updates, robustness=Robustness(rule=robust, bucket=2))
        assert outcome.delta.tolist() == pytest.approx([1.0])


class TestCentre:
    CENTRED = Robustness(rule="centred_clipping")

    def test_the_aggregate_is_kept(self) -> None:
        """As it was before the optimiser, for the next round."""
        federation = Federation(server_learning_rate=0.5)
        updates = [update(agent, 1, 2, -4) for agent in "abc"]
        outcome = run(updates, federation, self.CENTRED)
        assert outcome.delta.tolist() == pytest.approx([1, -2])
        kept = np.frombuffer(outcome.state.centre, "<f4")
        assert kept.tolist() == pytest.approx([2, -4])

    def test_the_next_round_starts_there(self) -> None:
        """With a centre far away the result is another one than without."""
        updates = fleet(["dense"] * 5, 5000, 2)
        far = State(5000, centre=np.full(5000, 3, "<f4").tobytes())
        without = run(updates, robustness=self.CENTRED).delta
        assert not np.allclose(run(updates, robustness=self.CENTRED, state=far).delta, without)

    def test_other_rules_keep_nothing(self) -> None:
        """What the rule before left is dropped."""
        state = State(1, centre=bytes(4))
        assert run([update("a", 1, 1)], state=state).state.centre == b""

    def test_centre_of_another_model(self) -> None:
        """Is refused with the remedy."""
        state = State(1, centre=bytes(8))
        with pytest.raises(ModelError, match=r"8 bytes of the round before .*start the job anew"):
            run([update("a", 1, 1)], robustness=self.CENTRED, state=state)


class TestQuarantine:
    @every_robust_rule
    def test_counts_for_nothing(self, robust: str) -> None:
        """The result is that of the others alone, and the verdict still tells of it."""
        updates = fleet(["dense"] * 7, 5000, 2)
        robustness = Robustness(rule=robust, quarantine_rounds=2)
        outcome = run(updates, robustness=robustness, golden=GOLDEN, quarantined=("agent-0003",))
        others = [each for each in updates if each.agent != "agent-0003"]
        expected = run(others, robustness=robustness, golden=GOLDEN)
        assert np.allclose(outcome.delta, expected.delta, rtol=1e-4, atol=1e-6)
        assert outcome.report.bound == expected.report.bound
        assert "agent-0003" in outcome.report.verdicts
        assert (outcome.report.agents, expected.report.agents) == (7, 6)

    def test_the_mean_is_judged_where_somebody_watches(self) -> None:
        """Only with quarantine_rounds, for it takes a second pass."""
        updates = [update(f"a{i}", 1, 3, 4 - i / 10) for i in range(6)]
        updates.append(update("z", 1, -3, -4))
        alone = run(updates).report.verdicts["z"]
        watched = run(updates, robustness=Robustness(quarantine_rounds=2)).report.verdicts["z"]
        assert (alone.trust, alone.statistic) == (None, "")
        assert watched.trust == 0.0
        assert "points away from the others" in watched.statistic

    def test_a_large_round_is_opened_once(self) -> None:
        """Agreement, taken on the way, tells what is needed; small fleets always get the rest."""
        opened: list[str] = []

        def counting(each: Update) -> Update:
            return replace(each, open=lambda: (opened.append(each.agent), each.open())[1])

        updates = [counting(update(f"a{i:02}", 1, 3, 4 - i / 10)) for i in range(FEW)]
        updates.append(counting(update("z", 1, -3, -4)))
        found = run(updates, robustness=Robustness(quarantine_rounds=2)).report.verdicts["z"]
        opened.remove("a00")  # for the length of the model
        assert sorted(opened) == [each.agent for each in updates]
        assert (found.trust, found.agreement) == (None, pytest.approx(-1, abs=0.02))
        assert found.statistic.startswith("pulls against most others (cosine -")
        assert TURNS * (LEAST_AGENTS - 1) <= FEW

    def test_claims_buy_no_say_in_who_fits(self) -> None:
        """Of five, one that is most of the mean by its windows is still the stranger."""
        updates = [update(f"a{i}", 100, 3, 4 - i / 10) for i in range(4)]
        updates.append(update("z", 10**6, -30, -40))
        found = run(updates, robustness=Robustness(quarantine_rounds=2)).report.verdicts
        trusts = {agent: verdict.trust for agent, verdict in found.items()}
        assert trusts == dict.fromkeys(("a0", "a1", "a2", "a3"), 1.0) | {"z": 0.0}

    def test_a_good_update_hides_no_bad_one(self) -> None:
        """Of an agent that has two in a round the worse one is judged, in few and in many."""
        for others in (4, 14):
            updates = [update(f"a{i:02}", 100, 3, 4 - i / 10) for i in range(others)]
            late, fresh = update("z", 499, -3, -4), update("z", 1, 3, 4)
            updates += [replace(late, round=1, staleness=1), replace(fresh, round=2)]
            found = run(updates, robustness=Robustness(quarantine_rounds=2)).report.verdicts["z"]
            assert found.agreement == pytest.approx(-1, abs=0.1)
            assert found.trust == (0.0 if others == 4 else None)
            assert "most others" in found.statistic or "points away" in found.statistic

    def test_nobody_is_left(self) -> None:
        """Is refused."""
        with pytest.raises(ModelError, match="1 excluded agents"):
            run([update("a", 5, 1)], quarantined=("a",))


class TestState:
    @every_rule
    def test_survives_the_store(self, rule: str) -> None:
        """State to MessagePack and back continues with the same bits."""
        federation = Federation(rule=rule)
        outcome = run(fleet(["quantised"] * 3, 50, 1), federation)
        stored = msgspec.msgpack.decode(msgspec.msgpack.encode(outcome.state), type=State)
        assert stored == outcome.state
        assert (stored.steps, len(stored.norms)) == (1, 1)
        text = msgspec.json.encode(outcome.report)
        assert msgspec.json.decode(text, type=Report) == outcome.report
        following = fleet(["sparse"] * 2, 50, 2)
        expected = run(following, federation, state=outcome.state).delta
        assert run(following, federation, state=stored).delta.tobytes() == expected.tobytes()

    @every_rule
    def test_changes_none_of_its_inputs(self, rule: str) -> None:
        """Pure: the same round computed twice is the same, so a crash can repeat it."""
        state, updates = State(40_000), fleet(list(KINDS), 40_000, 1)
        before = values(updates)
        first, second = (run(updates, Federation(rule=rule), state=state) for _ in range(2))
        assert first.delta.tobytes() == second.delta.tobytes()
        assert (first.state, first.report) == (second.state, second.report)
        assert np.array_equal(before, values(updates))

    @pytest.mark.parametrize("rule", ["fedavgm", "fedadam", "fedyogi", "fedadagrad"])
    def test_rule_changed_under_way(self, rule: str) -> None:
        """A job whose rule changed is refused with the remedy."""
        state = run([update("a", 1, 1)]).state
        with pytest.raises(ModelError, match="start the job anew"):
            run([update("a", 1, 1)], Federation(rule=rule), state=state)

    @every_robust_rule
    @pytest.mark.parametrize("others", [[], [(0.0, 0.0)], [(-30.0, 7.0)], [(1.0, 1.0)]])
    def test_report_survives_the_store(
        self, robust: str, others: list[tuple[float, float]]
    ) -> None:
        """Where all updates are equal, or all but one, over two rounds: every number is finite."""
        updates = [update(f"a{i}", 1, 1, 1) for i in range(4)]
        updates += [update(f"z{i}", 1, *each) for i, each in enumerate(others)]
        golden = Dense(np.ones(2, np.float32))
        state = State(2)
        for _ in range(2):
            outcome = run(updates, robustness=Robustness(rule=robust), golden=golden, state=state)
            state = outcome.state
            text = msgspec.json.encode(outcome.report)
            assert msgspec.json.decode(text, type=Report) == outcome.report

    def test_rounds_of_momentum(self) -> None:
        """Momentum 0.5, updates 4, 4, 0: the model moves by 4, 6, 3."""
        state, moves = State(1), []
        for number in (4, 4, 0):
            federation = Federation(rule="fedavgm", server_momentum=0.5)
            outcome = run([update("a", 1, number)], federation, state=state)
            state = outcome.state
            moves += outcome.delta.tolist()
        assert moves == [4.0, 6.0, 3.0]


class TestSameBits:
    @every_robust_rule
    @pytest.mark.parametrize("workers", [2, 3])
    def test_workers_leave_no_trace(self, robust: str, workers: int) -> None:
        """By any rule, of any kinds."""
        updates = fleet(list(KINDS) * 2, 5000, 3)
        robustness = Robustness(rule=robust, quarantine_rounds=1)
        one, more = (
            run(updates, robustness=robustness, golden=GOLDEN, workers=each)
            for each in (1, workers)
        )
        assert one.delta.tobytes() == more.delta.tobytes()
        assert (one.state, one.report) == (more.state, more.report)

    @every_robust_rule
    @given(order=st.permutations(range(10)))
    def test_arrival_leaves_no_trace(self, robust: str, order: list[int]) -> None:
        """However updates arrive, once they are in order the result has the same bits."""
        updates = fleet(list(KINDS) * 2, 5000, 3)
        robustness = Robustness(rule=robust)
        expected = run(updates, robustness=robustness, golden=GOLDEN)
        arrived = in_order(updates[number] for number in order)
        found = run(arrived, robustness=robustness, golden=GOLDEN)
        assert found.delta.tobytes() == expected.delta.tobytes()
        assert found.report == expected.report

    def test_blas_threads_leave_no_trace(self) -> None:
        """Processes with one and with two BLAS threads come to the same bits, by every rule."""
        script = (
            "import hashlib\n"
            "from tests.coordinator.aggregation import test_engine as t\n"
            "updates = t.fleet(list(t.KINDS) * 6, 50_000, 3)\n"
            "golden = t.drawn('dense', 50_000, t.np.random.default_rng(1))\n"
            "for rule in t.ROBUST:\n"
            "    robustness = t.Robustness(rule=rule, quarantine_rounds=1)\n"
            "    outcome = t.run(updates, robustness=robustness, golden=golden)\n"
            "    found = outcome.delta.tobytes() + repr(outcome.report).encode()\n"
            "    print(rule, hashlib.sha256(found).hexdigest())\n"
        )
        told = [
            subprocess.run(
                [sys.executable, "-c", script],
                cwd=Path(__file__).parents[3],
                env=dict(os.environ, OPENBLAS_NUM_THREADS=threads),
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for threads in ("1", "2")
        ]
        assert told[0] == told[1]
        assert len(told[0].splitlines()) == len(ROBUST)


class TestMemory:
    def test_a_thousand_updates_in_the_memory_of_a_few(self) -> None:
        """A thousand int8 updates of 100 kB, which a list of them would hold as 100 MB."""
        elements = 100_000
        levels = np.ones(elements, np.int8)

        def fresh() -> Payload:
            return Quantised(levels.copy(), np.ones(25, np.float32))

        updates = [Update(f"{i:04}", 1, fresh, 1.0) for i in range(1000)]
        tracemalloc.start()
        try:
            run(updates)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        sixty_four, buffer, model = 64 * elements, 34 * 32_768 * 4, 4 * elements
        assert peak < sixty_four + buffer + 3 * model + 1_000_000


class TestRefusals:
    @pytest.mark.parametrize(
        ("updates", "message"),
        [
            ([], "0 updates with no training windows"),
            ([update("a", 0, 1), update("b", 0, 1)], "2 updates with no training windows"),
            ([update("a", 1, 1), update("a", 1, 1)], "'a' has two updates"),
            ([update("b", 1, 1), update("a", 1, 1)], "'a' after 'b'"),
            ([update("a", 1, 1, 2)], "delta of 'a' has 2 elements, the model 1"),
            ([update("a", -1, 1)], "'a' has -1 training windows"),
        ],
    )
    @every_robust_rule
    def test_each_has_its_message(self, robust: str, updates: list[Update], message: str) -> None:
        """What cannot be combined is refused by every rule, and the message names the agent."""
        golden = Dense(np.ones(1, np.float32))
        if "elements" in message and robust == "trust":
            message = "1 and of 2 elements"
        with pytest.raises(ModelError, match=message):
            run(updates, robustness=Robustness(rule=robust), state=State(1), golden=golden)

    @pytest.mark.parametrize("rule", ["fedavg", "fedsgd", "fednova", "scaffold", "fedavgm"])
    def test_overflow_of_the_result(self, rule: str) -> None:
        """A step beyond float32 never becomes a model."""
        federation = Federation(rule=rule, server_learning_rate=1e10)
        with pytest.raises(ModelError, match="server_learning_rate"):
            run([update("a", 1, 1e30)], federation)
