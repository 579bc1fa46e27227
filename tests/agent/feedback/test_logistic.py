# SPDX-License-Identifier: Apache-2.0
from itertools import pairwise

import numpy as np
import pytest
import torch

from fedmill_agent.feedback import logistic
from fedmill_agent.probabilities import probabilities


def examples(seed: int = 0) -> dict[str, np.ndarray]:
    """Rows of three classes, some of them with soft targets."""
    random = np.random.default_rng(seed)
    classes = random.integers(0, 3, 40)
    rows = np.hstack([random.normal(size=(40, 4)) + classes[:, None], np.ones((40, 1))])
    targets = 0.8 * np.eye(3)[classes] + 0.2 / 3
    return {"rows": rows, "targets": targets, "weights": random.uniform(0.0, 2.0, 40)}


def cost_of(
    layer: np.ndarray,
    precision: float,
    *,
    rows: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
) -> float:
    """Weighted cross entropy (nats) and half the pull towards the anchor."""
    told = np.log(np.maximum(probabilities(rows @ layer), 1e-300))
    missed = -float((weights[:, None] * targets * told).sum())
    return missed + 0.5 * precision * float(np.square(layer - ANCHOR).sum())


ANCHOR = np.random.default_rng(9).normal(size=(5, 3))


class TestFit:
    def test_finds_the_least_cost(self) -> None:
        """Against torch's L-BFGS on the same cost."""
        given = examples()
        found = logistic.fit(**given, anchor=ANCHOR, precision=0.5, steps=5000)
        layer = torch.tensor(ANCHOR, requires_grad=True)
        tensors = {name: torch.from_numpy(value) for name, value in given.items()}
        anchor = torch.from_numpy(ANCHOR)

        def cost() -> torch.Tensor:
            told = torch.log_softmax(tensors["rows"] @ layer, 1)
            missed = -(tensors["weights"][:, None] * tensors["targets"] * told).sum()
            return missed + 0.25 * (layer - anchor).square().sum()

        optimiser = torch.optim.LBFGS(
            [layer], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe"
        )

        def closure() -> torch.Tensor:
            optimiser.zero_grad()
            value = cost()
            value.backward()
            return value

        optimiser.step(closure)
        assert cost_of(found, 0.5, **given) == pytest.approx(cost().item(), rel=1e-6)
        np.testing.assert_allclose(found, layer.detach().numpy(), atol=1e-2)

    @pytest.mark.parametrize("size", [1.0, 30.0])
    def test_no_step_makes_it_worse(self, size: float) -> None:
        """The bound on the curvature holds for rows of any length."""
        given = examples(1)
        given["rows"] = given["rows"] * size
        costs = [
            cost_of(logistic.fit(**given, anchor=ANCHOR, precision=0.1, steps=steps), 0.1, **given)
            for steps in range(12)
        ]
        assert all(after <= before + 1e-9 for before, after in pairwise(costs))
        assert costs[-1] < costs[0]

    def test_no_weight_no_change(self) -> None:
        """Examples that count for nothing leave the anchor."""
        given = examples() | {"weights": np.zeros(40)}
        np.testing.assert_array_equal(logistic.fit(**given, anchor=ANCHOR, precision=1.0), ANCHOR)

    def test_few_labels_move_it_little(self) -> None:
        """One example moves it less than all, and a strong pull less than a weak one."""
        given = examples()
        one = {name: value[:1] for name, value in given.items()}
        one["weights"] = np.ones(1)

        def moved(examples: dict[str, np.ndarray], precision: float) -> float:
            found = logistic.fit(**examples, anchor=ANCHOR, precision=precision)
            return float(np.linalg.norm(found - ANCHOR))

        assert moved(one, 5.0) < moved(given, 5.0)
        assert moved(given, 500.0) < moved(given, 5.0)
