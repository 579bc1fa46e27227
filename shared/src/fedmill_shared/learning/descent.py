# SPDX-License-Identifier: Apache-2.0
"""Steps of the job's optimiser on one agent's windows, which every local method is made of."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fedmill_shared.errors import ModelError
from fedmill_shared.job import Job
from fedmill_shared.learning.batches import batches
from fedmill_shared.learning.examples import Examples, label_counts
from fedmill_shared.learning.home import Vector
from fedmill_shared.learning.losses import Loss, make_loss
from fedmill_shared.learning.optimisers import learning_rate, make_optimiser
from fedmill_shared.models.flat import FlatModel

EVALUATION_BATCH = 256

Amendment = Callable[[torch.Tensor, torch.Tensor], None]
"""``(weights, gradient)``, float32 (trainable,): changes the gradient in place before a step."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one agent does in one round: what is trained, on what, how fast, in which order."""

    model: FlatModel
    job: Job
    examples: Examples
    loss: Loss
    rate: float
    seed: int


def prepare(model: FlatModel, job: Job, examples: Examples, *, round_: int, seed: int) -> Work:
    """The work of ``round_`` (from 1), with the model in training mode."""
    model.module.train()
    scale = float(getattr(model.module, "target_scale", 1.0))
    loss = make_loss(job, counts=label_counts(job, examples), scale=scale)
    rate = learning_rate(job.learning, round_, job.federation.rounds)
    return Work(model, job, examples, loss, rate, seed)


def descend(
    work: Work,
    amendments: Sequence[Amendment] = (),
    *,
    places: Sequence[slice] = (),
    epochs: int = 0,
) -> tuple[float, int]:
    """Move the model's weights, and tell the mean loss over the steps and their number.

    Args:
        work: the passes or steps are its job's.
        amendments: applied to each gradient in this order.
        places: the only elements of ``learned`` that are moved; empty for all parameters.
        epochs: passes, in place of the job's passes or steps.
    """
    model, examples, learning = work.model, work.examples, work.job.learning
    optimiser = make_optimiser(learning)
    weights, gradient = model.learned[: model.trainable], model.gradient[: model.trainable]
    parts = [(weights[place], gradient[place]) for place in places or (slice(None),)]
    states = [optimiser.init(part) for part, _ in parts]
    total = torch.zeros(())
    steps = 0
    for batch in batches(learning, examples.targets, work.seed, epochs=epochs):
        model.gradient.zero_()
        value = work.loss(model.module(examples.inputs[batch]), examples.targets[batch])
        torch.autograd.backward(value)
        with torch.no_grad():
            for amend in amendments:
                amend(weights, gradient)
            for (part, slope), state in zip(parts, states, strict=True):
                optimiser.step(part, slope, state, work.rate)
        total += value.detach()
        steps += 1
    return float(total) / max(1, steps), steps


def full_gradient(work: Work) -> float:
    """Leave the gradient over all examples in the model's ``gradient``, and tell the mean loss."""
    model, examples = work.model, work.examples
    model.gradient.zero_()
    total = 0.0
    for inputs, targets in zip(
        torch.split(examples.inputs, EVALUATION_BATCH),
        torch.split(examples.targets, EVALUATION_BATCH),
        strict=True,
    ):
        value = work.loss(model.module(inputs), targets) * (len(inputs) / len(examples))
        torch.autograd.backward(value)
        total += float(value.detach())
    return total


def check_finite(job: Job, round_: int, loss: float, *vectors: Vector | None) -> None:
    """Raise ModelError unless ``loss`` and what a round has made of every vector is finite."""
    finite = all(np.isfinite(vector).all() for vector in vectors if vector is not None)
    if not (math.isfinite(loss) and finite):
        learning = job.learning
        pulls = [
            name for name, on in (("proximal", learning.proximal), ("ditto", learning.ditto)) if on
        ]
        raise ModelError(
            f"job {job.name}: round {round_} diverged, the loss or a weight is no longer finite",
            remedy=" or ".join(f"lower learning.{name}" for name in ("learning_rate", *pulls)),
        )
