# SPDX-License-Identifier: Apache-2.0
import math
import tracemalloc
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_coordinator.aggregation import RULES, Report, Rule, State, Update
from fedmill_coordinator.aggregation.base import staleness_weight
from fedmill_shared.errors import ModelError
from fedmill_shared.job import Federation

SETTINGS = Federation()
DOUBLE: Any = np.zeros(1)
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.name)


def _update(agent: str, examples: int, *delta: float) -> Update:
    return Update(agent, examples, np.array(delta, np.float32))


def _random(seed: int, agents: int, elements: int) -> list[Update]:
    generator = np.random.default_rng(seed)
    return [
        Update(
            f"agent-{index:03}",
            int(generator.integers(1, 1000)),
            generator.normal(size=elements).astype(np.float32),
        )
        for index in range(agents)
    ]


class TestRules:
    def test_the_job_file_offers_exactly_these(self) -> None:
        """Every rule that a job may name exists, under its own name."""
        assert set(get_args(get_type_hints(Federation)["rule"])) == set(RULES)
        assert all(rule.name == name for name, rule in RULES.items())

    @every_rule
    def test_first_round_is_the_weighted_mean(self, rule: Rule) -> None:
        """(1 * [1, 0] + 3 * [5, -4]) / 4, by hand, with its report."""
        updates = [_update("a", 1, 1, 0), _update("b", 3, 5, -4)]
        delta, _, report = rule.step(rule.init(2), updates, SETTINGS)
        assert delta.dtype == np.float32
        assert delta.tolist() == [4.0, -3.0]
        norms = {"a": 1.0, "b": math.sqrt(41)}
        assert report == Report(agents=2, examples=4, norms=norms, norm=5.0)

    @every_rule
    def test_server_learning_rate_scales_the_result(self, rule: Rule) -> None:
        """Half the rate, half the step."""
        settings = Federation(server_learning_rate=0.5)
        delta, _, report = rule.step(rule.init(2), [_update("a", 7, 6, 8)], settings)
        assert delta.tolist() == [3.0, 4.0]
        assert (report.norm, report.norms) == (5.0, {"a": 10.0})

    @every_rule
    def test_step_changes_none_of_its_inputs(self, rule: Rule) -> None:
        """Pure: the same round computed twice is the same, so a crash can repeat it."""
        state, updates = rule.init(40_000), _random(1, 3, 40_000)
        copies = [update.delta.copy() for update in updates]
        first, second = (rule.step(state, updates, SETTINGS) for _ in range(2))
        assert first[0].tobytes() == second[0].tobytes()
        assert first[1:] == second[1:]
        assert all(map(np.array_equal, copies, (update.delta for update in updates)))

    @every_rule
    def test_state_survives_the_store(self, rule: Rule) -> None:
        """State to MessagePack and back continues with the same bits."""
        _, state, report = rule.step(rule.init(5), _random(1, 3, 5), SETTINGS)
        stored = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=State)
        assert stored == state
        assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report
        following = _random(2, 2, 5)
        expected = rule.step(state, following, SETTINGS)[0]
        assert rule.step(stored, following, SETTINGS)[0].tobytes() == expected.tobytes()

    @every_rule
    def test_empty_model(self, rule: Rule) -> None:
        """A model without shared elements aggregates to nothing."""
        delta, _, report = rule.step(rule.init(0), [_update("a", 1)], SETTINGS)
        assert (delta.shape, report.norm) == ((0,), 0.0)


