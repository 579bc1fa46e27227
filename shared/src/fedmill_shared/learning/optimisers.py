# SPDX-License-Identifier: Apache-2.0
"""Optimisers as pairs of functions over one flat vector.

``torch.optim`` costs one second and 80 MiB at the first step of a process (it imports the
compiler); over a flat vector the same update is a few fused operations.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from fedmill_shared.job import Learning


@dataclass(slots=True)
class OptimiserState:
    """Moments of the gradient, flat (parameters,), and the number of steps taken."""

    first: torch.Tensor
    second: torch.Tensor
    steps: int = 0


Step = Callable[[torch.Tensor, torch.Tensor, OptimiserState, float], None]


@dataclass(frozen=True, slots=True)
class Optimiser:
    """``init(vector) -> state`` and ``step(vector, gradient, state, learning_rate)`` in place."""

    init: Callable[[torch.Tensor], OptimiserState]
    step: Step


def make_optimiser(learning: Learning) -> Optimiser:
    """The optimiser that the job names."""
    decay = learning.weight_decay
    if learning.optimiser == "sgd":
        return Optimiser(_init, _sgd(learning.momentum, decay))
    if learning.optimiser == "adam":
        return Optimiser(_init, _adam(decay, decoupled=False))
    return Optimiser(_init, _adam(decay, decoupled=True))


def learning_rate(learning: Learning, round_: int, rounds: int) -> float:
    """Learning rate of ``round_`` (from 1) of ``rounds`` under the job's schedule."""
    if learning.schedule == "constant" or rounds <= 1:
        return learning.learning_rate
    done = min(1.0, (round_ - 1) / (rounds - 1))
    if learning.schedule == "cosine":
        done = 0.5 * (1.0 - math.cos(math.pi * done))
    return learning.learning_rate * (1.0 - (1.0 - learning.final_factor) * done)


def _init(vector: torch.Tensor) -> OptimiserState:
    return OptimiserState(torch.zeros_like(vector), torch.zeros_like(vector))


def _sgd(momentum: float, decay: float) -> Step:
    """Stochastic gradient descent with Polyak momentum, in the form of Sutskever et al. 2013."""

    def step(
        vector: torch.Tensor, gradient: torch.Tensor, state: OptimiserState, rate: float
    ) -> None:
        if decay:
            gradient.add_(vector, alpha=decay)
        if momentum:
            state.first.mul_(momentum).add_(gradient)
            gradient = state.first
        vector.add_(gradient, alpha=-rate)
        state.steps += 1

    return step


def _adam(decay: float, *, decoupled: bool) -> Step:
    """Adam (Kingma & Ba 2015); with ``decoupled`` AdamW (Loshchilov & Hutter 2019)."""
    beta1, beta2, epsilon = 0.9, 0.999, 1e-8

    def step(
        vector: torch.Tensor, gradient: torch.Tensor, state: OptimiserState, rate: float
    ) -> None:
        state.steps += 1
        if decay and decoupled:
            vector.mul_(1.0 - rate * decay)
        elif decay:
            gradient.add_(vector, alpha=decay)
        state.first.lerp_(gradient, 1.0 - beta1)
        state.second.mul_(beta2).addcmul_(gradient, gradient, value=1.0 - beta2)
        correction1 = 1.0 - beta1**state.steps
        correction2 = 1.0 - beta2**state.steps
        denominator = state.second.sqrt().div_(correction2**0.5).add_(epsilon)
        vector.addcdiv_(state.first, denominator, value=-rate / correction1)

    return step
