# SPDX-License-Identifier: Apache-2.0
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fedmill_shared.job import Learning
from fedmill_shared.learning.optimisers import learning_rate, make_optimiser

RATE = 0.05
Create = Callable[[list[torch.Tensor]], torch.optim.Optimizer]


def _torchs(learning: Learning) -> Create:
    """PyTorch's own optimiser with the same settings."""
    options: dict[str, Any] = {"lr": RATE, "weight_decay": learning.weight_decay}
    if learning.optimiser == "sgd":
        return lambda tensors: torch.optim.SGD(tensors, momentum=learning.momentum, **options)
    kind = torch.optim.Adam if learning.optimiser == "adam" else torch.optim.AdamW
    return lambda tensors: kind(tensors, **options)


class TestStep:
    @pytest.mark.parametrize("weight_decay", [0.0, 0.1])
    @pytest.mark.parametrize(
        ("optimiser", "momentum"), [("sgd", 0.0), ("sgd", 0.9), ("adam", 0.9), ("adamw", 0.9)]
    )
    def test_equals_torch_for_20_steps(
        self, optimiser: Any, momentum: float, weight_decay: float
    ) -> None:
        """The same vector, up to rounding, under gradients that depend on it."""
        learning = Learning(optimiser=optimiser, momentum=momentum, weight_decay=weight_decay)
        generator = torch.Generator().manual_seed(1)
        ours = torch.randn(50, generator=generator)
        theirs = ours.clone().requires_grad_()
        method, reference = make_optimiser(learning), _torchs(learning)([theirs])
        state = method.init(ours)
        for _ in range(20):
            noise = torch.randn(50, generator=generator)
            method.step(ours, ours.clone().sin_().add_(noise), state, RATE)
            theirs.grad = theirs.detach().sin().add_(noise)
            reference.step()
        assert state.steps == 20
        torch.testing.assert_close(ours, theirs.detach(), rtol=0, atol=1e-6)

    def test_literal_sgd(self) -> None:
        """Momentum 0.5, decay 0.1, rate 0.1, by hand."""
        method = make_optimiser(Learning(optimiser="sgd", momentum=0.5, weight_decay=0.1))
        vector = torch.tensor([1.0])
        state = method.init(vector)
        method.step(vector, torch.tensor([0.9]), state, 0.1)  # 0.9 + 0.1 * 1 = 1
        assert vector.item() == pytest.approx(0.9)
        method.step(vector, torch.tensor([0.41]), state, 0.1)  # 0.5 * 1 + 0.41 + 0.09 = 1
        assert vector.item() == pytest.approx(0.8)

    @pytest.mark.parametrize("optimiser", ["adam", "adamw"])
    def test_first_adam_step_is_the_rate(self, optimiser: Any) -> None:
        """Whatever the gradient's size is (Kingma & Ba 2015, section 2.1)."""
        method = make_optimiser(Learning(optimiser=optimiser))
        vector = torch.zeros(3)
        method.step(vector, torch.tensor([1e-3, -1.0, 1e3]), method.init(vector), 0.01)
        torch.testing.assert_close(vector, torch.tensor([-0.01, 0.01, -0.01]), rtol=1e-4, atol=0)

    def test_every_round_starts_afresh(self) -> None:
        """No state is shared between two rounds of one optimiser."""
        method = make_optimiser(Learning(optimiser="sgd", momentum=0.9))
        results = []
        for _ in range(2):
            vector = torch.ones(2)
            state = method.init(vector)
            method.step(vector, torch.ones(2), state, 0.1)
            results.append(vector)
        assert torch.equal(*results)

    def test_torchs_compiler_stays_out(self) -> None:
        """The reason for this module: a step must not import what costs a second and 80 MiB."""
        code = (
            "import sys, torch\n"
            "from fedmill_shared.job import Learning\n"
            "from fedmill_shared.learning.optimisers import make_optimiser\n"
            "method, vector = make_optimiser(Learning()), torch.ones(2)\n"
            "method.step(vector, torch.ones(2), method.init(vector), 0.1)\n"
            "sys.exit('torch._dynamo' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestLearningRate:
    @pytest.mark.parametrize(
        ("schedule", "final_factor", "expected"),
        [
            ("constant", 0.1, [0.2, 0.2, 0.2, 0.2, 0.2]),
            ("linear", 0.1, [0.2, 0.155, 0.11, 0.065, 0.02]),
            ("linear", 0.0, [0.2, 0.15, 0.1, 0.05, 0.0]),
            ("cosine", 0.0, [0.2, 0.17071068, 0.1, 0.02928932, 0.0]),
            ("cosine", 0.5, [0.2, 0.18535534, 0.15, 0.11464466, 0.1]),
            ("cosine", 1.0, [0.2, 0.2, 0.2, 0.2, 0.2]),
        ],
    )
    def test_five_rounds(self, schedule: Any, final_factor: float, expected: list[float]) -> None:
        """From the full rate in the first round to the final factor in the last."""
        learning = Learning(learning_rate=0.2, schedule=schedule, final_factor=final_factor)
        rates = [learning_rate(learning, round_, 5) for round_ in range(1, 6)]
        assert rates == pytest.approx(expected, abs=1e-8)

    @pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
    def test_edges(self, schedule: Any) -> None:
        """A job of one round uses the full rate; rounds beyond the last keep the last one's."""
        learning = Learning(learning_rate=0.2, schedule=schedule)
        assert learning_rate(learning, 1, 1) == 0.2
        assert math.isclose(learning_rate(learning, 9, 5), learning_rate(learning, 5, 5))