class TestWeightedMean:
    @given(seed=st.integers(0, 2**32), agents=st.integers(1, 8), elements=st.integers(1, 50))
    def test_equals_the_definition(self, seed: int, agents: int, elements: int) -> None:
        """The streamed mean is numpy's weighted average of all updates held at once."""
        updates = _random(seed, agents, elements)
        rule = RULES["fedavg"]
        delta, _, report = rule.step(rule.init(elements), iter(updates), SETTINGS)
        expected = np.average(
            np.array([update.delta for update in updates], np.float64),
            axis=0,
            weights=[update.examples for update in updates],
        )
        assert np.allclose(delta, expected, rtol=1e-6, atol=1e-9)
        assert report.norm == pytest.approx(np.linalg.norm(expected))
        assert report.norms == pytest.approx(
            {update.agent: np.linalg.norm(update.delta) for update in updates}
        )

    @given(st.permutations(range(6)))
    def test_arrival_order_leaves_no_trace(self, order: list[int]) -> None:
        """However updates arrive, once sorted by agent the sum has the same bits."""
        updates = _random(9, 6, 100)
        rule = RULES["fedavg"]
        expected = rule.step(rule.init(100), updates, SETTINGS)[0]
        arrived = sorted((updates[i] for i in order), key=lambda update: update.agent)
        assert rule.step(rule.init(100), arrived, SETTINGS)[0].tobytes() == expected.tobytes()

    def test_equal_updates_give_exactly_that_update(self) -> None:
        """A fleet that agrees moves by what it agrees on, whatever the weights."""
        delta = np.random.default_rng(3).normal(size=33_000).astype(np.float32)
        updates = [Update(f"agent-{i}", 3 + i, delta) for i in range(7)]
        rule = RULES["fedavg"]
        result = rule.step(rule.init(33_000), updates, SETTINGS)[0]
        assert result.tobytes() == delta.tobytes()

    def test_agent_without_examples_has_no_weight(self) -> None:
        """Its delta counts for nothing, and the report lists it."""
        rule = RULES["fedavg"]
        updates = [_update("a", 2, 1.5), _update("b", 0, 99)]
        delta, _, report = rule.step(rule.init(1), updates, SETTINGS)
        assert (delta.tolist(), report.agents, report.examples) == ([1.5], 2, 2)

    def test_memory_is_one_model_and_one_update(self) -> None:
        """Twenty updates of 800 kB take less than three of them at the peak."""
        elements = 200_000

        def stream() -> Iterator[Update]:
            for index in range(20):
                yield Update(f"{index:02}", 1, np.full(elements, index, np.float32))

        rule = RULES["fedavg"]
        state = rule.init(elements)
        tracemalloc.start()
        try:
            rule.step(state, stream(), SETTINGS)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # float64 accumulator (two updates' bytes), the update, the next one, and the result
        assert peak < 5 * 4 * elements


def _buffer(seed: int, count: int, elements: int, most: int) -> list[Update]:
    """Updates of few agents for many rounds, sorted as a close sorts them."""
    generator = np.random.default_rng(seed)
    made = {}
    for _ in range(count):
        agent, staleness = f"agent-{generator.integers(4)}", int(generator.integers(most + 1))
        delta = generator.normal(size=elements).astype(np.float32)
        examples = int(generator.integers(1, 1000))
        made[agent, -staleness] = Update(agent, examples, delta, 50 - staleness, staleness)
    return [made[key] for key in sorted(made)]


