# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedmill_coordinator.aggregation import RULES, State, Update
from fedmill_shared.errors import ModelError
from fedmill_shared.job import Federation

FEDAVG, FEDSGD, FEDAVGM = (RULES[name] for name in ("fedavg", "fedsgd", "fedavgm"))


def _update(agent: str, examples: int, *delta: float) -> Update:
    return Update(agent, examples, np.array(delta, np.float32))


class TestFedavg:
    def test_remembers_nothing(self) -> None:
        """The state is the same in every round."""
        state = FEDAVG.init(1)
        for _ in range(3):
            delta, state, _ = FEDAVG.step(state, [_update("a", 5, 2)], Federation())
            assert (delta.tolist(), state) == ([2.0], State(1))


class TestFedsgd:
    def test_equals_gradient_descent_on_all_data_in_one_place(self) -> None:
        """Least squares split over three agents of unequal size follows the central path."""
        generator = np.random.default_rng(0)
        inputs, targets = generator.normal(size=(30, 4)), generator.normal(size=30)
        parts = np.split(np.arange(30), [5, 12])
        settings = Federation(rule="fedsgd", server_learning_rate=0.1)
        federated, central = np.zeros(4), np.zeros(4)

        def gradient(weights: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
            errors = inputs[rows] @ weights - targets[rows]
            return np.asarray(inputs[rows].T @ errors / rows.size)

        state = FEDSGD.init(4)
        for _ in range(20):
            updates = [
                Update(f"agent-{i}", rows.size, (-gradient(federated, rows)).astype(np.float32))
                for i, rows in enumerate(parts)
            ]
            delta, state, _ = FEDSGD.step(state, updates, settings)
            federated = federated + delta
            central = central - 0.1 * gradient(central, np.arange(30))
        assert np.allclose(federated, central, atol=1e-6)


class TestFedavgm:
    def test_literal_rounds(self) -> None:
        """Momentum 0.5, deltas 4, 4, 0: the model moves by 4, 6, 3."""
        settings = Federation(rule="fedavgm", server_momentum=0.5)
        state, moves = FEDAVGM.init(1), []
        for number in (4, 4, 0):
            delta, state, _ = FEDAVGM.step(state, [_update("a", 1, number)], settings)
            moves += delta.tolist()
        assert moves == [4.0, 6.0, 3.0]

    @given(momentum=st.floats(0, 0.99), rate=st.floats(0.01, 2), rounds=st.integers(1, 30))
    def test_steady_delta_follows_the_closed_form(
        self, momentum: float, rate: float, rounds: int
    ) -> None:
        """After t equal rounds the move is rate * d * (1 - m^t) / (1 - m)."""
        settings = Federation(server_momentum=momentum, server_learning_rate=rate)
        state = FEDAVGM.init(2)
        for _ in range(rounds):
            delta, state, report = FEDAVGM.step(state, [_update("a", 3, 3, -4)], settings)
        factor = rate * (1 - momentum**rounds) / (1 - momentum)
        assert np.allclose(delta, [3 * factor, -4 * factor], rtol=1e-5)
        assert report.norm == pytest.approx(5 * factor, rel=1e-5)

    def test_learning_rate_stays_out_of_the_momentum(self) -> None:
        """A rate changed between rounds acts on the whole next step, and on nothing after it."""
        state = FEDAVGM.init(1)
        for rate, move in ((1.0, 4.0), (0.5, 3.0), (1.0, 7.0)):
            settings = Federation(server_momentum=0.5, server_learning_rate=rate)
            delta, state, _ = FEDAVGM.step(state, [_update("a", 1, 4)], settings)
            assert delta.tolist() == [move]

    def test_without_momentum_it_is_fedavg(self) -> None:
        """Momentum 0 gives FederatedAveraging, bit for bit, in every round."""
        settings = Federation(server_momentum=0.0)
        state = FEDAVGM.init(3)
        for seed in range(3):
            drawn = np.random.default_rng(seed).normal(size=(2, 3)).astype(np.float32)
            updates = [Update("a", 2, drawn[0]), Update("b", 5, drawn[1])]
            delta, state, _ = FEDAVGM.step(state, updates, settings)
            expected = FEDAVG.step(FEDAVG.init(3), updates, settings)[0]
            assert delta.tobytes() == expected.tobytes()

    def test_state_of_another_rule_or_model(self) -> None:
        """A job whose rule changed under way is refused with the remedy."""
        with pytest.raises(ModelError, match="start the job anew"):
            FEDAVGM.step(FEDAVG.init(2), [_update("a", 1, 1, 1)], Federation())