class TestStaleness:
    """FedBuff: what comes late weighs less."""

    def test_literal_weights(self) -> None:
        """(1 + s) ** -1/2: 1, 1/sqrt(2), 1/2 after three rounds, 1/10 after ninety-nine."""
        weights = [staleness_weight(late, 0.5) for late in (0, 1, 3, 99)]
        assert weights == pytest.approx([1, 1 / math.sqrt(2), 1 / 2, 1 / 10], rel=1e-15)

    @given(st.integers(0, 10**6), st.floats(0, 16))
    def test_weight_is_a_share(self, staleness: int, exponent: float) -> None:
        """Above 0, at most 1, and never more for what is later."""
        weight = staleness_weight(staleness, exponent)
        assert 0 < weight <= 1
        assert staleness_weight(staleness + 1, exponent) <= weight
        assert staleness_weight(0, exponent) == staleness_weight(staleness, 0.0) == 1.0

    def test_by_hand(self) -> None:
        """Three rounds late counts half: (4 * 3 + 1/2 * 4 * 12) / (4 + 4) = 4.5."""
        updates = [_update("a", 4, 3), Update("b", 4, np.array([12], np.float32), 1, 3)]
        rule = RULES["fedavg"]
        delta, _, report = rule.step(rule.init(1), updates, SETTINGS)
        assert delta.tolist() == [4.5]
        assert (report.agents, report.examples, report.stale) == (2, 8, 1)

    @given(
        seed=st.integers(0, 2**32),
        count=st.integers(1, 12),
        elements=st.integers(1, 20),
        most=st.integers(0, 9),
        exponent=st.floats(0, 4),
    )
    def test_equals_the_definition(
        self, seed: int, count: int, elements: int, most: int, exponent: float
    ) -> None:
        """The average by examples of all deltas held at once, each shortened by its lateness."""
        updates = _buffer(seed, count, elements, most)
        settings = Federation(staleness_exponent=exponent)
        rule = RULES["fedavg"]
        delta, _, report = rule.step(rule.init(elements), iter(updates), settings)
        weights = [update.examples for update in updates]
        shares = np.array([(1 + update.staleness) ** -exponent for update in updates])
        deltas = np.array([update.delta for update in updates], np.float64) * shares[:, None]
        expected = np.average(deltas, axis=0, weights=weights)
        assert np.allclose(delta, expected, rtol=1e-6, atol=1e-7)
        assert report.stale == sum(update.staleness > 0 for update in updates)
        assert report.agents == len(updates)

    @every_rule
    def test_a_buffer_of_one_age_makes_a_short_step(self, rule: Rule) -> None:
        """If everybody is three rounds late, the model moves half as far, in the same direction."""
        fresh = _random(5, 4, 30)
        late = [Update(u.agent, u.examples, u.delta, 1, 3) for u in fresh]
        whole, half = (rule.step(rule.init(30), each, SETTINGS)[0] for each in (fresh, late))
        assert np.allclose(half, whole / 2, rtol=1e-6)

    @given(st.permutations(range(9)))
    def test_arrival_order_leaves_no_trace(self, order: list[int]) -> None:
        """However a buffer of fresh and late updates filled, sorted it has the same bits."""
        updates = _buffer(3, 30, 50, 5)[:9]
        rule = RULES["fedavg"]
        expected = rule.step(rule.init(50), updates, SETTINGS)[0]
        arrived = sorted((updates[i] for i in order), key=lambda u: (u.agent, u.round))
        assert rule.step(rule.init(50), arrived, SETTINGS)[0].tobytes() == expected.tobytes()

    def test_two_of_one_agent(self) -> None:
        """Both count; the report keeps the norm of the newer one."""
        older = Update("a", 1, np.array([3], np.float32), 4, 1)
        newer = Update("a", 1, np.array([5], np.float32), 5, 0)
        rule = RULES["fedavg"]
        _, _, report = rule.step(rule.init(1), [older, newer], SETTINGS)
        assert (report.agents, report.norms) == (2, {"a": 5.0})
        with pytest.raises(ModelError, match="'a' after 'a'"):
            rule.step(rule.init(1), [newer, older], SETTINGS)
        with pytest.raises(ModelError, match="two updates in one round"):
            rule.step(rule.init(1), [older, older], SETTINGS)


class TestRefusals:
    @pytest.mark.parametrize(
        ("updates", "message"),
        [
            ([], "0 updates with no training windows"),
            ([_update("a", 0, 1), _update("b", 0, 1)], "2 updates with no training windows"),
            ([_update("a", 1, 1), _update("a", 1, 1)], "'a' has two updates"),
            ([_update("b", 1, 1), _update("a", 1, 1)], "'a' after 'b'"),
            ([_update("a", 1, 1, 2)], r"delta of 'a' is float32 \(2,\)"),
            ([Update("a", 1, DOUBLE)], "delta of 'a' is float64"),
            ([_update("a", -1, 1)], "'a' has -1 training windows"),
            ([_update("a", 1, 1), _update("b", 1, np.nan)], "agent 'b' holds NaN"),
            ([_update("a", 1, np.inf), _update("b", 1, -np.inf)], "agent 'a' holds NaN"),
            ([_update("a", 0, np.inf), _update("b", 1, 1)], "agent 'a' holds NaN"),
        ],
    )
    @every_rule
    def test_each_has_its_message(self, rule: Rule, updates: list[Update], message: str) -> None:
        """What cannot be summed is refused, and the message names the agent."""
        with pytest.raises(ModelError, match=message):
            rule.step(rule.init(1), updates, SETTINGS)

    @every_rule
    def test_overflow_of_the_result(self, rule: Rule) -> None:
        """A step beyond float32 never becomes a model."""
        settings = Federation(server_learning_rate=1e10)
        with pytest.raises(ModelError, match="server_learning_rate"):
            rule.step(rule.init(1), [_update("a", 1, 1e30)], settings)

    def test_late_non_finite_block(self) -> None:
        """A NaN in the last element of a large delta is found too."""
        delta = np.zeros(100_001, np.float32)
        delta[-1] = np.nan
        rule = RULES["fedsgd"]
        with pytest.raises(ModelError, match="'a' holds NaN"):
            rule.step(rule.init(delta.size), [Update("a", 1, delta)], SETTINGS)
